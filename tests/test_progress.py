"""What a person sees of a run: which display it has, and what each display makes of events."""

import asyncio
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

import neuronscope as ns
from neuronscope.bars import in_notebook
from neuronscope.display import GraphProgress, NotebookProgress, notebook, watching
from neuronscope.display.html import render_progress
from neuronscope.events import NeuronProgress
from neuronscope.runs.runner import run_graph
from planted import AGENTS, BOTH, instruments

HOSTILE = '<img src=x onerror=alert(1)> & "quoted" \u202egnp\x1b[31m'
event = partial(ns.ProgressEvent, BOTH)


@pytest.fixture
def planted_agents(monkeypatch):
    import neuronscope.graphs
    import neuronscope.runs.runner

    build = neuronscope.runs.runner.build_neuron_graph
    for module in (neuronscope.graphs, neuronscope.runs.runner):
        monkeypatch.setattr(module, "build_neuron_graph", lambda **_: build(**AGENTS))


@pytest.fixture
def jupyter(monkeypatch):
    """IPython's display module as far as a display uses it; keeps what was shown."""
    shown = []

    def display(html, display_id):
        assert display_id is True
        shown.append(html)
        return SimpleNamespace(update=shown.append)

    monkeypatch.setattr(notebook, "jupyter", lambda: SimpleNamespace(display=display, HTML=str))
    return shown


@pytest.fixture
def kernel(monkeypatch):
    """What tells a notebook's kernel from a terminal: the shell has a kernel."""
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    return shell


# Which display


async def test_a_function_is_called_with_every_event_in_order(planted_agents, capsys):
    seen = []
    x = await run_graph(BOTH, instruments(), progress=seen.append)
    assert (seen[0].node, seen[0].phase) == ("observe", "started")
    assert (seen[-1].node, seen[-1].phase, seen[-1].score) == ("conclude", "finished", x.score)
    assert capsys.readouterr() == ("", "")


async def test_an_error_in_the_function_ends_the_run(planted_agents):
    def broken(event):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await run_graph(BOTH, instruments(), progress=broken)


def test_a_display_is_chosen_by_where_the_program_runs(jupyter, kernel, monkeypatch):
    with watching(None, BOTH) as in_kernel, watching(False, BOTH) as unwanted:
        assert isinstance(in_kernel, NotebookProgress)
        assert not isinstance(unwanted, (NotebookProgress, GraphProgress))
    kernel.kernel = None  # IPython in a terminal
    with watching(True, BOTH) as asked_for, watching(None, BOTH) as nowhere:
        assert isinstance(asked_for, GraphProgress)
        assert not isinstance(nowhere, (NotebookProgress, GraphProgress))
    monkeypatch.setenv("FORCE_COLOR", "1")
    with watching(None, BOTH) as in_terminal:
        assert isinstance(in_terminal, GraphProgress)


def test_outside_a_notebook_ipython_is_never_imported():
    code = "import sys; from neuronscope.bars import in_notebook; print(in_notebook(), 'IPython' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout == "False False\n"
    assert not in_notebook()


# The bar of a loop

BAR = "from neuronscope.bars import token_bar\nwith token_bar('Reading', 40, {show}) as bar: bar.update(40)"


def drawn(show, environment=None, **pipes):
    pipes = pipes or {"stderr": subprocess.PIPE}
    command = [sys.executable, "-c", BAR.format(show=show)]
    run = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
        env=os.environ | (environment or {}),
        **pipes,
    )
    assert run.stdout == ""
    return run.stderr


def test_a_bar_is_drawn_where_somebody_sees_it_or_asks_for_it():
    assert drawn(None) == drawn(False) == drawn(True, {"TQDM_DISABLE": "1"}) == ""
    assert re.search(r"Reading: 100%.* 40.0/40.0 .*tokens/s", drawn(True))


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no pseudo-terminals")
@pytest.mark.parametrize("size", [(0, 0), (24, 100)])
def test_a_terminal_has_a_bar_even_if_it_does_not_know_its_size(size):
    import fcntl
    import struct
    import termios

    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    drawn(None, stderr=theirs)
    os.close(theirs)
    assert "100%" in os.read(ours, 10_000).decode()
    os.close(ours)


# What the events add up to


def test_events_add_up_to_where_a_neuron_is():
    so_far = NeuronProgress(BOTH)
    assert (so_far.doing, so_far.is_done) == ("starting", False)
    so_far.take(event("clustering", "started"))
    assert so_far.doing == "grouping the conditions into modes"
    so_far.take(event("begin", "finished", "a", 0, None, "a", 2))
    so_far.take(event("propose", "started", "b", 1, 0.25, "better b", 2))
    assert (so_far.node, so_far.doing, so_far.n_modes) == ("refine", "refining the modes", 2)
    assert {mode: latest.explanation for mode, latest in so_far.modes.items()} == {"a": "a", "b": "better b"}
    assert [so_far.doing_in(latest) for latest in so_far.modes.values()] == ["starting", "proposing"]
    so_far.take(event("conclude", "started"))
    so_far.take(event("conclude", "finished", score=0.5, n_modes=1))
    assert (so_far.doing, so_far.is_done, so_far.score) == ("1 mode, test score 0.50", True, 0.5)


def test_a_node_that_nobody_knows_is_called_by_its_name():
    so_far = NeuronProgress(BOTH)
    so_far.take(event("my own node", "started"))
    assert so_far.doing == "my own node"


# In a notebook


async def test_many_events_make_few_updates_and_the_last_is_always_shown(jupyter):
    with NotebookProgress(BOTH) as display:
        for iteration in range(100):
            display(event("assess", "finished", "a", iteration, 0.1, "a", 1))
        assert len(jupyter) == 1  # all within a moment of the first picture
        await asyncio.sleep(1.5 * notebook.MIN_INTERVAL)
        assert len(jupyter) == 2
        assert "iteration 99" in jupyter[-1]
        await asyncio.sleep(1.5 * notebook.MIN_INTERVAL)
        display(event("conclude", "started"))
        assert len(jupyter) == 3  # after a pause an event is shown at once
        display(event("conclude", "finished", score=0.5, n_modes=1))
    assert len(jupyter) == 4
    assert "1 mode, test score 0.50 · 0." in jupyter[-1]
    await asyncio.sleep(1.5 * notebook.MIN_INTERVAL)
    assert len(jupyter) == 4  # no picture of the past comes after the last


def test_without_an_event_loop_the_end_is_shown_all_the_same(jupyter):
    with NotebookProgress(BOTH) as display:
        display(event("conclude", "finished", score=None, n_modes=2))
    assert "2 modes, test score not measured" in jupyter[-1]


def test_an_interrupted_run_says_where_it_stopped(jupyter):
    def interrupted():
        with NotebookProgress(BOTH) as display:
            display(event("hypothesis", "started"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert "stopped</span> while writing hypotheses of what the exemplars have in common" in jupyter[-1]
    assert "nsc-run-failed" in jupyter[-1]


def test_text_from_models_is_shown_and_does_nothing():
    so_far = NeuronProgress(BOTH)
    so_far.take(event("refine", "started", HOSTILE, 0, 1.7, HOSTILE, 1))
    html = render_progress(so_far)
    assert "<img" not in html
    assert "\u202e" not in html
    assert "\x1b" not in html
    assert "&lt;img src=x onerror=alert(1)&gt; &amp; &#34;quoted&#34;" in html
    assert "width:100%" in html  # a score beyond the scale does not leave the bar


def test_the_step_at_work_is_marked_and_those_before_it_are_passed():
    so_far = NeuronProgress(BOTH)
    for node in ("observe", "hypothesis"):
        so_far.take(event(node, "started"))
    marks = re.findall(r'<li class="nsc-run-(\w+)".*?>(\w+)</li>', render_progress(so_far))
    assert marks == [("passed", "observe"), ("now", "hypothesis")]
    assert len(render_progress(so_far)) < 8_000  # it is sent up to five times a second


# In a terminal


def test_the_terminal_shows_every_mode_and_nothing_that_controls_it(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with GraphProgress(BOTH) as display:
        display(event("refine", "started", "first", 0, None, "first", 2))
        display(event("tools", "started", "second", 3, 0.25, HOSTILE, 2))
    shown = capsys.readouterr().err
    assert "0/0: refining the modes" in shown
    assert re.search(r"iteration 3 +0\.25 .*scoring.*<img src=x", shown)
    assert "\x1b[31m" not in shown
    assert "\u202e" not in shown


# What the documentation shows


def documented(number):
    """The names that one of the page's examples defines, after running it."""
    page = (Path(__file__).parents[1] / "docs" / "streaming.md").read_text(encoding="utf-8")
    names = {}
    exec(re.findall(r"```python\n(.*?)```", page, re.DOTALL)[number], names)
    return names


def test_the_documented_function_hears_every_iteration(planted_agents, monkeypatch, capsys):
    world = instruments()

    def explain(subject, *, layer, neuron, llm, progress):
        assert (subject, layer, neuron, llm) == ("smollm2-135m", 9, 740, "offline")
        given = {name: getattr(world, name) for name in ("subject", "store", "simulator", "embeddings")}
        return real(**given, layer=0, neuron=0, llm=llm, progress=progress)

    real = ns.explain_neuron
    monkeypatch.setattr(ns, "explain_neuron", explain, raising=False)
    assert documented(0)["x"].number == 2
    assert re.findall(r"iteration (\d), 0\.\d\d", capsys.readouterr().out) == ["0", "0", "1", "1", "2", "2"]


async def test_the_documented_stream_runs(planted_agents, capsys):
    x = await documented(1)["explain"](BOTH, instruments())
    assert x.number == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "observe started "
    assert sum(line.startswith("reconcile finished") for line in lines) == 6
