"""benchmarks/gpu.py: that it runs through, and what its lines say; on a processor, with a tiny shape."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import gpu
import measuring
import random_models

ROOT = Path(__file__).parent.parent
LINE = re.compile(r" *\d+\.\d s  (?P<part>\w+) +(?P<text>.+)  \[(?P<card>.+), torch (?P<torch>\S+), bfloat16\]")
PARTS = ["collection", "simulation", "together", "precision"]


def lines(output):
    """The text of each part, in their order."""
    found = [LINE.fullmatch(line) for line in output.splitlines()]
    assert all(found), output
    return {match["part"]: match["text"] for match in found}


def run(capsys, *arguments):
    status = gpu.main(["--tiny", *arguments])
    return status, lines(capsys.readouterr().out)


@pytest.fixture(scope="module")
def printed():
    command = [sys.executable, ROOT / "benchmarks" / "gpu.py", "--tiny"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_every_part_has_a_line_with_the_device_the_version_and_the_dtype(printed):
    assert list(lines(printed)) == ["start", "subject", "collection", "simulator", *PARTS[1:], "end"]
    for line in printed.splitlines():
        match = LINE.fullmatch(line)
        assert match["card"].startswith("processor")
        assert match["torch"] == torch.__version__


@pytest.mark.slow
def test_the_lines_have_the_figures(printed):
    found = lines(printed)
    number = r"[\d,]+(?:\.\d+)?"
    assert re.match(
        rf"layers 5, 10, 20, 31: ratio {number} to the trunk, {number} to the same pass .*; {number} tokens/s beside "
        rf"{number} and {number}; [12] rounds of 1,\d\d\d tokens; peak {number} GB, {number} GB of it before$",
        found["collection"],
    )
    assert re.match(
        rf"{number} pairs/s beside {number} with one prompt of \d+ tokens a pair, [14] in a batch: ratio {number}; "
        rf".*; [12] rounds of 8 explanations x 4 exemplars$",
        found["simulation"],
    )
    assert re.match(rf"subject and simulator: peak {number} GB, .* fits in 80 GB$", found["together"])
    largest, mean, spread = map(float, re.findall(r"(?:difference|mean|of) (\d+\.\d+)", found["precision"]))
    assert 0 < mean < largest < spread
    assert found["end"] == "no part failed"


def test_parts_for_which_no_time_is_left_are_skipped_with_a_line(capsys):
    status, found = run(capsys, "--seconds", "0")
    assert status == 0
    assert [name for name, text in found.items() if text.startswith("skipped: 0 s left")] == PARTS
    assert "subject" not in found


@pytest.mark.slow
def test_a_part_that_fails_is_named_and_does_not_lose_the_others(capsys, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("out of memory\nand more")

    monkeypatch.setattr(gpu.collect, "compare", fail)
    status, found = run(capsys)
    assert status == 1
    assert found["collection"] == "failed: RuntimeError: out of memory"
    assert found["end"] == "failed: collection"
    assert all("failed" not in found[name] for name in PARTS[1:])


def test_without_a_card_it_says_what_runs_without_one(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        gpu.main([])
    assert "--tiny runs on a processor" in capsys.readouterr().err


def test_rounds_end_before_the_time_that_is_reserved():
    now = 0.0
    limit = measuring.TimeLimit(100, clock=lambda: now)
    begun = []
    for number in limit.rounds(most=50, reserved=20):
        begun.append(now)
        now += 30 if number == 1 else 10
    assert begun == [0, 10, 40, 50]  # at 60, another that took 30 would end at 90
    now = 99.0
    assert len(list(limit.rounds(most=50, reserved=20))) == 1


def test_the_full_plan_is_llamas_shape_and_fits_the_time():
    model = random_models.random_model(gpu.FULL.shape, 0, torch.bfloat16, torch.device("meta"), seed=0)
    assert sum(each.numel() for each in model.parameters()) == 8_030_261_248  # as published
    assert max(gpu.LAYERS) == model.config.num_hidden_layers - 1
    assert sum(gpu.FULL.needs.values()) < 480


def test_equal_seeds_give_equal_models():
    make = random_models.random_simulator_model
    one, same, other = (make(gpu.TINY.shape, torch.bfloat16, torch.device("cpu"), seed) for seed in (0, 0, 1))
    first = [each.lm_head.weight for each in (one, same, other)]
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first[0], first[2])
