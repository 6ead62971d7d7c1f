"""`--profile`: parts of an iteration and their products, by hand on made events and on a real, tiny run."""

from types import SimpleNamespace

import pytest
import torch

import plaudit as pl
from plaudit.hardware import profile as profile_module
from plaudit.hardware.profile import StepProfile, TimedPart, operators, part, parts, table
from tests.kills import kills
from tests.training.tiny import model_folder


def event(name: str, start: float, end: float, flops: float = 0.0) -> SimpleNamespace:
    return SimpleNamespace(name=name, time_range=SimpleNamespace(start=start, end=end), flops=flops)


@kills(
    "hardware/profile.py",
    old="event.time_range.start <= spans[span][1]",
    new="event.time_range.start >= spans[span][1]",
    why="products of one part count as another's",
)
def test_products_belong_to_the_part_in_which_they_began():
    events = [
        event("part: sample", 0, 1e6),
        event("part: update", 3e6, 5e6),
        event("aten::mm", 0.5e6, 0.6e6, 10),
        event("aten::bmm", 2e6, 2.1e6, 3),  # between the two
        event("aten::addmm", 4.9e6, 5.2e6, 7),
        event("aten::mul", 4e6, 4.1e6, 99),  # no product of matrices
    ]
    assert parts(events, 6.0) == [
        TimedPart(name="sample", seconds=1.0, flops=10),
        TimedPart(name="update", seconds=2.0, flops=7),
        TimedPart(name="rest", seconds=3.0, flops=3),
        TimedPart(name="all", seconds=6.0, flops=20),
    ]


def test_the_table_has_shares_of_the_peak_and_the_slowest_first():
    averages = [SimpleNamespace(key=k, count=n, self_cpu_time_total=s) for k, n, s in
                (("a", 2, 1e6), ("part: x", 1, 9e6), ("b", 1, 3e6))]  # fmt: skip
    slowest = operators(averages, False)
    assert slowest == [("b", 3.0, 1), ("a", 1.0, 2)]
    text = table([TimedPart(name="update", seconds=2.0, flops=20e9)], slowest, 40e9)
    assert "update           2.000      20.0      10.0      25%" in text


def test_the_second_iteration_of_a_run_is_taken_apart(tmp_path, capsys):
    rows = [{"prompt": "a", "response": "b"}] * 4
    options = {"minibatch_size": 1, "held_out_fraction": 0, "model_tiny": {"hidden_size": 16, "layers": 1, "heads": 2}}
    pl.sft("tiny", rows, out=tmp_path / "run", profile=True, **options)
    text = (tmp_path / "run" / "profile" / "table.txt").read_text(encoding="utf-8")
    assert (tmp_path / "run" / "profile" / "trace.json.gz").stat().st_size > 100
    assert text.startswith("step 2, ")
    update = next(line.split() for line in text.splitlines() if line.startswith("update"))
    assert float(update[1]) > 0
    assert "aten::mm" in text
    assert "profile: step 2" in capsys.readouterr().err


def test_an_iteration_of_ppo_has_its_parts(tmp_path, capsys):
    def length(prompts, completions, **columns):
        return [float(len(text)) for text in completions]

    policy = model_folder(tmp_path / "model", letters="abc")
    sizes = {"iterations": 2, "prompts_per_iteration": 2, "epochs": 1, "minibatches": 1, "sampling_max_new_tokens": 3}
    pl.ppo(policy, prompts=["a", "b"], rewards=length, profile=True, **sizes)
    text = capsys.readouterr().err.partition("profile: step 2")[2]
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line[:1].isalpha()}
    seconds = [float(rows[name][1]) for name in ("sample", "score", "update", "rest")]
    assert min(seconds) > 0
    assert sum(seconds) == pytest.approx(float(rows["all"][1]), abs=0.003)


@kills("hardware/profile.py", old='precision == "bf16"', new="False", why="shares of another precision's peak")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_peak_is_of_the_precision_in_which_the_run_computes(precision, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(profile_module, "matmul_speed", lambda device, dtype, *size: asked.append(dtype) or 1e9)
    rows = [{"prompt": "a", "response": "b"}] * 4
    sizes = {"minibatch_size": 1, "held_out_fraction": 0, "model_tiny": {"hidden_size": 16, "layers": 1, "heads": 2}}
    pl.sft("tiny", rows, out=tmp_path / "run", profile=True, device_precision=precision, **sizes)
    assert asked == [torch.bfloat16 if precision == "bf16" else torch.float32]


def test_a_run_of_one_step_has_nothing_to_show(tmp_path, capsys):
    profile = StepProfile(None)
    profile.log({}, 0)
    profile.log({}, 1)
    with part("update"):
        torch.ones(2, 2) @ torch.ones(2, 2)
    profile.close()
    assert "ended before its second iteration" in capsys.readouterr().err
