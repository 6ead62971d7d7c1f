"""Small stages that are sound, to plant a mistake in: a model of eight letters, files of a few rows, a rule."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from plaudit.config.load import load_config
from plaudit.doctor.examined import Examined
from plaudit.doctor.inputs import KnownStage, Library
from plaudit.stages import STAGES
from tests.training.tiny import jsonl, model_folder

RULES = """
import time


def letters(completions, **columns):
    return [float(text.count("a") - text.count("b")) + 0.1 * len(text) for text in completions]


def constant(completions, **columns):
    return [1.0] * len(completions)


def slow(completions, **columns):
    time.sleep(0.26 * len(completions))
    return letters(completions)


def fragile(completions, **columns):
    return [float(ord(text[0])) for text in completions]


def english(completions, **columns):
    return [float(len(text.encode("ascii"))) for text in completions]


def centred(completions, **columns):
    scores = letters(completions)
    return [score - sum(scores) / len(scores) for score in scores]


def padded(completions, **columns):
    width = max(map(len, completions))
    return [score - 0.3 * (width - len(text)) for score, text in zip(letters(completions), completions)]


def offset(completions, **columns):
    return [1000.0 + score for score in letters(completions)]


def marked(completions, keyword=None, **columns):
    return letters(completions)


def infinite(completions, **columns):
    return [float("inf") if len(text) > 300 else 1.0 for text in completions]
"""


class Clinic:
    """A folder with sound files, and stages of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = model_folder(folder / "model", letters="abcdefgh", spread=0.3, context=48)
        (folder / "rules.py").write_text(RULES, encoding="utf-8")
        words = [a + b + c for a in "abcd" for b in "efgh" for c in "abcd"]
        self.shown = [{"prompt": word, "completion": word[::-1]} for word in words[:40]]
        self.prompts = [{"prompt": word} for word in words[:24]]
        self.held_out = [{"prompt": word} for word in words[40:]]
        self.pairs = [{"prompt": word, "chosen": word[::-1], "rejected": word[:2]} for word in words[:40]]

    def file(self, name: str, rows: Sequence[Mapping[str, Any]]) -> str:
        return jsonl(self.folder / name, rows)

    def rule(self, name: str, **options: Any) -> dict[str, Any]:
        return {"kind": "function", "function": f"{self.folder}/rules.py:{name}", "isolate": False, **options}

    def sft(self, rows: Sequence[Mapping[str, Any]] | None = None, **options: Any) -> Examined:
        data = self.file("shown.jsonl", self.shown if rows is None else rows)
        plain = {"data": [{"path": data}], "held_out_fraction": 0, "minibatch_size": 8, "model": {"path": self.model}}
        return self.stage("sft", plain | options)

    def reward(self, rows: Sequence[Mapping[str, Any]] | None = None, **options: Any) -> Examined:
        data = self.file("pairs.jsonl", self.pairs if rows is None else rows)
        plain = {"data": [{"path": data}], "held_out_fraction": 0, "minibatch_size": 8, "model": {"path": self.model}}
        return self.stage("reward", plain | options)

    def ppo(self, rows: Sequence[Mapping[str, Any]] | None = None, **options: Any) -> Examined:
        prompts = self.file("prompts.jsonl", self.prompts if rows is None else rows)
        plain = {
            "prompts": [{"path": prompts}],
            "rewards": [self.rule("letters")],
            "model": {"path": self.model},
            "sampling": {"max_new_tokens": 8},
            "prompts_per_iteration": 8,
            "minibatches": 2,
            "shaping": {"normalise": "reference"},
        }
        return self.stage("ppo", plain | options)

    def compare(self, rows: Sequence[Mapping[str, Any]], policy: str, **options: Any) -> Examined:
        plain = {
            "prompts": [{"path": self.file("held_out.jsonl", rows)}],
            "policies": {"start": self.model, "end": policy},
            "baseline": "start",
            "judge": [self.rule("letters")],
            "sampling": {"max_new_tokens": 8},
        }
        return self.stage("compare", plain | options)

    def stage(self, kind: str, plain: Mapping[str, Any], participants: Any = None) -> Examined:
        config = load_config(STAGES[kind].config_class, plain)
        known = KnownStage(name=kind, kind=kind, config=config)
        return Examined(known, library=Library(), out=self.folder, participants=participants)

    def run_folder(self, stage: Examined) -> str:
        """The model of a run of this stage, as far as lineage goes: its config and its kind."""
        from plaudit.config.explain import dump_yaml

        folder = self.folder / f"run-{stage.kind}"
        folder.mkdir()
        (folder / "config.yaml").write_text(dump_yaml(stage.config), encoding="utf-8")
        (folder / "provenance.json").write_text(json.dumps({"stage": stage.kind}), encoding="utf-8")
        (folder / "model").symlink_to(self.model)
        return str(folder / "model")


Plant = Callable[[Clinic], Examined]
