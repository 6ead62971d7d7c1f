"""Where a number isn't finite, its place is named, and what was learned before is kept."""

import json

import pytest

from plaudit.data.options import DataConfig
from plaudit.errors import UserError
from plaudit.runs.folder import Run
from plaudit.training import sft as module
from plaudit.training.options import OptimConfig, SFTConfig
from plaudit.training.policy import scored
from plaudit.training.sft import sft
from tests.training.scripted import config, run
from tests.training.tiny import jsonl, metrics


def demonstrations(tmp_path, **options) -> SFTConfig:
    rows = [{"prompt": "a" * i, "response": "bc"[i % 2]} for i in range(1, 13)]
    data = (DataConfig(path=jsonl(tmp_path / "rows.jsonl", rows)),)
    return SFTConfig(data=data, model=config(tmp_path).model, minibatch_size=4, **options)


def test_a_fine_tuning_that_diverges_says_so_though_it_measures(tmp_path):
    wild = OptimConfig(learning_rate=1e12, max_grad_norm=0.0)
    chosen = demonstrations(tmp_path, held_out_fraction=0.3, epochs=9, optim=wild, evaluate_every=1)
    with Run.create(tmp_path / "run", "sft", chosen) as run_, pytest.raises(UserError) as error:
        sft(chosen, run_)
    assert "the loss is nan, of every row alone: the weights have gone too far" in str(error.value)
    assert metrics(tmp_path / "run")[0]["sft/held_out_loss_over_tokens"] > 0
    with Run.open(tmp_path / "run") as again:
        assert again.latest() is not None


def test_the_row_whose_loss_is_no_number_is_named(tmp_path, monkeypatch):
    """One row of twelve: the steps without it are taken."""
    true = module.nll_backward

    def broken(trunk, rows, budget, machine):
        loss = true(trunk, rows, budget, machine)
        return float("nan") if any(len(prompt) == 6 for prompt, _ in rows) else loss

    monkeypatch.setattr(module, "nll_backward", broken)
    chosen = demonstrations(tmp_path, held_out_fraction=0.0)
    with Run.create(tmp_path / "run", "sft", chosen) as run_:
        sft(chosen, run_)
    events = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    (said,) = [event["message"] for event in events if "was not taken" in event["message"]]
    (step,) = (tmp_path / "run" / "skipped").iterdir()
    rows = json.loads((step / "batch.json").read_text(encoding="utf-8"))["rows"]
    (at,) = [i for i, row in enumerate(rows, 1) if row.index("]") == len(str([1] * 6))]
    assert f"the loss is nan, of row {at} of the minibatch alone." in said


def test_a_judge_that_says_nan_in_mid_run_is_named_with_the_answer_and_nothing_is_lost(tmp_path, monkeypatch):
    asked, chosen = [], config(tmp_path, iterations=4, save_every=100)
    original = scored.check_scores

    def poisoned(name, scores, num, groups):
        asked.append(1)
        if len(asked) == 3:
            scores.scores[1] = float("nan")
        return original(name, scores, num, groups)

    monkeypatch.setattr(scored, "check_scores", poisoned)
    with pytest.raises(UserError, match=r"scorer 'letters': the answer '[abc]*' to '\w+' scores nan"):
        run(tmp_path, chosen)
    with Run.open(tmp_path / "run") as again:
        assert again.latest().name == "000008"  # two iterations of four updates
