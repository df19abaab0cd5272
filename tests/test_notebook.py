"""Progress in a notebook: a real kernel, whose cells show one display that changes in place."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

SETUP = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import neuronscope as ns
import neuronscope.runs.runner
from neuronscope.blocking import run
from neuronscope.runs.runner import run_graph
from planted import AGENTS, BOTH, DEAD, instruments

build = neuronscope.runs.runner.build_neuron_graph
neuronscope.runs.runner.build_neuron_graph = lambda **options: build(**AGENTS, **options)
context = instruments()
world = dict(subject=context.subject, store=context.store, simulator=context.simulator,
             embeddings=context.embeddings, llm="offline")
"""
FAILING = """
async def fails(state, runtime):
    raise TypeError("a bug")

neuronscope.runs.runner.build_neuron_graph = lambda **_: build(**(AGENTS | {"clustering": fails}))
ns.explain_neuron(**world, layer=0, neuron=0)
"""
COLLECTING = """
import numpy as np
from table_subject import TableSubject
tables = [np.random.default_rng(0).random((20, 6), dtype=np.float32)]
texts = ["abcdefghij" * 30 + letter for letter in "abcdefgh"]
store = ns.collect_exemplars(TableSubject("abcdefghijklmnopqrst", tables), texts, seq_len=16, cache_dir=FOLDER)
"""
CELLS = {
    "setup": SETUP,
    "waiting": "x = ns.explain_neuron(**world, layer=0, neuron=0)",
    "awaiting": "y = await ns.aexplain_neuron(**world, layer=0, neuron=1)",
    "silent": "ns.explain_neuron(**world, layer=0, neuron=0, progress=False).number",
    "own": "seen = []\nz = ns.explain_neuron(**world, layer=0, neuron=0, progress=seen.append)\nlen(seen)",
    "many": "found = list(ns.explain_neurons([(0, 0), (0, 1)], **world))\nlen(found)",
    "failing": FAILING,
    "warning": "import warnings\nfrom tqdm.auto import tqdm",
    "collecting": COLLECTING,
    "parts": "[x, x.modes, x.clusters, store, x.modes[0].history, x.modes[0].excerpts]",
    "page": "x.to_html(FOLDER + '/x.html')",
    "no key": "ns.explain_neuron(**{**world, 'llm': 'openai:gpt-4o'}, layer=0, neuron=0)",
    "no layer": "await ns.aexplain_neuron(**world, layer=7, neuron=0)",
    "verbose": "%xmode Verbose\nns.explain_neuron(**world, layer=7, neuron=0)",
}


class Watched(NotebookClient):
    """Runs a notebook as Jupyter would, and keeps what the kernel says."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.messages = {}

    def process_message(self, msg, cell, cell_index):
        self.messages.setdefault(cell_index, []).append(msg["msg_type"])
        return super().process_message(msg, cell, cell_index)


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    """Every cell's outputs, and the kinds of messages that made them, by the cell's name."""
    monkeypatch = pytest.MonkeyPatch()
    folder = f"FOLDER = {str(tmp_path_factory.mktemp('notebook'))!r}\n"
    sources = [folder * (name == "setup") + source for name, source in CELLS.items()]
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    client = Watched(nbformat.v4.new_notebook(cells=cells), timeout=120, kernel_name="python3", allow_errors=True)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    run = client.execute()
    monkeypatch.undo()
    return {
        name: (cell.outputs, client.messages.get(number, []))
        for number, (name, cell) in enumerate(zip(CELLS, run.cells, strict=True))
    }


def html_of(outputs):
    return [output["data"]["text/html"] for output in outputs if output.output_type == "display_data"]


def test_a_cell_has_one_display_that_ends_with_what_was_found(notebook):
    outputs, messages = notebook["waiting"]
    (html,) = html_of(outputs)
    assert len(outputs) == 1  # nothing on standard error, no second display
    assert "Layer 0, neuron 0, large positive values" in html
    assert "2 modes, test score 0.68" in html
    assert "&#34;red&#34;, &#34;green&#34; or &#34;blue&#34;" in html
    assert messages.count("display_data") == 1
    assert messages.count("update_display_data") >= 1


def test_updates_are_few_however_many_events_there_are(notebook):
    events = int(notebook["own"][0][0]["data"]["text/plain"])
    assert events > 30
    assert notebook["waiting"][1].count("update_display_data") < events / 2


def test_it_works_where_the_call_is_awaited(notebook):
    (html,) = html_of(notebook["awaiting"][0])
    assert "0 modes" in html


def test_no_display_when_it_is_unwanted_or_a_function_takes_its_place(notebook):
    for name in ("silent", "own"):
        assert [output.output_type for output in notebook[name][0]] == ["execute_result"]
    assert notebook["silent"][0][0]["data"]["text/plain"] == "2"


def test_a_run_that_fails_leaves_a_display_that_says_where(notebook):
    outputs, _ = notebook["failing"]
    (html,) = html_of(outputs)
    assert "stopped</span> while grouping the conditions into modes" in html
    assert [output.ename for output in outputs if output.output_type == "error"] == ["TypeError"]


def test_many_neurons_have_one_display_too(notebook):
    outputs, messages = notebook["many"]
    (page,) = html_of(outputs)
    assert "2/2" in page
    assert messages.count("update_display_data") >= 1
    assert outputs[-1].data["text/plain"] == "2"


def test_collecting_exemplars_has_a_bar_and_nothing_is_red(notebook):
    outputs, _ = notebook["collecting"]
    bars = [output for output in outputs if output.output_type == "stream"]
    assert {output.name for output in bars} == {"stdout"}  # standard error is on red
    text = "".join(output.text for output in bars)
    assert "Collecting exemplars" in text
    assert "tokens" in text
    assert notebook["warning"][0] == notebook["setup"][0] == []


def test_results_and_their_parts_are_short_lines(notebook):
    (output,) = notebook["parts"][0]
    shown = output["data"]["text/plain"]
    assert len(shown) < 2500
    assert "NeuronExplanation(0/0 of planted: explained, 2 modes, score 0.68)" in shown
    assert "\\x1b" not in shown


def test_a_page_that_is_written_is_not_shown(notebook):
    (output,) = notebook["page"][0]
    assert output["data"]["text/plain"].endswith("x.html')")
    assert list(output["data"]) == ["text/plain"]


@pytest.mark.parametrize(
    ("name", "kind", "says"), [("no key", "LLMError", "openai"), ("no layer", "SubjectError", "layer 7")]
)
def test_an_error_of_ours_is_one_line_and_no_screen_of_frames(notebook, name, kind, says):
    (error,) = [output for output in notebook[name][0] if output.output_type == "error"]
    (line,) = error.traceback
    assert "\n" not in line
    assert kind in line
    assert says in line
    assert error.ename == kind


def test_the_frames_are_there_for_who_wants_them(notebook):
    (error,) = [output for output in notebook["verbose"][0] if output.output_type == "error"]
    assert "Traceback" in "\n".join(error.traceback)
    assert "SubjectError" in error.traceback[-1]
    (bug,) = [output for output in notebook["failing"][0] if output.output_type == "error"]
    assert len(bug.traceback) > 3
