"""Sites: where scalars live. A new one is a class and a registration; the rest of the library knows it by its name."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from langchain_core.embeddings import Embeddings

import neuronscope as ns
from neuronscope.corpus import Window
from neuronscope.errors import ConfigurationError, StoreError, SubjectError
from neuronscope.exemplars.statistics_pass import Collection
from neuronscope.exemplars.texts import exemplars_of
from neuronscope.subject import sites
from neuronscope.subject.capture import capture, visit
from neuronscope.subject.sites import activations_at, check_neuron
from neuronscope.types import HookPoint
from table_subject import TableSubject

IDS = [[5, 6, 7, 8, 9], [10, 11, 12]]
TEXTS = [f"{word} {number} on the long road to a quiet house" for number in range(60) for word in ("red", "blue")]


class Residual:
    """The residual stream behind a layer: all that a simple site takes."""

    name = "resid"
    fingerprint = "1"
    signed = True

    def taps(self, subject: Any, layer: int) -> list[ns.Tap]:
        return [ns.Tap(subject.layers[layer], "output")]

    def width(self, subject: Any, layer: int) -> int:
        return int(subject.model.config.hidden_size)

    def read(self, tensors: Sequence[torch.Tensor], layer: int) -> torch.Tensor:
        return tensors[0]


class Update:
    """What a layer adds to the stream: two tensors of one module; negative values mean nothing."""

    name = "update"
    fingerprint = "1"
    signed = False

    def taps(self, subject: Any, layer: int) -> list[ns.Tap]:
        return [ns.Tap(subject.layers[layer], "output"), ns.Tap(subject.layers[layer], "input", "hidden_states")]

    def width(self, subject: Any, layer: int) -> int:
        return int(subject.model.config.hidden_size)

    def read(self, tensors: Sequence[torch.Tensor], layer: int) -> torch.Tensor:
        return tensors[0] - tensors[1]


class TopLatents:
    """A dictionary of six directions of the stream, of which each token has the two strongest, sparse."""

    name = "latents"
    fingerprint = "weights-1"
    signed = False

    def __init__(self) -> None:
        self.weights = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))

    def taps(self, subject: Any, layer: int) -> list[ns.Tap]:
        return [ns.Tap(subject.layers[layer], "output")]

    def width(self, subject: Any, layer: int) -> int:
        return 6

    def read(self, tensors: Sequence[torch.Tensor], layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        found = (tensors[0] @ self.weights).relu().topk(2)
        return found.indices, found.values


@pytest.fixture(autouse=True)
def only_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    monkeypatch.setattr(sites, "_sites", dict(sites._known()))


@pytest.fixture
def subject(tiny_llama: Any, tiny_tokenizer: Any) -> Any:
    for site in (Residual, Update, TopLatents):
        ns.register_site(site)
    return ns.load_subject((tiny_llama, tiny_tokenizer), dtype="float32", bos=True)


def hidden_states(subject: Any, sequence: Sequence[int]) -> list[np.ndarray]:
    """Before the first layer and behind each but the last, as transformers gives them, without BOS."""
    with torch.no_grad():
        found = subject.model(torch.tensor([[*subject.leading_ids, *sequence]]), output_hidden_states=True)
    return [each[0, len(subject.leading_ids) :].numpy() for each in found.hidden_states]


def test_a_site_reads_outputs_of_modules(subject: Any) -> None:
    found = subject.activations(IDS, [0, 1], site="resid")
    for row, sequence in enumerate(IDS):
        states = hidden_states(subject, sequence)
        for layer in (0, 1):
            np.testing.assert_allclose(found[layer][row], states[layer + 1], rtol=1e-5, atol=1e-7)


def test_a_site_may_tap_several_tensors(subject: Any) -> None:
    found = subject.activations(IDS, [1], site="update")[1]
    for row, sequence in enumerate(IDS):
        states = hidden_states(subject, sequence)
        np.testing.assert_allclose(found[row], states[2] - states[1], rtol=1e-4, atol=1e-6)


def test_a_site_may_be_sparse(subject: Any) -> None:
    found = subject.activations(IDS, [0], site="latents")[0]
    for row, sequence in enumerate(IDS):
        dense = np.maximum(hidden_states(subject, sequence)[1] @ TopLatents().weights.numpy(), 0)
        assert (found[row] > 0).sum(1).max() <= 2
        np.testing.assert_allclose(found[row].max(1), dense.max(1), rtol=1e-4, atol=1e-6)


def test_one_pass_serves_several_sites_and_ends_at_the_deepest_tap(subject: Any) -> None:
    called: list[str] = []
    hooks = [
        module.register_forward_pre_hook(lambda *_, name=name: called.append(name))
        for name, module in (("first", subject.layers[0]), ("last", subject.layers[2]))
    ]
    found: dict[HookPoint, torch.Tensor] = {}
    points = [HookPoint(1, "resid"), HookPoint(1), HookPoint(0, "update")]
    visit(subject, IDS, points, lambda point, activations: found.update({point: activations.clone()}))
    for hook in hooks:
        hook.remove()
    assert called == ["first"]
    for point in points:
        alone = subject.activations(IDS, [point.layer], site=point.site)[point.layer]
        np.testing.assert_allclose(found[point][0].numpy(), alone[0], rtol=1e-5, atol=1e-7)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in subject.model.modules())


def test_what_a_model_writes_into_its_tensors_later_is_not_read(subject: Any) -> None:
    """The second tap is the output of a module that has overwritten the first, its input, in place."""

    class InPlace(torch.nn.Module):
        def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
            return hidden_states.mul_(3.0)

    class Both(Residual):
        name = "both"

        def taps(self, subject: Any, layer: int) -> list[ns.Tap]:
            norm = subject.layers[layer].post_attention_layernorm
            return [ns.Tap(norm, "input"), ns.Tap(norm, "output")]

        def read(self, tensors: Sequence[torch.Tensor], layer: int) -> torch.Tensor:
            return tensors[1] - tensors[0]

    subject.layers[0].post_attention_layernorm = InPlace()
    ns.register_site(Both)
    read = subject.activations(IDS, [0], site="both")[0][0]
    assert np.abs(read).max() > 0  # 3 x - x, and not 3 x - 3 x


def test_a_name_can_be_registered_once_and_must_be_one(subject: Any) -> None:
    ns.register_site(Residual())  # an equal one

    class Other(Residual):
        fingerprint = "2"

    with pytest.raises(ConfigurationError, match=r"a site 'resid' already, with the fingerprint '1'; this one has '2'"):
        ns.register_site(Other)
    with pytest.raises(ConfigurationError, match="cannot be the name of a site"):
        ns.register_site(type("Bad", (Residual,), {"name": "resid/post"}))
    with pytest.raises(ConfigurationError, match="a site 'mlp' already"):
        ns.register_site(type("Mine", (Residual,), {"name": "mlp", "fingerprint": "mine"}))


def test_a_site_that_is_not_there_is_one_clear_error_wherever_it_is_asked_for(subject: Any) -> None:
    message = r"has no units at the site 'residd'\. Did you mean 'resid'\? It has the sites mlp, resid, update, latents"
    neuron = ns.Neuron(0, 1, site="residd")
    asks = [
        lambda: subject.width(0, "residd"),
        lambda: subject.activations(IDS, [0], "residd"),
        lambda: capture(subject, IDS, [0], "residd"),
        lambda: activations_at(subject, IDS, [0], "residd"),
        lambda: subject.check(neuron),
        lambda: check_neuron(subject, neuron),
    ]
    for ask in asks:
        with pytest.raises(SubjectError, match=message):
            ask()
    with pytest.raises(SubjectError, match="neurons 0 to 7 at the site 'resid'; there is no neuron 8"):
        subject.check(ns.Neuron(0, 8, site="resid"))


def test_a_tap_that_gives_no_tensor_of_tokens_is_named(subject: Any) -> None:
    class Missing(Residual):
        name = "missing"

        def taps(self, subject: Any, layer: int) -> list[ns.Tap]:
            return [ns.Tap(subject.layers[layer].self_attn, "output", 7)]

    class Routed(Residual):
        name = "routed"

        def taps(self, subject: Any, layer: int) -> list[ns.Tap]:
            return [ns.Tap(subject.model.model.rotary_emb, "output")]

    class Wrong(Residual):
        name = "wrong"

        def width(self, subject: Any, layer: int) -> int:
            return 5

    for site in (Missing, Routed, Wrong):
        ns.register_site(site)
    with pytest.raises(SubjectError, match="taps output 7 of a LlamaAttention, which has no such tensor"):
        subject.activations(IDS, [0], "missing")
    with pytest.raises(SubjectError, match=r"Layer 0 of site 'routed' taps a tensor of shape"):
        subject.activations(IDS, [0], "routed")
    with pytest.raises(SubjectError, match=r"The site 'wrong' reads activations of shape \(\d+, 8\) in layer 0"):
        subject.activations(IDS, [0], "wrong")


def test_a_neuron_writes_what_its_projection_says(subject: Any) -> None:
    direction = sites.site_named("mlp").write_direction(subject, 1, 3)  # type: ignore[attr-defined]
    one = torch.zeros(12)
    one[3] = 1.0
    torch.testing.assert_close(direction, subject.projections[1](one).detach())


class Planted(TableSubject):
    """A subject of one's own with a second site: its neurons' squares."""

    sites = ("mlp", "squares")

    def width(self, layer: int, site: str = "mlp") -> int:
        return super().width(layer)

    def activations(self, token_ids: Any, layers: Any, site: str = "mlp") -> Any:
        found = super().activations(token_ids, layers)
        power = 2 if site == "squares" else 1
        return {layer: [rows**power for rows in found[layer]] for layer in found}


def test_a_subject_of_ones_own_may_offer_sites_and_has_its_neurons_by_default() -> None:
    tables = [np.arange(12, dtype=np.float32).reshape(4, 3)]
    plain, planted = TableSubject("?abc", tables), Planted("?abc", tables)
    captured, _ = capture(planted, [[1, 2]], [0], "squares")
    assert captured[0][0].tolist() == [[9, 16, 25], [36, 49, 64]]
    check_neuron(plain, ns.Neuron(0, 2))
    with pytest.raises(SubjectError, match=r"planted has no units at the site 'squares'.*It has the sites mlp"):
        check_neuron(plain, ns.Neuron(0, 2, site="squares"))
    with pytest.raises(SubjectError, match="there is no layer 3"):
        check_neuron(planted, ns.Neuron(3, 0))


# --- exemplars at a site ----------------------------------------------------------------------------------------------


def collect(subject: Any, cache: Path, **settings: Any) -> ns.ExemplarStore:
    arguments = {"layers": [1], "seq_len": 16, "top_k": 3, "cache_dir": cache, "progress": False} | settings
    return ns.collect_exemplars(subject, TEXTS, **arguments)


def test_exemplars_are_collected_at_a_site(subject: Any, tmp_path: Path) -> None:
    store = collect(subject, tmp_path, site="resid")
    assert (store.site, store.layers, store.info["site"], store.info["widths"]) == ("resid", [1], "resid", {"1": 8})
    assert (store.path / "resid-1.safetensors").is_file()
    assert (
        repr(store)
        == f"ExemplarStore({subject.name!r}, site 'resid', layers [1], {store_tokens(store):,} tokens of 'texts')"
    )
    for neuron in [*store.top_neurons(1, 2), *store.top_neurons(1, 1, "random", sign=-1)]:
        assert str(neuron).startswith("resid:1/")
        for exemplar in store.exemplars(neuron, "train", 3):
            raw = hidden_states(subject, exemplar.token_ids)[2][:, neuron.index]
            expected = np.maximum(neuron.sign * raw, 0)
            np.testing.assert_allclose(exemplar.activations, expected, rtol=1e-3, atol=1e-5)
        assert store.ranked(neuron)[0].activation == pytest.approx(
            float(store.exemplars(neuron)[0].activations.max()), rel=1e-3
        )
        assert (store.path / "activations" / "resid-1" / f"{neuron.file_name}.safetensors").is_file()


def store_tokens(store: ns.ExemplarStore) -> int:
    return sum(store.info["n_tokens"].values())


def test_a_site_is_given_by_its_name_or_as_it_is_and_another_is_another_store(
    tiny_llama: Any, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    subject = ns.load_subject((tiny_llama, tiny_tokenizer), dtype="float32")
    first = collect(subject, tmp_path, site=Residual())  # registered by that
    assert collect(subject, tmp_path, site="resid").path == first.path
    assert collect(subject, tmp_path).path != first.path
    for ask in (first.exemplars, first.ranked, first.random_sequences):
        with pytest.raises(StoreError, match=r"holds the site 'resid', not the site 'mlp'.*site='mlp', layers=\[1\]"):
            ask(ns.Neuron(1, 0))


def test_a_site_without_negative_values_is_collected_for_sign_plus_alone(subject: Any, tmp_path: Path) -> None:
    store = collect(subject, tmp_path, site="latents")
    assert store.signs == (1,)
    with pytest.raises(StoreError, match=r"with signs \[1\], not layer 1 with sign -1"):
        store.exemplars(ns.Neuron(1, 0, -1, "latents"))
    with pytest.raises(ConfigurationError, match="'latents' has no negative values"):
        collect(subject, tmp_path, site="latents", signs=(-1,))


def test_a_store_knows_the_sites_own_weights(subject: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = collect(subject, tmp_path, site="latents")
    monkeypatch.setattr(TopLatents, "fingerprint", "weights-2")
    assert collect(subject, tmp_path, site="latents").path != store.path
    with pytest.raises(StoreError, match=r"site 'latents' \(fingerprint 'weights-1'\).*\(fingerprint 'weights-2'\)"):
        ns.open_store(store.path).bind(subject)


def test_what_is_kept_at_a_site_needs_neither_model_nor_site(
    subject: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = collect(subject, tmp_path, site="update", keep_activations=True)
    monkeypatch.setattr(sites, "_sites", {})
    alone = ns.open_store(store.path)
    (neuron,) = alone.top_neurons(1, 1, "max")
    for exemplar in [*alone.exemplars(neuron, "train", 3), *alone.random_sequences(neuron, "test", 3)]:
        states = hidden_states(subject, exemplar.token_ids)
        expected = np.maximum((states[2] - states[1])[:, neuron.index], 0)
        np.testing.assert_allclose(exemplar.activations, expected, rtol=2e-3, atol=1e-5)


def test_a_collection_that_is_sent_away_takes_its_site_along(subject: Any) -> None:
    """As to a worker that has registered nothing."""
    cloudpickle = pytest.importorskip("cloudpickle")
    start = partial(Collection, layers=[0], signs=(1,), top_k=2, batch_tokens=64, site=Residual())
    sent = cloudpickle.dumps(start)
    sites._sites.pop("resid")
    gathered = cloudpickle.loads(sent)(subject)
    gathered.add_chunk([Window(0, IDS[0], "train", "letters")])
    assert gathered.accumulators[HookPoint(0, "resid")].width == 8


def test_units_at_a_site_are_explained(subject: Any, tmp_path: Path) -> None:
    neuron = ns.Neuron(1, 3, site="resid")
    config = ns.ExplainConfig(seq_len=16, n_tokens=1500, heldout_top=5, heldout_random=5)
    given: dict[str, Any] = {"corpus": TEXTS, "llm": "offline", "simulator": "hybrid", "embeddings": Letters()}
    (found,) = ns.explain_neurons([neuron], subject=subject, config=config, cache_dir=tmp_path, **given)
    assert (found.neuron, found.status) == (neuron, "explained"), found.failures
    assert found.number == len(found.modes) > 0
    (store,) = (ns.open_store(path) for path in tmp_path.iterdir())
    assert (store.site, store.layers) == ("resid", [1])
    (again,) = ns.explain_neurons([neuron], subject=subject, config=config, store=store, **given)
    assert again.modes == found.modes
    loaded = ns.NeuronExplanation.load(found.save(tmp_path / "x.json"))
    assert loaded.neuron == neuron
    with pytest.raises(ConfigurationError, match="at the sites mlp, resid, and exemplars are collected at one"):
        list(ns.explain_neurons([neuron, ns.Neuron(1, 3)], subject=subject, cache_dir=tmp_path, **given))


def test_texts_of_an_agents_own_are_measured_at_the_site(subject: Any) -> None:
    neuron = ns.Neuron(1, 3, site="resid")
    (measured,) = exemplars_of(["a red house"], subject, neuron, 256)
    ids = subject.tokenizer("a red house", add_special_tokens=False)["input_ids"]
    expected = np.maximum(hidden_states(subject, ids)[2][:, 3], 0)
    np.testing.assert_allclose(measured.activations, expected, atol=1e-4)


class Letters(Embeddings):
    """Counts letters."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[1.0 + text.count(letter) for letter in "abcdefgh"] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]
