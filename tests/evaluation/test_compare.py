"""Policies side by side: the same prompts, the same luck; a policy against itself is a tie."""

import json
import math
from pathlib import Path

import pytest
import torch

from plaudit.data.options import DataConfig
from plaudit.engines.options import SamplingConfig
from plaudit.errors import UserError
from plaudit.evaluation import compare as module
from plaudit.evaluation.compare import compare
from plaudit.evaluation.options import CompareConfig, ObjectiveConfig
from plaudit.records.results import Result
from plaudit.rollouts.options import Shot, ShotsConfig
from plaudit.runs.folder import Run
from plaudit.scoring.options import FunctionConfig
from plaudit.telemetry.summary import read_results
from tests.kills import kills
from tests.training.tiny import END, hf, hf_logprobs, ids, jsonl, model_folder

PROMPTS = ["a", "b", "ab", "ba", "aa", "bb", "aab", "abb"]
JUDGE = '''
import itertools


def count_a(completions, **columns):
    return [float(text.count("a")) for text in completions]


def shy(completions, **columns):
    return [None if "b" in text else float(text.count("a")) for text in completions]


def mute(completions, **columns):
    return [None for _ in completions]


def words(prompt):
    """Everything that two letters and an end can say."""
    return ["".join(word) for n in range(3) for word in itertools.product("ab", repeat=n)]
'''


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("compare")
    (folder / "judge.py").write_text(JUDGE, encoding="utf-8")
    jsonl(folder / "prompts.jsonl", [{"prompt": p} for p in PROMPTS])
    for seed, name in enumerate(("old", "new")):
        model_folder(folder / name, letters="ab", spread=0.4, seed=seed)
    return folder


def judge(place: Path, name: str = "count_a") -> tuple[FunctionConfig, ...]:
    return (FunctionConfig(function=f"{place / 'judge.py'}:{name}"),)


def config(place: Path, **options) -> CompareConfig:
    return CompareConfig(
        **{
            "prompts": (DataConfig(path=str(place / "prompts.jsonl")),),
            "policies": {"old": str(place / "old"), "new": str(place / "new"), "twin": str(place / "old")},
            "baseline": "old",
            "judge": judge(place),
            "sampling": SamplingConfig(max_new_tokens=3, temperature=0.8),
            **options,
        }
    )


def run(folder: Path, chosen: CompareConfig) -> tuple[dict, list[dict]]:
    with Run.create(folder, "compare", chosen) as made:
        compare(chosen, made)
        samples = (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()
        return made.summary, [json.loads(line) for line in samples]


def found(summary: dict, name: str, measure: str) -> Result:
    (result,) = [r for r in read_results(summary) if r.subject == name and r.measure == measure]
    return result


def test_a_policy_against_itself_is_a_tie_without_kl(place, tmp_path):
    summary, samples = run(tmp_path / "run", config(place))
    won = found(summary, "twin", "win_rate_over_prompts")
    assert (won.value, won.against, won.count, won.ties) == (0.5, "old", 8, 8)
    assert won.low < 0.5 < won.high
    level = ("length_controlled_win_rate_over_prompts", "elo_over_prompts", "bradley_terry_over_prompts")
    assert [found(summary, "twin", key).value for key in level] == pytest.approx([0.5, 1000.0, 0.0], abs=1e-9)
    assert found(summary, "twin", "kl_baseline_over_prompts").value == 0.0
    assert summary["policies"]["twin"] == summary["policies"]["old"]
    assert summary["policies"]["old"]["kl"] == 0.0
    for sample in samples:
        if sample["policy"] == "twin":
            assert sample["before"] == sample["after"]
            assert sample["kl"] == 0.0
    assert [r.measure for r in read_results(summary) if r.subject == "old"] == ["judge_score_over_prompts"]


def test_scores_win_rates_and_samples_agree(place, tmp_path):
    summary, samples = run(tmp_path / "run", config(place))
    new = [sample for sample in samples if sample["policy"] == "new"]
    assert [sample["prompt"] for sample in new] == PROMPTS
    assert all(s["score_after"] == s["after"].count("a") for s in new)
    assert all(s["score_before"] == s["before"].count("a") for s in new)
    wins = sum((s["score_after"] > s["score_before"]) + 0.5 * (s["score_after"] == s["score_before"]) for s in new)
    assert found(summary, "new", "win_rate_over_prompts").value == pytest.approx(wins / 8)
    mean = sum(s["score_after"] for s in new) / 8
    assert found(summary, "new", "judge_score_over_prompts").value == pytest.approx(mean)
    assert summary["policies"]["new"]["score"] == pytest.approx(mean)
    kl = found(summary, "new", "kl_baseline_over_prompts")
    assert summary["policies"]["new"]["kl"] == pytest.approx(kl.value) == pytest.approx(sum(s["kl"] for s in new) / 8)
    assert kl.low < kl.value < kl.high


@torch.no_grad()
def test_the_kl_is_that_of_the_two_models_at_the_samplings_temperature(place, tmp_path, monkeypatch):
    written = []
    honest = module.groups
    monkeypatch.setattr(module, "groups", lambda rollout: written.append(rollout) or honest(rollout))
    _, samples = run(tmp_path / "run", config(place, policies={n: str(place / n) for n in ("old", "new")}))
    (rollout,) = written[1:]
    models = {name: hf(place / name) for name in ("new", "old")}
    for i, sample in enumerate(samples):
        response = rollout.response_ids[i][rollout.response_mask[i]].tolist()
        prompt = [0, *ids(sample["prompt"], "ab")]
        new, old = (hf_logprobs(models[name], prompt, response, 0.8).sum().item() for name in ("new", "old"))
        assert sample["kl"] == pytest.approx(new - old, abs=1e-5)


def test_an_abstained_prompt_is_left_out_of_score_and_rate(place, tmp_path):
    summary, samples = run(tmp_path / "run", config(place, judge=judge(place, "shy")))
    new = [s for s in samples if s["policy"] == "new"]
    assert all((s["score_after"] is None) == ("b" in s["after"]) for s in new)
    both = [s for s in new if s["score_after"] is not None and s["score_before"] is not None]
    assert 0 < len(both) < 8
    assert found(summary, "new", "win_rate_over_prompts").count == len(both)
    kept = [s["score_after"] for s in new if s["score_after"] is not None]
    assert found(summary, "new", "judge_score_over_prompts").value == pytest.approx(sum(kept) / len(kept))


def test_a_judge_that_says_nothing_of_all_answers_is_named(place, tmp_path):
    with pytest.raises(UserError, match=r"judge 'mute': abstained on all 8 answers"):
        run(tmp_path / "run", config(place, judge=judge(place, "mute")))


def test_the_terminal_describes_each_policy_in_a_line(place, tmp_path, capsys):
    summary, _ = run(tmp_path / "run", config(place, judge=judge(place, "shy")))
    facts = summary["policies"]["new"]
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("new:")]
    assert f"score {facts['score']:.3g}, KL {facts['kl']:.3g} nats" in line
    assert f"{facts['length_rate']:.0%} cut by the limit" in line
    assert "of 8 answers not judged" in line


@torch.no_grad()
def exact_objective(place: Path, name: str, beta: float, prompts: list[str]) -> float:
    """J by enumeration of every token sequence of at most three tokens, at temperature 0.8."""
    policy, reference = hf(place / name), hf(place / "old")
    others = [t for t in range(5) if t != END]
    total = 0.0
    for prompt in prompts:
        x = [0, *ids(prompt, "ab")]
        for y in [(END,), *((t, END) for t in others), *((s, t, u) for s in others for t in others for u in range(5))]:
            p, q = (hf_logprobs(model, x, y, 0.8).double().sum().item() for model in (policy, reference))
            total += math.exp(p) * (sum(t == 3 for t in y) - beta * (p - q))
    return total / len(prompts)


def test_the_objective_is_estimated_without_bias(place, tmp_path):
    objective = ObjectiveConfig(rewards=judge(place), kl_coef=0.3, prompts=2, samples=400)
    summary, _ = run(tmp_path / "run", config(place, objective=objective))
    for name in ("old", "new"):
        result = found(summary, name, "objective_over_prompts")
        exact = exact_objective(place, name, 0.3, PROMPTS[:2])
        error = (result.high - result.low) / 2 / 1.96
        assert abs(result.value - exact) < 4 * error
        assert error < 0.06
        assert result.floor == found(summary, "old", "objective_over_prompts").value
        assert (result.ceiling, result.facts) == (None, {"kl_coef": 0.3})


def test_progress_is_the_share_of_the_way_to_the_optimum(place, tmp_path):
    objective = ObjectiveConfig(
        rewards=judge(place), kl_coef=0.3, prompts=2, samples=64, answers=f"{place / 'judge.py'}:words"
    )
    summary, _ = run(tmp_path / "run", config(place, objective=objective))
    old, new = (found(summary, name, "progress_over_prompts") for name in ("old", "new"))
    assert old.value == 0.0
    assert (old.floor, old.ceiling) == (0.0, 1.0)
    assert new.facts["J_star"] == old.facts["J_star"] > new.facts["J_ref"] == old.facts["J"]
    way = new.facts["J_star"] - new.facts["J_ref"]
    assert new.value == pytest.approx((new.facts["J"] - new.facts["J_ref"]) / way)
    assert new.low < new.value < new.high
    own = found(summary, "new", "objective_over_prompts")
    assert (own.value, own.floor, own.ceiling) == tuple(new.facts[key] for key in ("J", "J_ref", "J_star"))
    assert 0 < own.facts["mass"] < 1


def test_a_judge_that_abstains_leaves_no_objective(place, tmp_path):
    objective = ObjectiveConfig(rewards=judge(place, "shy"), kl_coef=0.3)
    with pytest.raises(UserError, match=r"objective\.rewards: a judge abstained"):
        run(tmp_path / "run", config(place, objective=objective))


def test_the_same_seed_twice_is_the_same_comparison(place, tmp_path):
    one, two = (run(tmp_path / name, config(place)) for name in ("one", "two"))
    assert one == two
    assert run(tmp_path / "three", config(place, seed=1)) != one


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policies": {"old": "./nowhere"}}, r"policies\.old: no folder './nowhere'"),
        ({"judge": (FunctionConfig(function="nothing"),)}, "no built-in reward function 'nothing'"),
        ({"sampling": SamplingConfig(max_new_tokens=30)}, r"prompts\.jsonl:3: 3 tokens"),
    ],
)
def test_mistakes_are_found_before_a_model_loads(place, tmp_path, monkeypatch, options, message):
    monkeypatch.setattr(module, "load_causal", lambda *_, **__: pytest.fail("a model was loaded"))
    with pytest.raises(UserError, match=message):
        run(tmp_path / "run", config(place, **options))


def test_a_judge_that_is_missing_is_named_by_its_own_option(place, tmp_path):
    from plaudit.scoring.options import RewardModelConfig

    with pytest.raises(UserError, match=r"judge\.0\.path: no folder './gone'"):
        run(tmp_path / "run", config(place, judge=(RewardModelConfig(path="./gone"),)))


def test_other_tokens_are_refused(place, tmp_path, monkeypatch):
    other = model_folder(tmp_path / "other", letters="abc")
    monkeypatch.setattr(module, "load_causal", lambda *_, **__: pytest.fail("a model was loaded"))
    with pytest.raises(UserError, match=r"policies\.other: its tokens are not those of 'old'"):
        run(tmp_path / "run", config(place, policies={"old": str(place / "old"), "other": other}))


def test_a_baseline_that_is_none_of_the_policies_is_refused(place):
    with pytest.raises(ValueError, match="baseline 'older' is none of the policies old, new, twin"):
        config(place, baseline="older")


@torch.no_grad()
@kills("evaluation/compare.py", old="self.shots.get(name)) for row", new="None) for row",
       why="a baseline with shots is asked without them")  # fmt: skip
@kills("evaluation/compare.py", old="if reference_prompts is not None:", new="if reference_prompts is None:",
       why="the baseline reads the other policy's shots")  # fmt: skip
def test_each_policy_reads_its_own_shots_and_the_judge_none(place, tmp_path, monkeypatch):
    written = []
    honest = module.groups
    monkeypatch.setattr(module, "groups", lambda rollout: written.append(rollout) or honest(rollout))
    given = Shot(prompt="aa", response="a")
    shots = {
        name: ShotsConfig(shown=(given,) * k, shot="{prompt}{response}", separator="b")
        for name, k in (("old", 2), ("twin", 1))
    }
    policies = {"twin": str(place / "old"), "old": str(place / "old"), "new": str(place / "new")}
    chosen = config(place, shots=shots, policies=policies)
    _, samples = run(tmp_path / "run", chosen)
    assert [s["prompt"] for s in samples[:8]] == PROMPTS
    facts = json.loads((tmp_path / "run" / "provenance.json").read_text(encoding="utf-8"))["shots"]
    assert facts["twin"] == [{"prompt": "aa", "response": "a", "where": ""}]
    models = {name: hf(str(place / name)) for name in ("old", "new")}
    front = {"old": "aaabaaab", "twin": "aaab", "new": ""}
    for (name, path), rollout in zip({"old": "old", "twin": "old", "new": "new"}.items(), written, strict=True):
        if name == "old":
            continue
        for i, prompt in enumerate(PROMPTS):
            response = rollout.response_ids[i][rollout.response_mask[i]].tolist()
            ours = hf_logprobs(models[path], [0, *ids(front[name] + prompt, "ab")], response, 0.8)
            theirs = hf_logprobs(models["old"], [0, *ids(front["old"] + prompt, "ab")], response, 0.8)
            kl = [s["kl"] for s in samples if s["policy"] == name][i]
            assert kl == pytest.approx(float((ours - theirs).sum()), abs=1e-4)


def test_shots_of_nobody_are_refused(place):
    one = ShotsConfig(shown=(Shot(prompt="a", response="b"),))
    with pytest.raises(ValueError, match="shots: 'who' is none of the policies"):
        config(place, shots={"who": one})
