"""The paper preset to its last stage: its form and settings, on stand-ins of everything that is large or paid for."""

from __future__ import annotations

import json
import random
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

import neuronscope as ns
from causal_models import LLAMA_SPECIAL, byte_level_tokenizer, random_llama
from fake_batches import fake_batches
from fake_openai import Reply
from neuronscope.cli.main import app
from neuronscope.experiments.paper import MODELS
from neuronscope.experiments.spec import preset
from neuronscope.llm import batches

WORDS = "the red cat sat on a long road and it was quiet near a blue house".split()
ABOUT = (
    "words for colours",
    "colours such as red",
    "colours",
    "cats",
    "animals such as cats",
    "cats and other animals",
)


def answer(request: dict[str, Any], number: int) -> Reply:
    """What OpenAI would say to each agent, and its embeddings: words in common are nearness."""
    if "input" in request:
        vectors = [embedding(str(text)) for text in request["input"]]
        data = [{"object": "embedding", "index": n, "embedding": vector} for n, vector in enumerate(vectors)]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        return Reply(body=json.dumps({"object": "list", "data": data, "model": request["model"], "usage": usage}))
    prompt = "\n".join(str(message["content"]) for message in request["messages"])
    if "JSON array" in prompt:
        return Reply(json.dumps([f"This neuron activates when it sees {about}." for about in ABOUT]))
    if "Historical interpretations" in prompt:
        return Reply(f"This neuron activates on red things, in wording {number} of #.")
    return Reply("The neuron activates on colours such as red. It also activates on animals such as cats.")


def embedding(text: str) -> list[float]:
    vector = [0.01] * 64
    for word in text.lower().strip(".").split():
        vector[int(sha256(word.encode()).hexdigest(), 16) % 64] += (
            3.0 * (word[:3] in ("col", "cat", "red", "ani")) + 0.1
        )
    return vector


def write_stand_ins(folder: Path, tokenizer: Any) -> dict[str, Any]:
    """Random models of the three families with as many layers as the paper's, a random simulator, and two datasets."""
    import torch
    import transformers

    small = {"vocab_size": 259, "hidden_size": 8, "intermediate_size": 12, "num_attention_heads": 2}
    small |= {"num_key_value_heads": 1, "head_dim": 4, "max_position_embeddings": 80, "initializer_range": 0.5}
    families = (transformers.LlamaConfig, transformers.Gemma2Config, transformers.Qwen3Config)
    for (label, model), family in zip(MODELS.items(), families, strict=True):
        torch.manual_seed(0)
        config = family(num_hidden_layers=model.n_layers, pad_token_id=2, **small)
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder / label)
        tokenizer.save_pretrained(folder / label)
    readers = byte_level_tokenizer(LLAMA_SPECIAL)
    random_llama(len(readers) + 5).save_pretrained(folder / "simulator")
    readers.save_pretrained(folder / "simulator")
    drawn = random.Random(0)
    texts = [" ".join(drawn.choices(WORDS, k=40)) for _ in range(300)]
    web = [json.dumps({"text": text}) for text in texts[:150]]
    turns = ([{"role": "user", "content": text[:80]}, {"role": "assistant", "content": text}] for text in texts[150:])
    for name, lines in (("fineweb", web), ("lmsys", [json.dumps({"conversation": each}) for each in turns])):
        (folder / name).mkdir()
        (folder / name / "train.jsonl").write_text("\n".join(lines))
    return {
        "preset": "paper",
        "subjects": [
            {"subject": str(folder / each.label), "layers": each.layers, "name": each.label, "stands_for": each.label}
            for each in preset("paper").subjects
        ],
        "n": 1,
        "compared": 1,
        "setup": {
            "corpus": f"mix:0.5*hf:{folder / 'fineweb'},0.5*hf:{folder / 'lmsys'}",
            "simulator": f"transluce:{folder / 'simulator'}",
            "config": {"n_tokens": 4000},
        },
    }


@pytest.mark.slow
@pytest.mark.usefixtures("own_cache")
def test_the_paper_preset_runs_to_its_last_stage(
    tmp_path: Path, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(write_stand_ins(tmp_path, tiny_tokenizer)))
    monkeypatch.setattr(batches, "QUIET", 0.05)
    monkeypatch.setattr(batches, "FIRST_LOOK", 0.02)
    with fake_batches(answer, looks=0) as server:
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        monkeypatch.setenv("OPENAI_BASE_URL", server.address)
        out = tmp_path / "out"
        arguments = ["experiment", "all", "--spec", str(tmp_path / "spec.yaml"), "--out", str(out)]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        asked = len(server.batches), len(server.direct)
        assert {request["model"] for batch in server.requests for request in batch} == {"gpt-4o"}
        assert {request["model"] for request in server.direct} == {"text-embedding-3-small"}
        asked_for = {request.get("n") for batch in server.requests for request in batch}
        assert asked_for == {None, 8}, "eight candidates of one request"
        assert CliRunner().invoke(app, arguments).exit_code == 0
        assert (len(server.batches), len(server.direct)) == asked, "nothing is paid for twice"
    table = json.loads((out / "table1.json").read_text())["rows"]
    assert [(row["model"], row["layer"]) for row in table] == [
        (label, layer) for label, model in MODELS.items() for layer in model.layers
    ]
    assert [row["paper"]["refined"] for row in table] == [score for model in MODELS.values() for score in model.refined]
    convergence = json.loads((out / "convergence.json").read_text())
    assert (convergence["iterations"], len(convergence["rows"])) == (5, 12)
    results = [ns.NeuronExplanation.load(path) for path in out.glob("runs/*/results/*.json")]
    assert len(results) == 12
    assert not [failure for x in results for failure in x.failures]
    assert {x.number for x in results if x.status == "explained"} == {2}
    assert {len(mode.history) for x in results for mode in x.modes} == {6}, "five iterations and the representative"
    assert sum(row["hypotheses"] for row in json.loads((out / "purity.json").read_text())["rows"]) > 0
    for label in MODELS:
        for name in ("convergence", "clusters", "purity", "compare"):
            assert (out / f"{name}-{label}.svg").exists()
