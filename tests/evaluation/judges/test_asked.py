"""A language model as a judge where judges stand: measured by `eval reward`, trusted by PPO, deciding in `compare`."""

import json
from dataclasses import replace

import pytest
import torch

from plaudit.data.options import DataConfig
from plaudit.engines.options import SamplingConfig
from plaudit.errors import UserError
from plaudit.evaluation.compare import compare
from plaudit.evaluation.options import CompareConfig, RewardEvalConfig
from plaudit.evaluation.reward_eval import reward_eval
from plaudit.formulas.intervals import clustered_interval
from plaudit.models.options import ModelConfig
from plaudit.records.results import Result
from plaudit.runs.folder import Run
from plaudit.scoring.asking.calibration import check_calibrated
from plaudit.scoring.build import asking_scorer, check_rewards
from plaudit.scoring.options import GenerativeJudgeConfig, QuestionConfig
from plaudit.telemetry.summary import read_results
from plaudit.tokens.template import Renderer
from plaudit.training.collect import CollectConfig
from plaudit.training.collect import participants as collecting
from plaudit.training.policy.config import PPOConfig
from plaudit.training.policy.participants import participants
from tests.kills import kills
from tests.scoring.asking.fake import config, fake_server, group, shown
from tests.training.tiny import CPU, hf, jsonl, model_folder

RANKINGS = [
    {"prompt": "p", "responses": ["aaa", "b"], "ranks": [1, 2]},
    {"prompt": "q", "responses": ["bb", "aaaa", "c"], "ranks": [2, 1, 3]},
    {"prompt": "r", "responses": ["cc", "a"], "ranks": [2, 1]},
    {"prompt": "s", "responses": ["d", "dd"], "ranks": [2, 1]},
]


def longer(asked, _) -> str:
    """The longer answer is better, except that of "cc" and "a" it is whoever is shown first."""
    a, b = shown(asked, "answer-a"), shown(asked, "answer-b")
    if {a, b} == {"cc", "a"}:
        return "[[A>B]]"
    if {a, b} == {"d", "dd"} and asked["seed"] == 1:
        return "[[A=B]]"
    return "[[A>B]]" if len(a) > len(b) else "[[B>>A]]"


def measured(folder, judge) -> tuple[dict[str, Result], dict]:
    jsonl(folder / "labels.jsonl", RANKINGS)
    chosen = RewardEvalConfig(data=(DataConfig(path=str(folder / "labels.jsonl")),), models=(judge,))
    with Run.create(folder / "run", "reward_eval", chosen) as run:
        reward_eval(chosen, run)
        results = [r for r in read_results(run.summary) if r.subject == "judge" and not r.part]
    (line,) = (folder / "run" / "calibration.jsonl").read_text(encoding="utf-8").splitlines()
    return {result.measure: result for result in results}, json.loads(line)


@kills(
    "scoring/asking/scorer.py",
    old="!= (turned < 0) - (turned > 0)",
    new="!= (turned > 0) - (turned < 0)",
    why="turned is not turned",
)
@kills("evaluation/judges/consistency.py", old="prompts += [prompt] * trials", new="prompts += map(str, range(trials))",
       why="verdicts of one prompt as trials of their own")  # fmt: skip
def test_a_judge_is_measured_before_it_decides(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("PLAUDIT_JUDGE_KEY", "sk-secret-1")
    with fake_server(longer) as server:
        judge = config(server, tmp_path / "cache", {"form": "pair"}, weight=2.0)
        results, line = measured(tmp_path, judge)
    level = clustered_interval([0.0, 0.0, 0.0, 0.0, 1.0, 0.0], ["p", "q", "q", "q", "r", "s"])
    assert (results["inconsistent_over_pairs"].low, results["inconsistent_over_pairs"].high) == pytest.approx(level)
    assert results["first_shown_wins_over_verdicts"].count == 12
    # Six pairs: five by length, which the labels follow in all but cc against a; that one is level.
    assert results["held_out_accuracy_over_pairs"].value == pytest.approx(5.5 / 6)
    assert results["inconsistent_over_pairs"].value == pytest.approx(1 / 6)
    # Ten verdicts by length, five of them for the answer shown first, and both about cc and a.
    assert results["first_shown_wins_over_verdicts"].value == pytest.approx(7 / 12)
    assert results["same_again_over_pairs"].value == pytest.approx(5.5 / 6)
    assert results["unreadable_over_replies"].value == 0.0
    assert {"length_correlation_over_responses", "accuracy_where_longer_over_pairs"} <= set(results)
    assert {r["measure"] for r in line["results"]} >= {"held_out_accuracy_over_pairs", "same_again_over_pairs"}
    assert not [f for f in tmp_path.rglob("*") if f.is_file() and b"sk-secret-1" in f.read_bytes()]

    def trusted(**options) -> None:
        question = {"form": "pair", **options.pop("question", {})}
        check_calibrated([config(server, tmp_path / "other", question, **options)])

    with pytest.raises(UserError, match=r"rewards\.0\.calibration: 'judge' was never measured"):
        trusted()
    prompts = (DataConfig(path=str(tmp_path / "labels.jsonl"), kind="prompt"),)
    ppo = PPOConfig(prompts=prompts, rewards=(judge,), model=ModelConfig(path="tiny"))
    with pytest.raises(UserError, match="never measured"):
        participants(ppo, Run.memory("ppo", ppo))
    jsonl(tmp_path / "asked.jsonl", [{"prompt": "ab", "references": "zz"}])
    prompts, run = (DataConfig(path=str(tmp_path / "asked.jsonl")),), Run.memory("ppo", {})
    own = ModelConfig(path=model_folder(tmp_path / "policy", letters="ab"))
    believed = replace(judge, uncalibrated=True)
    answering = SamplingConfig(max_new_tokens=3)
    ppo = PPOConfig(prompts=prompts, rewards=(believed,), model=own, sampling=answering)
    collect = CollectConfig(prompts=prompts, labeller=(judge,), model=own, sampling=answering)
    # While a server is waited for, both hear that they are to stop.
    (asked, _), *_ = participants(ppo, run).scorer.parts
    (labeller, _), *_ = collecting(collect, run).labeller.parts
    assert asked.answerer.check_stop == labeller.answerer.check_stop == run.check_stop
    trusted(uncalibrated=True)
    trusted(calibration=str(tmp_path / "run"), name="another", question={"seed": 9})
    with pytest.raises(UserError, match="not this judge"):
        trusted(calibration=str(tmp_path / "run" / "calibration.jsonl"), question={"max_tokens": 5})
    with pytest.raises(UserError, match="can't be read"):
        trusted(calibration=str(tmp_path / "nowhere"))
    poor = line["results"][0] | {"measure": "held_out_accuracy_over_pairs", "low": 0.4, "floor": 0.5}
    jsonl(tmp_path / "bad.jsonl", [line | {"results": [poor]}])
    trusted(calibration=str(tmp_path / "bad.jsonl"))
    assert "hardly better than by chance" in caplog.text


@kills("evaluation/compare.py", old="self.beside.get(other, self.scores)", new="self.scores",
       why="a third policy decides between two")  # fmt: skip
def test_a_comparison_shows_it_every_two_policies_answers(tmp_path):
    jsonl(tmp_path / "prompts.jsonl", [{"prompt": p, "references": "zz"} for p in ("a", "b", "ab", "ba")])
    for seed, name in enumerate(names := ("old", "new", "newer")):
        model_folder(tmp_path / name, letters="ab", spread=0.4, seed=seed)

    def most_a(asked, _) -> str:
        a, b = shown(asked, "answer-a").count("a"), shown(asked, "answer-b").count("a")
        return "[[A>B]]" if a > b else "[[B>A]]" if b > a else "[[A=B]]"

    with fake_server(most_a) as server:
        chosen = CompareConfig(
            prompts=(DataConfig(path=str(tmp_path / "prompts.jsonl")),),
            policies={name: str(tmp_path / name) for name in names},
            baseline="old",
            judge=(config(server, tmp_path / "cache", {"form": "pair"}),),
            sampling=SamplingConfig(max_new_tokens=3),
        )
        with Run.create(tmp_path / "run", "compare", chosen) as run:
            compare(chosen, run)
            results = read_results(run.summary)
        assert not any("zz" in text for text in server.texts())
    samples = [json.loads(line) for line in (tmp_path / "run" / "samples.jsonl").read_text().splitlines()]
    assert any(s["before"] != s["after"] for s in samples)
    for sample in samples:
        ahead = sample["after"].count("a") - sample["before"].count("a")
        assert sample["score_after"] == -sample["score_before"] == (ahead > 0) - (ahead < 0)
    for name in names[1:]:
        own = [(1.0 + s["score_after"]) / 2.0 for s in samples if s["policy"] == name]
        (won,) = [r.value for r in results if r.subject == name and r.measure == "win_rate_over_prompts"]
        assert won == pytest.approx(sum(own) / 4)
    assert len({s["score_before"] for s in samples if s["prompt"] == "a"}) > 1  # not one score for all games


@kills("scoring/asking/in_process.py", old="([*one, *self.shared], tokens)", new="(one, tokens)",
       why="what stands before every digit is not read")  # fmt: skip
@kills("scoring/asking/in_process.py", old="one[shared : shared + 1]", new="one[:1]",
       why="the first token of all digits: SentencePiece's ▁")  # fmt: skip
def test_the_same_questions_in_this_process(tmp_path, monkeypatch):
    folder = model_folder(tmp_path / "model", letters="ab123", spread=0.5, context=64)
    (tmp_path / "own.md").write_text("=== user\n{prompt}{response}", encoding="utf-8")
    question = QuestionConfig(read="logprobs", scale=(1, 3), prompt=str(tmp_path / "own.md"))
    scorer = asking_scorer(GenerativeJudgeConfig(path=folder, question=question), CPU)
    scores = scorer.score([group("ab", "b"), group("bbb", prompt="a")]).scores
    with torch.no_grad():
        logits = hf(folder)(torch.tensor([[0, 3, 4, 4, 4]])).logits[0, -1, 5:8]  # <s> a bbb
    assert scores[2].item() == pytest.approx((logits.softmax(0) @ torch.tensor([1.0, 2.0, 3.0])).item(), rel=1e-4)
    assert len({round(score, 6) for score in scores.tolist()}) == 3

    # A tokenizer that writes something in front of every digit, as SentencePiece does.
    plain = Renderer.response_ids
    monkeypatch.setattr(Renderer, "response_ids", lambda *asked: [4, *plain(*asked)])
    behind = asking_scorer(GenerativeJudgeConfig(path=folder, question=question), CPU)
    assert behind.score([group("bb", prompt="a")]).scores[0].item() == pytest.approx(scores[2].item(), rel=1e-4)
    monkeypatch.setattr(Renderer, "response_ids", lambda *asked: [4])
    with pytest.raises(UserError, match="don't tell the digits 1 to 3 apart"):
        asking_scorer(GenerativeJudgeConfig(path=folder, question=question), CPU)
    monkeypatch.undo()

    writes = QuestionConfig(prompt=str(tmp_path / "own.md"), pattern="([ab123])", scale=(1, 3), max_tokens=4)
    scorer = asking_scorer(GenerativeJudgeConfig(path=folder, question=writes, on_error="abstain"), CPU)
    long = "ab" * 40
    answered = scorer.score([group("ab", long)])
    assert answered.valid.tolist()[1] is False
    assert (scorer.tally.counts["replies"], scorer.tally.counts["timed_out"]) == (1, 1)
    with pytest.raises(UserError, match="has room for 60"):
        asking_scorer(GenerativeJudgeConfig(path=folder, question=writes), CPU).score([group(long)])
    with pytest.raises(UserError, match=r"rewards\.0\.path"):
        check_rewards([GenerativeJudgeConfig(path=str(tmp_path / "none"))], [])
