"""Best of n over a pool: hand numbers, brute force over subsets, and a whole run."""

import itertools
import json
import math

import pytest

from plaudit.data.options import DataConfig
from plaudit.engines.options import SamplingConfig
from plaudit.errors import UserError
from plaudit.evaluation.frontier import best_of_n_mean, curve, frontier
from plaudit.evaluation.options import FrontierConfig
from plaudit.models.options import ModelConfig
from plaudit.runs.folder import Run
from plaudit.scoring.options import FunctionConfig
from plaudit.telemetry.summary import read_results
from tests.kills import kills
from tests.training.tiny import jsonl, model_folder

JUDGED = [0.3, -1.0, 2.0, 0.5, 1.5]
TRUE = [1.0, 7.0, -3.0, 2.0, 4.0]


@kills(
    "evaluation/frontier.py",
    old="weight *= (i - n) / (i - 1) if i > 1 else 0.0",
    new="weight *= (i - n) / i if i > 1 else 0.0",
    why="subsets with repetition: an answer competes with itself",
)
@pytest.mark.parametrize("n", range(1, 6))
def test_every_subset_is_counted_once(n):
    subsets = list(itertools.combinations(range(5), n))
    expected = sum(TRUE[max(subset, key=JUDGED.__getitem__)] for subset in subsets) / len(subsets)
    assert best_of_n_mean(JUDGED, TRUE, n) == pytest.approx(expected, abs=1e-12)


def test_best_of_two_by_hand():
    """Pairs of (judged, true) (1, 10), (2, 20), (3, 60): 20, 60 and 60 are chosen."""
    assert best_of_n_mean([1.0, 2.0, 3.0], [10.0, 20.0, 60.0], 2) == pytest.approx(140 / 3)
    assert best_of_n_mean([3.0, 1.0, 2.0], [60.0, 10.0, 20.0], 2) == pytest.approx(140 / 3)
    assert best_of_n_mean([1.0, 2.0, 3.0], [10.0, 20.0, 60.0], 1) == pytest.approx(30.0)


@kills(
    "evaluation/frontier.py",
    old="values += [math.fsum(shared) / len(shared)] * len(shared)",
    new="values += shared",
    why="of answers that tie the last sampled wins",
)
def test_among_equals_chance_decides_whatever_their_order():
    """Best of two of (1, 0), (2, 6), (2, 12): a pair with the 0 gives 6 or 12, the pair of equals 9 on average."""
    for order in itertools.permutations([(1.0, 0.0), (2.0, 6.0), (2.0, 12.0)]):
        judged, true = zip(*order, strict=True)
        assert best_of_n_mean(judged, true, 2) == pytest.approx(9.0)


@pytest.mark.parametrize(("judged", "true", "n"), [([1.0], [1.0, 2.0], 1), ([1.0], [1.0], 2), ([1.0], [1.0], 0)])
def test_what_cannot_be_chosen_from_is_refused(judged, true, n):
    with pytest.raises(ValueError, match="best_of_n_mean"):
        best_of_n_mean(judged, true, n)


@kills(
    "evaluation/frontier.py",
    old="[best_of_n_mean(pool, its, n) for pool, its in zip(scores, true, strict=True)]",
    new="[best_of_n_mean(its, its, n) for pool, its in zip(scores, true, strict=True)]",
    why="the truth chooses its own best: nothing is ever over-optimised",
)
def test_a_curve_is_the_mean_over_prompts():
    points = curve([[1.0, 2.0], [5.0, 3.0]], [[0.0, 4.0], [10.0, 20.0]])
    assert [p["n"] for p in points] == [1, 2]
    assert [p["score"] for p in points] == pytest.approx([(1.5 + 4.0) / 2, (2.0 + 5.0) / 2])
    assert [p["truth"] for p in points] == pytest.approx([(2.0 + 15.0) / 2, (4.0 + 10.0) / 2])
    assert [p["kl"] for p in points] == pytest.approx([0.0, math.log(2) - 0.5])
    assert points[1]["truth_low"] < 7.0 < points[1]["truth_high"]


def config_of(folder, **options) -> FrontierConfig:
    (folder / "rules.py").write_text(
        "def longer(completions, **columns):\n    return [float(len(c)) for c in completions]\n\n\n"
        "def shorter(completions, **columns):\n    return [-float(len(c)) for c in completions]\n\n\n"
        "def silent(completions, **columns):\n    return [None for _ in completions]\n",
        encoding="utf-8",
    )
    rules = {name: (FunctionConfig(function=f"{folder / 'rules.py'}:{name}"),) for name in ("longer", "shorter")}
    return FrontierConfig(
        **{
            "prompts": (DataConfig(path=jsonl(folder / "p.jsonl", [{"prompt": p} for p in ("a", "b", "ab")])),),
            "model": ModelConfig(path=model_folder(folder / "policy")),
            "judges": rules,
            "truth": rules["longer"],
            "samples": 8,
            "sampling": SamplingConfig(max_new_tokens=8),
            **options,
        }
    )


def test_a_run_measures_every_judge_on_the_same_pool(tmp_path):
    with Run.create(tmp_path / "run", "frontier", config_of(tmp_path)) as run:
        frontier(config_of(tmp_path), run)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))
    longer, shorter = summary["best_of_n"]["longer"], summary["best_of_n"]["shorter"]
    assert [p["n"] for p in longer] == [1, 2, 4, 8]
    assert all(p["score"] == pytest.approx(p["truth"]) for p in longer), "this judge is the truth itself"
    assert all(p["score"] == pytest.approx(-p["truth"]) for p in shorter)
    assert longer[0]["truth"] == pytest.approx(shorter[0]["truth"]), "best of one: nobody chose"
    assert sorted(p["truth"] for p in longer) == [p["truth"] for p in longer] and longer[-1]["truth"] > 1
    assert sorted(p["truth"] for p in shorter) == [p["truth"] for p in reversed(shorter)]
    by_judge = {result.subject: result for result in read_results(summary)}
    assert set(by_judge) == {"longer", "shorter"}
    assert by_judge["shorter"].value == shorter[-1]["truth"] < by_judge["shorter"].floor == shorter[0]["truth"]
    assert by_judge["longer"].facts["n"] == 8


def test_a_silent_judge_is_named(tmp_path):
    config_of(tmp_path)
    config = config_of(tmp_path, judges={"nobody": (FunctionConfig(function=f"{tmp_path / 'rules.py'}:silent"),)})
    with Run.create(tmp_path / "run", "frontier", config) as run, pytest.raises(UserError, match="nobody"):
        frontier(config, run)


def test_a_config_without_judges_is_refused(tmp_path):
    with pytest.raises(ValueError, match="judges"):
        config_of(tmp_path, judges={})
