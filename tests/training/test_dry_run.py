"""A dry run builds everything, shows a row, an answer and sizes, and leaves nothing."""

import pytest

from plaudit.data.options import DataConfig
from plaudit.errors import UserError
from plaudit.models.options import ModelConfig
from plaudit.scoring.options import FunctionConfig
from plaudit.training.dry_run import dry_run
from plaudit.training.options import SFTConfig
from plaudit.training.reward.options import RewardConfig
from tests.kills import kills
from tests.training import scripted, test_collect
from tests.training.tiny import jsonl, model_folder


def rows(folder, name: str, *lines: dict) -> tuple[DataConfig, ...]:
    return (DataConfig(path=jsonl(folder / name, list(lines))),)


def test_every_stage_shows_what_it_would_do_and_leaves_nothing(tmp_path, capsys):
    shown = [{"prompt": "a", "response": "bc"}, {"prompt": "b", "response": "a"}]
    pairs = [{"prompt": "a", "chosen": "bc", "rejected": "b"}, {"prompt": "b", "chosen": "c", "rejected": "a"}]
    ppo, collect = scripted.config(tmp_path), test_collect.config(tmp_path)
    sft = SFTConfig(data=rows(tmp_path, "sft.jsonl", *shown), model=ppo.model, held_out_fraction=0.0)
    reward = RewardConfig(data=rows(tmp_path, "pairs.jsonl", *pairs), model=ppo.model, held_out_fraction=0.0)
    before = sorted(tmp_path.iterdir())
    expected = {
        "sft": (
            sft,
            ["2 tokens of context and 3 learned: ", "‹bc</s>›", "2 rows", "1 optimiser step of", "parameters"],
        ),
        "reward": (reward, ["‹bc</s>›", "‹b</s>›", "2 rows", "parameters"]),
        "ppo": (ppo, ["one row", "scores", "8 answers of up to 4 tokens, 4 optimiser steps; 2 iterations", "KiB"]),
        "collect": (collect, ["the answer", "scores", "5 prompts × 4 answers: at most 80 tokens"]),
    }
    for stage, (config, words) in expected.items():
        dry_run(stage, config)
        said = capsys.readouterr().err
        assert [word for word in words if word not in said] == [], said
        assert f"{stage}: dry run; nothing was learned and nothing written" in said
    assert sorted(path for path in tmp_path.iterdir() if path.name != "__pycache__") == before


@kills(
    "training/dry_run.py",
    old="_show(language, *language.renderer.pair_ids(row.prompt, text, where=row.where))",
    new="_show(language, language.renderer.prompt_ids(row.prompt), language.renderer.response_ids(text, end=True))",
    why="an answer is shown inside a thought in which it isn't read",
)
def test_an_answer_is_shown_as_its_model_reads_it(tmp_path, capsys):
    opening = (
        "{% for m in messages %}{{ '/' + m.content + '</s>' if m.role == 'assistant' else m.content }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '/<t>' }}{% endif %}"
    )
    model = ModelConfig(path=model_folder(tmp_path / "model", letters="abc<>/t"), chat_template=opening)
    pairs = rows(tmp_path, "pairs.jsonl", {"prompt": "a", "chosen": "b</t>c", "rejected": "c"})
    dry_run("reward", RewardConfig(data=pairs, model=model, held_out_fraction=0.0))
    shown = [line.partition(": ")[2] for line in capsys.readouterr().err.splitlines() if line.startswith("one row, ")]
    assert shown == ["<s>a/<t>‹b</t>c</s>›", "<s>a/‹c</s>›"]


def test_a_judge_that_fails_is_found(tmp_path):
    (tmp_path / "broken.py").write_text("def f(completions, **c):\n    return [1 / 0]\n", encoding="utf-8")
    config = scripted.config(tmp_path, rewards=(FunctionConfig(function=f"{tmp_path / 'broken.py'}:f"),))
    with pytest.raises(UserError, match="ZeroDivisionError"):
        dry_run("ppo", config)
