"""What a config names and what isn't there is told before anything loads, with option, file and line."""

from pathlib import Path

import pytest

from plaudit.cli import main
from plaudit.config.load import load_config, place_of
from plaudit.doctor.paths import check_paths
from plaudit.errors import UserError
from plaudit.pipeline import PipelineConfig
from plaudit.training.policy.config import PPOConfig
from tests.kills import kills

PPO = """
prompts: prompts.jsonl
rewards:
  - {kind: model, path: runs/rewrad/model}
  - {kind: function, function: "rule.py:score"}
model: {path: tiny}
evaluation: {prompts: held_out.jsonl, truth: [{kind: model, path: ./none}]}
"""
PIPELINE = """
stages:
  sft: {kind: sft, data: rows.jsonl, model: {path: tiny}}
  compare:
    kind: compare
    prompts: rows.jsonl
    policies: {sft: "${sft}/model", old: runs/old/model}
    baseline: sft
    judge: [{kind: model, path: "${sft}/model"}]
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("runs/reward").mkdir(parents=True)
    Path("rules.py").write_text("def score(completions, **columns):\n    return [0.0 for _ in completions]\n")
    for name in ("prompts.jsonl", "rows.jsonl"):
        Path(name).write_text('{"prompt": "a"}\n')
    Path("ppo.yaml").write_text(PPO)
    Path("all.yaml").write_text(PIPELINE)


@kills(
    "doctor/paths.py", old="is_model and name != ", new="not is_model and name != ", why="missing models are not told"
)
@pytest.mark.parametrize("more", [["--dry-run"], [], ["--sweep", "seed=0,1"]])
def test_every_missing_path_is_told_with_option_file_and_line(capsys, monkeypatch, more):
    monkeypatch.setattr("plaudit.training.dry_run.dry_run", lambda *_: pytest.fail("models are built"))
    assert main(["ppo", "ppo.yaml", *more]) == 2
    first, second, third, fourth = capsys.readouterr().err.splitlines()
    assert first.startswith("error: ppo.yaml:4: rewards.0.path: no folder 'runs/rewrad/model'; give a folder in")
    assert "rewards.1.function: rule.py: no such file" in second and second.endswith("did you mean 'rules.py'?")
    assert "evaluation.prompts.0.path: held_out.jsonl: no such file" in third
    assert "evaluation.truth.0.path: no folder './none'" in fourth and "tiny" not in fourth
    assert not Path("runs/ppo").exists()


def test_what_a_pipelines_stages_make_is_not_missed(capsys):
    assert main(["pipeline", "all.yaml"]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("error: all.yaml:7: stages.compare.policies.old: no folder 'runs/old/model'")
    config = load_config(PipelineConfig, Path("all.yaml"), ["--stages.compare.policies.old", "tiny"])
    check_paths(config, Path("runs/all"))


def test_a_judge_is_named_by_its_own_option(capsys):
    assert main(["score", "./gone", "rows.jsonl"]) == 2
    assert capsys.readouterr().err.startswith("error: judge.path: no folder './gone'; give a folder")


@kills("config/load.py", old="        where = node.where\n", new="", why="options have no place")
def test_the_place_is_the_nearest_that_was_written():
    def place(option: str, *overrides: str) -> str:
        return place_of(PPOConfig, Path("ppo.yaml"), overrides, option)

    assert [place(one) for one in ("prompts.0.path", "rewards.1.function", "kl.coef")] == [
        "ppo.yaml:2",
        "ppo.yaml:5",
        "",
    ]
    assert place("rewards.0.path", "--rewards.0.path", "x") == "--rewards.0.path"


def test_standard_input_is_for_what_reads_once():
    config = load_config(PPOConfig, Path("ppo.yaml"), ["--prompts.0.path", "-"])
    with pytest.raises(UserError, match=r"prompts\.0\.path: - \(standard input\) can't be read again"):
        check_paths(config, Path("runs/x"))
