"""Answers with ranks: as many as asked, ranked as the labeller says, noisy as Plackett and Luce have it."""

import json
import math

import pytest
import torch

from plaudit.data.options import DataConfig
from plaudit.data.sources import load
from plaudit.engines.options import SamplingConfig
from plaudit.errors import StopRequested, UserError
from plaudit.formulas.pair_scores import mean_pair_entropy
from plaudit.models.options import ModelConfig
from plaudit.records.text import Kind
from plaudit.rollouts.options import Shot, ShotsConfig
from plaudit.runs.folder import Run
from plaudit.training import collect as module
from plaudit.training.collect import collect, gumbel
from plaudit.training.options import CollectConfig, UnsureConfig
from tests.kills import kills
from tests.training.scripted import judge
from tests.training.tiny import jsonl, model_folder

PROMPTS = [{"prompt": "a"}, {"prompt": "b"}, {"prompt": [{"role": "user", "content": "x"}]}][:2]


def config(tmp_path, function: str = "letters", **options) -> CollectConfig:
    prompts = jsonl(tmp_path / "prompts.jsonl", [{"prompt": p} for p in ("a", "b", "ab", "ba", "c")])
    chosen = {
        "prompts": (DataConfig(path=prompts),),
        "model": ModelConfig(path=model_folder(tmp_path / "m", letters="abc")),
        "labeller": (judge(tmp_path, function),),
        "sampling": SamplingConfig(max_new_tokens=4, batch_size=8),
    }
    return CollectConfig(**{**chosen, **options})


def train(tmp_path, chosen: CollectConfig, name: str = "run", *, leaves: str = "rankings.jsonl") -> list[dict]:
    with Run.create(tmp_path / name, "collect", chosen) as run:
        collect(chosen, run)
    lines = (tmp_path / name / leaves).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_rankings_that_teach_nothing_are_counted(tmp_path, capsys):
    train(tmp_path, config(tmp_path, "stumbling"))
    assert "5 of 5 rankings are all ties" in capsys.readouterr().err


def test_every_prompt_has_k_answers_ranked_by_the_labeller(tmp_path):
    rows = train(tmp_path, config(tmp_path))
    assert [row["prompt"] for row in rows] == ["a", "b", "ab", "ba", "c"]
    for row in rows:
        assert len(row["responses"]) == len(row["ranks"]) == 4
        scores = [text.count("a") - text.count("b") for text in row["responses"]]
        for one, rank in zip(scores, row["ranks"], strict=True):
            assert rank == 1 + sum(other > one for other in scores)
    assert len({text for row in rows for text in row["responses"]}) > 5
    loaded = load(DataConfig(path=str(tmp_path / "run" / "rankings.jsonl")), Kind.RANKING)
    assert all(row.ranks for row in loaded.rows)
    assert json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))["rankings"] == 5


def test_without_a_labeller_the_different_answers_stay_unranked(tmp_path):
    ranked = train(tmp_path, config(tmp_path))
    rows = train(tmp_path, config(tmp_path, labeller=()), "bare", leaves="candidates.jsonl")
    assert not (tmp_path / "bare" / "rankings.jsonl").exists()
    sampling = {"temperature": 1.0, "seed": 0}
    for row, other in zip(rows, (one for one in ranked if len(set(one["responses"])) > 1), strict=True):
        assert [answer["text"] for answer in row["responses"]] == list(dict.fromkeys(other["responses"]))
        assert all(answer["model"] and answer["sampling"] == sampling for answer in row["responses"])
    loaded = load(DataConfig(path=str(tmp_path / "bare" / "candidates.jsonl")), Kind.CANDIDATES)
    assert (loaded.kind_found, len(loaded.rows)) == (Kind.CANDIDATES, len(rows))


@kills("training/collect.py", old="key=lambda i: (-rows[i][UNSURE], i)", new="key=lambda i: (rows[i][UNSURE], i)",
       why="the prompts on which the judge is surest")  # fmt: skip
def test_the_prompts_on_which_a_judge_is_least_sure_are_kept_and_a_random_share(tmp_path):
    rows = [{"prompt": str(i), module.UNSURE: i / 100} for i in range(100)]
    chosen = module.least_sure(
        rows, UnsureConfig(judge=(judge(tmp_path, "letters"),), prompts=20, random_share=0.25), 0
    )
    by = {why: [int(row["prompt"]) for row in chosen if row["chosen_by"] == why] for why in ("doubt", "chance")}
    assert (len(by["doubt"]), len(by["chance"])) == (15, 5)
    rest = [i for i in range(100) if i not in by["chance"]]
    assert by["doubt"] == rest[-15:]
    assert by["chance"] != list(range(95, 100))

    unsure = UnsureConfig(judge=(judge(tmp_path, "letters"),), prompts=2, random_share=0.0)
    kept = train(tmp_path, config(tmp_path, unsure=unsure), "few")
    assert len(kept) == 2
    for row in kept:
        scores = torch.tensor([float(text.count("a") - text.count("b")) for text in row["responses"]])
        assert row[module.UNSURE] == pytest.approx(mean_pair_entropy(scores))


def test_equal_answers_share_a_rank_whatever_the_noise(tmp_path):
    rows = train(tmp_path, config(tmp_path, noise=5.0, samples=12, sampling=SamplingConfig(max_new_tokens=1)))
    repeated = 0
    for row in rows:
        ranks = {}
        for text, rank in zip(row["responses"], row["ranks"], strict=True):
            assert ranks.setdefault(text, rank) == rank
        repeated += len(row["responses"]) - len(ranks)
    assert repeated > 10


def test_batches_and_seeds(tmp_path):
    """The cut into batches changes nothing, the seed everything."""
    chosen = config(tmp_path, noise=1.0)
    rows = train(tmp_path, chosen)
    assert rows == train(tmp_path, config(tmp_path, noise=1.0, sampling=SamplingConfig(max_new_tokens=4)), "two")
    assert rows != train(tmp_path, config(tmp_path, noise=1.0, seed=1), "three")


def test_answers_without_a_verdict_are_left_out(tmp_path, capsys):
    """The labeller abstains where there is a c: such answers carry no rank, and prompts need two that do."""
    rows = train(tmp_path, config(tmp_path, "shy", samples=3))
    assert 0 < len(rows) <= 5
    assert all("c" not in text for row in rows for text in row["responses"])
    assert all(len(row["responses"]) >= 2 for row in rows)
    assert any(len(row["responses"]) < 3 for row in rows) or len(rows) < 5
    assert ("prompts left out" in capsys.readouterr().err) == (len(rows) < 5)


def test_noise_makes_plackett_luce_rankings():
    """Utilities 1, 0, −1 with Gumbel noise: P(order) = Π e^u / Σ of those left; 6,000 rankings within 4 σ."""
    utilities, n = [1.0, 0.0, -1.0], 6000
    orders: dict[tuple[int, ...], int] = {}
    for i in range(n):
        noisy = [u + g for u, g in zip(utilities, gumbel(3, 0, f"prompt {i}"), strict=True)]
        order = tuple(sorted(range(3), key=lambda k: -noisy[k]))
        orders[order] = orders.get(order, 0) + 1
    weight = [math.exp(u) for u in utilities]
    for first, second, third in [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]:
        p = weight[first] / sum(weight) * weight[second] / (weight[second] + weight[third])
        assert abs(orders.get((first, second, third), 0) / n - p) < 4 * math.sqrt(p * (1 - p) / n)


def test_noise_is_a_function_of_seed_and_prompt():
    assert gumbel(2, 0, "x") == gumbel(2, 0, "x")
    assert len({tuple(gumbel(2, seed, prompt)) for seed in (0, 1) for prompt in ("x", "y")}) == 4


@kills(
    "training/collect.py",
    old="competition_ranks([-utilities[text] for text in responses])",
    new="competition_ranks([utilities[text] for text in responses])",
    why="the worst answer ranked first",
)
def test_nul_becomes_a_replacement_character(tmp_path):
    row = load(DataConfig(path=jsonl(tmp_path / "p.jsonl", [{"prompt": "a"}])), Kind.PROMPT).rows[0]
    fact = module._ranking(row, module.sound(["x\0", "y"]), [1.0, 2.0], config(tmp_path))
    assert fact == {"prompt": "a", "responses": ["x\ufffd", "y"], "ranks": [2, 1]}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "plain"},
        {"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]},
        {"prompt": "<s>a", "prompt_rendered": True},
    ],
)
def test_prompts_come_back_as_they_were(tmp_path, row):
    (read,) = load(DataConfig(path=jsonl(tmp_path / "p.jsonl", [row])), Kind.PROMPT).rows
    fact = module._ranking(read, ["x", "y"], [1.0, 2.0], config(tmp_path))
    (again,) = load(DataConfig(path=jsonl(tmp_path / "r.jsonl", [fact])), Kind.RANKING).rows
    assert again.prompt == read.prompt


def test_a_stop_leaves_no_half_file(tmp_path, monkeypatch):
    chosen = config(tmp_path)
    with Run.create(tmp_path / "run", "collect", chosen) as run:
        calls = []

        def stop():
            calls.append(1)
            if len(calls) > 5:
                raise StopRequested(15)

        monkeypatch.setattr(run, "check_stop", stop)
        with pytest.raises(StopRequested):
            collect(chosen, run)
    assert not (tmp_path / "run" / "rankings.jsonl").exists()
    with Run.open(tmp_path / "run") as run:
        collect(chosen, run)
        assert run.finished


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": ModelConfig(path="./nowhere")}, r"model\.path: no folder"),
        ({"sampling": SamplingConfig(max_new_tokens=31)}, r"prompts\.jsonl:1: 2 tokens"),
    ],
)
def test_mistakes_are_found_before_a_model_loads(tmp_path, monkeypatch, options, message):
    monkeypatch.setattr(module, "load_causal", lambda *_, **__: pytest.fail("a model was loaded"))
    with pytest.raises(UserError, match=message):
        train(tmp_path, config(tmp_path, **options))


@pytest.mark.parametrize("wrong", [{"samples": 1}, {"noise": -1.0}, {"labeller": (), "noise": 1.0}])
def test_impossible_options_are_refused(tmp_path, wrong):
    with pytest.raises(ValueError, match=r"samples|labeller|noise"):
        config(tmp_path, **wrong)


def test_a_stopped_run_goes_on_from_the_prompts_that_are_done(tmp_path, monkeypatch):
    """Two prompts a batch; the signal comes before the third batch."""
    whole = train(tmp_path, config(tmp_path), "whole")
    rank, done = module._answered, []

    def stopping(*asked):
        if len(done) == 2:
            raise StopRequested(15)
        done.append(asked)
        return rank(*asked)

    monkeypatch.setattr(module, "_answered", stopping)
    with pytest.raises(StopRequested):
        train(tmp_path, config(tmp_path), "stopped")
    monkeypatch.setattr(module, "_answered", lambda *asked: done.append(asked) or rank(*asked))
    with Run.open(tmp_path / "stopped") as run:
        collect(config(tmp_path), run)
    assert len(done) == 3
    lines = (tmp_path / "stopped" / "rankings.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == whole


def test_answers_behind_shots_are_ranked_by_their_own_prompt(tmp_path):
    shots = ShotsConfig(shown=(Shot(prompt="aa", response="b"),), shot="{prompt}{response}", separator="c")
    rows = train(tmp_path, config(tmp_path, shots=shots))
    plain = train(tmp_path, config(tmp_path), "plain")
    assert [row["prompt"] for row in rows] == [row["prompt"] for row in plain]
    assert not any("c" in text for row in rows for text in row["responses"])  # the separator ends an answer
    assert any("c" in text for row in plain for text in row["responses"])
    facts = json.loads((tmp_path / "run" / "provenance.json").read_text(encoding="utf-8"))
    assert facts["shots"] == [{"prompt": "aa", "response": "b", "where": ""}]
