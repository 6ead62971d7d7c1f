"""What a rollout file says of every token: numbers by hand, padding poisoned, abstained and empty rows."""

import dataclasses
import json
import math
import re
from types import SimpleNamespace

import pytest
import torch

from plaudit.records.tensors import Experience, Rollout, Scores
from plaudit.records.text import FinishReason, Prompt, PromptRow
from plaudit.tokens.template import Renderer
from plaudit.training.policy.rollout_records import rollout_rows
from plaudit.training.policy.scored import ScoredRollout
from tests.training.scripted import config, run
from tests.training.tiny import END, ids, rollouts, tokenizer

NAN = math.nan
MASK = torch.tensor([[True, True, True], [True, True, False], [False, False, False]])
OLD = torch.tensor([[-1.0, -2.0, -0.123456], [-1.5, -0.5, NAN], [NAN, NAN, NAN]])
REF = torch.tensor([[-1.5, -1.0, -0.123456], [-1.0, -2.5, NAN], [NAN, NAN, NAN]])
VALUES = torch.tensor([[0.5, 0.25, 0.0], [3.0, 4.0, NAN], [NAN, NAN, NAN]])
REWARDS = torch.tensor([[-0.05, 0.1, 2.0], [7.0, 7.0, 7.0], [NAN, NAN, NAN]])
ADVANTAGES = torch.tensor([[1.0, -1.0, 0.5], [8.0, 8.0, 8.0], [NAN, NAN, NAN]])
RETURNS = torch.tensor([[2.05, 2.1, 2.0], [9.0, 9.0, 9.0], [NAN, NAN, NAN]])
ENTROPY = torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, NAN], [NAN, NAN, NAN]])


def made() -> tuple[Rollout, Experience, Scores]:
    """`ab` with its end token; `ca`, cut by the limit, whose judge abstained; and nothing at all."""
    response_ids = torch.tensor([[*ids("ab"), END], [*ids("ca"), 99], [99, 99, 99]])
    rollout = Rollout(
        rows=tuple(PromptRow(prompt=Prompt.of_text(text)) for text in ("a", "b", "c")),
        responses=("ab", "ca", ""),
        finish_reasons=(FinishReason.EOS, FinishReason.LENGTH, FinishReason.EOS),
        prompt_ids=torch.ones(3, 1, dtype=torch.long),
        prompt_mask=torch.ones(3, 1, dtype=torch.bool),
        response_ids=response_ids,
        response_mask=MASK,
        sampler_logprobs=torch.zeros(3, 3),
    )
    valid = torch.tensor([True, False, True])
    scores = Scores(scores=torch.tensor([2.0, 0.0, -1.0]), valid=valid, parts={"judge": torch.tensor([2.0, NAN, -1.0])})
    experience = Experience(
        group_ids=torch.arange(3),
        prompt_ids=rollout.prompt_ids,
        prompt_mask=rollout.prompt_mask,
        response_ids=response_ids,
        response_mask=MASK & valid.unsqueeze(1),
        loss_mask=MASK & valid.unsqueeze(1),
        importance=MASK.float(),
        old_logprobs=OLD,
        ref_logprobs=REF,
        old_values=VALUES,
        scores=scores.scores,
        rewards=REWARDS,
        advantages=ADVANTAGES,
        returns=RETURNS,
    )
    return rollout, experience, scores


def rows(count: int = 9, scores: Scores | None = None) -> list[dict]:
    rollout, experience, said = made()
    renderer = Renderer(tokenizer())
    scored = ScoredRollout(rollout=rollout, scores=scores or said, outputs=SimpleNamespace(entropy=ENTROPY))
    return rollout_rows(scored, experience, renderer, count=count, kl_coef=0.1)


def test_every_column_is_the_rows_own():
    row, tokens = rows()[0], rows()[0]["tokens"]
    assert row["response"] == "ab"
    assert tokens["text"] == ["a", "b", "</s>"]
    assert tokens["id"] == [*ids("ab"), END]
    assert tokens["logprob"] == [-1.0, -2.0, -0.1235]  # four digits
    assert tokens["ref_logprob"] == [-1.5, -1.0, -0.1235]
    assert tokens["kl"] == [0.5, -1.0, 0.0]
    assert tokens["entropy"] == [0.1, 0.2, 0.3]
    assert tokens["value"] == [0.5, 0.25, 0.0]
    assert tokens["reward"] == [-0.05, 0.1, 2.0]
    assert tokens["advantage"] == [1.0, -1.0, 0.5]
    assert tokens["return"] == [2.05, 2.1, 2.0]
    assert "score" not in tokens
    assert (row["score"], row["parts"], row["kl_coef"]) == (2.0, {"judge": 2.0}, 0.1)
    assert (row["length"], row["finish_reason"]) == (3, "eos")
    assert row["kl"] == pytest.approx(-0.5)
    assert row["reward"] == pytest.approx(2.05)  # score − β KL = 2 + 0.05


def test_an_abstained_row_shows_what_there_is_of_it():
    row, tokens = rows()[1], rows()[1]["tokens"]
    assert (row["score"], row["reward"]) == (None, None)
    assert math.isnan(row["parts"]["judge"])
    assert (row["length"], row["finish_reason"], row["kl"]) == (2, "length", 1.5)
    assert tokens["text"] == ["c", "a"]
    assert tokens["kl"] == [-0.5, 2.0]
    assert tokens["value"] == [3.0, 4.0]
    assert tokens["reward"] == tokens["advantage"] == tokens["return"] == [None, None]


def test_an_empty_response_is_a_row_without_tokens():
    row = rows()[2]
    assert (row["response"], row["length"], row["kl"], row["reward"], row["score"]) == ("", 0, 0.0, 0.0, -1.0)
    assert all(column == [] for column in row["tokens"].values())


def test_no_padding_reaches_the_file():
    kept = rows()
    assert "NaN" not in json.dumps([{**row, "parts": {}} for row in kept])
    assert not any(99 in row["tokens"]["id"] for row in kept)


def test_scores_by_token_are_a_column():
    _, _, said = made()
    by_token = dataclasses.replace(said, token_scores=((0.5, 1.23456, 0.25), (0.0, 0.0), ()))
    assert [row["tokens"]["score"] for row in rows(scores=by_token)] == [[0.5, 1.235, 0.25], [0.0, 0.0], []]


def test_count_is_at_most_what_there_is():
    assert [len(rows(count)) for count in (0, 2, 9)] == [0, 2, 3]


def test_a_run_writes_them(tmp_path):
    """Σ rewards = score − β Σ KL, in a file that PPO wrote; the tokens spell the response."""
    kept = rollouts(run(tmp_path, config(tmp_path)), 2)
    assert len(kept) == 8
    assert any(abs(row["kl"]) > 0.01 for row in kept)
    for row in kept:
        tokens = row["tokens"]
        assert len({len(column) for column in tokens.values()}) == 1
        assert re.sub("<s>|</s>|<unk>", "", "".join(tokens["text"])) == row["response"]
        assert sum(tokens["kl"]) == pytest.approx(row["kl"], abs=1e-3)
        assert row["reward"] == pytest.approx(row["score"] - row["kl_coef"] * row["kl"], abs=1e-5)
        assert sum(tokens["reward"]) == pytest.approx(row["reward"], abs=1e-2)
        assert (tokens["text"][-1] == "</s>") == (row["finish_reason"] == "eos")
