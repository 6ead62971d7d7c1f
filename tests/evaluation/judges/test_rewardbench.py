"""RewardBench 2's score of fifty rows shaped like its own, beside what its published code makes of the same scores."""

import math
import random

import pytest

from plaudit.data.options import DataConfig
from plaudit.errors import UserError
from plaudit.evaluation.judges.rewardbench import best_of, rewardbench2, ties_score
from plaudit.evaluation.judges.rows import read_labelled, score_rows
from plaudit.evaluation.options import RewardEvalConfig
from plaudit.evaluation.reward_eval import reward_eval
from plaudit.runs.folder import Run
from plaudit.scoring.functions import function_scorer
from plaudit.scoring.options import FunctionConfig
from tests.kills import kills
from tests.training.tiny import jsonl

PUBLISHED = {
    "Factuality": 0.3,
    "Precise IF": 0.3833333333333333,
    "Math": 0.4833333333333333,
    "Ties": 0.5572654505812847,
}
"""Computed once by a transcription of rewardbench/utils.py (`reroll_and_score_dataset`, `process_single_model`)."""
RULE = """
def last_word(completions, **columns):
    return [None if text.endswith("?") else float(text.split()[-1]) for text in completions]
"""


def rows() -> list[dict]:
    """Each answer ends with its score; ties at the top, and questions whose correct answers all score alike."""
    draw, out = random.Random(7), []
    for i in range(30):
        s = [draw.randint(0, 5) / 2 for _ in range(4)]
        s[0] = max(s) if i % 4 == 0 else s[0]
        out.append(row(str(i), ("Factuality", "Precise IF", "Math")[i % 3], f"question {i}", s[:1], s[1:]))
    for n in range(10):
        right, top = draw.randint(2, 4), draw.choice((2.0, 3.0, 6.0))
        good = [top + draw.randint(0, 4) / 4 * draw.choice((0, 1, 1)) for _ in range(right)]
        good = [top] * right if n in (3, 7) else good
        ref = [draw.choice((2.0, 3.0, 6.0))] + [draw.randint(0, 6) / 2 for _ in range(3)]
        wrong = [draw.randint(0, 6) / 2 for _ in range(4)]
        out += [
            row(f"ref:{n}", "Ties", f"ref {n}", ref[:1], ref[1:]),
            row(f"tied:{n}", "Ties", f"tied {n}", good, wrong),
        ]
    return out


def row(own_id: str, subset: str, prompt: str, good: list[float], bad: list[float]) -> dict:
    texts = [[f"{prompt} {side}{j} {x}" for j, x in enumerate(own)] for side, own in (("c", good), ("r", bad))]
    return {
        "id": own_id,
        "prompt": prompt,
        "chosen": texts[0],
        "rejected": texts[1],
        "num_correct": len(good),
        "num_incorrect": len(bad),
        "total_completions": len(good) + len(bad),
        "models": ["m"] * (len(good) + len(bad)),
        "subset": subset,
        "additional_metadata": {},
    }


def scored(folder, table):
    jsonl(folder / "rb2.jsonl", table)
    (folder / "rule.py").write_text(RULE, encoding="utf-8")
    judge = FunctionConfig(function=f"{folder / 'rule.py'}:last_word", isolate=False)
    labelled = read_labelled((DataConfig(path=str(folder / "rb2.jsonl")),), "subset")
    return score_rows("judge", function_scorer(judge), labelled), judge


@kills(
    "evaluation/judges/rewardbench.py", old="1.0 / scores.count(highest)", new="1.0", why="a shared top counts whole"
)
@kills("evaluation/judges/rewardbench.py", old="margin / spread - 1.0", new="margin / spread", why="margins from 0")
@kills(
    "evaluation/judges/rewardbench.py",
    old="0.2 * fmean(min(ref, tied) > spread",
    new="0.2 * fmean(max(ref, tied) > spread",
    why="the easier of the two rows",
)
def test_it_scores_as_the_published_code_does(tmp_path):
    table = rows()
    assert len(table) == 50
    judged, judge = scored(tmp_path, table)
    whole, *parts = rewardbench2(judged)
    assert {part.part: part.value for part in parts} == pytest.approx(PUBLISHED, abs=1e-12)
    assert (whole.part, whole.value) == ("", pytest.approx(sum(PUBLISHED.values()) / 4))
    assert [part.floor for part in parts] == [0.25, 0.25, 0.25, None]
    data = (DataConfig(path=str(tmp_path / "rb2.jsonl")),)
    chosen = RewardEvalConfig(data=data, models=(judge,), benchmark="rewardbench2")
    with Run.create(tmp_path / "run", "reward_eval", chosen) as run:
        reward_eval(chosen, run)
        found = [r for r in run.summary["results"] if r["measure"] == whole.measure]
    assert [r["value"] for r in found] == [r.value for r in (whole, *parts)]


@kills("evaluation/judges/rewardbench.py", old="scores[ranks.index(1)] == highest", new="scores[0] == highest",
       why="the first answer is taken for the correct one")  # fmt: skip
def test_abstentions_and_rows_of_something_else(tmp_path):
    assert best_of((1, 2, 2), (-math.inf, -math.inf, 0.0)) == best_of((1, 2), (-math.inf, -math.inf)) == 0.0
    assert best_of((1, 2, 2, 2), (1.0, 1.0, 0.0, 1.0)) == pytest.approx(1 / 3)
    assert (best_of((2, 1), (0.0, 3.0)), best_of((2, 1), (3.0, 0.0))) == (1.0, 0.0)
    for ranks in ((1, 1, 2), (2, 3)):
        with pytest.raises(UserError, match=r"here: \d answers of rank 1"):
            best_of(ranks, (1.0,) * len(ranks), "here")
    silent = [("ref:0", (1, 2), (-math.inf, 0.0)), ("tied:0", (1, 1, 2), (3.0, 3.0, -math.inf))]
    assert ties_score(silent) == pytest.approx(0.3 + 0.2 - 0.01)
    with pytest.raises(UserError, match="neither"):
        ties_score([("7", (1, 2), (1.0, 0.0))])
    with pytest.raises(UserError, match="both its rows"):
        ties_score([("ref:1", (1, 2), (1.0, 0.0))])
