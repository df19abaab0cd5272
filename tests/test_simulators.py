"""From a simulator's name to a simulator."""

import os

import pytest
import torch

from causal_models import byte_level_tokenizer, random_llama
from neuronscope.errors import ConfigurationError, SimulatorError
from neuronscope.interfaces import BatchSimulator
from neuronscope.simulators import (
    ChatSimulator,
    FinetunedSimulator,
    HybridSimulator,
    PromptedSimulator,
    named,
    resolve_simulator,
)
from neuronscope.simulators.finetuned import TRANSLUCE
from neuronscope.simulators.named import reader, transluce
from neuronscope.simulators.reader import ReaderSimulator


@pytest.fixture
def folder(tmp_path):
    tokenizer = byte_level_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    random_llama(len(tokenizer)).save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("kind", "expected"), [("transluce", FinetunedSimulator), ("prompted", PromptedSimulator)])
def test_a_model_is_named_behind_the_kind_and_loaded_once(folder, kind, expected):
    simulator = resolve_simulator(f"{kind}:{folder}")
    assert isinstance(simulator, expected)
    assert isinstance(simulator, BatchSimulator)
    assert simulator.name == f"{kind}:{folder.name}"
    assert resolve_simulator(f"{kind}:{folder}") is simulator


def test_a_folder_that_has_changed_is_loaded_anew(folder):
    simulator = resolve_simulator(f"transluce:{folder}")
    os.utime(folder / "model.safetensors", (2_000_000_000, 2_000_000_000))
    assert resolve_simulator(f"transluce:{folder}") is not simulator


def test_auto_is_the_reader_without_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert isinstance(resolve_simulator("auto"), ReaderSimulator)


def test_auto_says_once_why_it_is_hybrid_where_the_readers_weights_cannot_be_had(monkeypatch, capsys):
    def absent(source, *, embeddings, llm):
        raise SimulatorError("No weights [here].")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(reader, "load", absent)
    assert isinstance(resolve_simulator("auto"), HybridSimulator)
    resolve_simulator("auto")
    assert capsys.readouterr().err.count("No weights [here].") == 1


def test_auto_is_transluce_on_a_large_gpu(monkeypatch):
    _pretend_gpu(monkeypatch, 24e9)
    monkeypatch.setattr(transluce, "load_shared", lambda kind, source: (kind, source))
    assert resolve_simulator("auto") == (FinetunedSimulator, TRANSLUCE)


def test_auto_is_the_reader_on_a_small_gpu(monkeypatch):
    _pretend_gpu(monkeypatch, 12e9)
    assert isinstance(resolve_simulator("auto"), ReaderSimulator)


def test_auto_says_once_why_it_is_the_reader_on_a_large_gpu(monkeypatch, capsys):
    def gated(kind, source):
        raise SimulatorError("The checkpoint [gated] cannot be had.")

    _pretend_gpu(monkeypatch, 24e9)
    monkeypatch.setattr(transluce, "load_shared", gated)
    assert isinstance(resolve_simulator("auto"), ReaderSimulator)
    resolve_simulator("auto")
    assert capsys.readouterr().err.count("The checkpoint [gated] cannot be had.") == 1


def test_a_new_simulator_with_a_name_is_one_file(tmp_path, monkeypatch):
    (tmp_path / "constant.py").write_text(
        "import numpy as np\n\n"
        'FORMS = ("constant:<level>",)\n\n\n'
        "class Constant:\n"
        "    def __init__(self, level):\n"
        "        self.level = level\n\n"
        "    def simulate(self, explanations, exemplars):\n"
        "        return [np.full((len(explanations), len(one.tokens)), self.level) for one in exemplars]\n\n\n"
        "def load(source, *, embeddings, llm):\n"
        "    return Constant(float(source))\n"
    )
    monkeypatch.setattr(named, "__path__", [*named.__path__, str(tmp_path)])
    assert resolve_simulator("constant:3").level == 3
    with pytest.raises(ConfigurationError, match=r"Did you mean 'constant'.*'constant:<level>'"):
        resolve_simulator("constnt:3")


def _pretend_gpu(monkeypatch, memory):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    properties = type("Properties", (), {"total_memory": int(memory)})()
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)


def test_chat_uses_the_runs_own_model():
    from langchain_core.language_models import FakeListChatModel

    model = FakeListChatModel(responses=["{}"])
    assert isinstance(resolve_simulator("chat", llm=model), ChatSimulator)
    assert isinstance(resolve_simulator("chat", llm={"refinement": model, "hypothesis": "offline"}), ChatSimulator)


@pytest.mark.parametrize("llm", [None, "offline", {"hypothesis": "offline"}])
def test_chat_without_a_chat_model_is_refused(llm):
    with pytest.raises(ConfigurationError, match="chat simulator needs a language model"):
        resolve_simulator("chat", llm=llm)


@pytest.mark.parametrize("spec", ["nonsense", "prompted", "prompted:", "transluce:", "chat:", "hybrid:x", "auto:x", ""])
def test_a_name_that_is_none_is_refused_with_those_there_are(spec):
    with pytest.raises(ConfigurationError, match=r"Known: 'auto', 'chat', .*'transluce:<"):
        resolve_simulator(spec)


def test_a_model_that_is_not_there_is_refused_as_a_simulator(tmp_path):
    with pytest.raises(SimulatorError, match="simulator cannot be loaded"):
        resolve_simulator(f"prompted:{tmp_path / 'nothing'}")
