"""Every YAML in the house loads as what its head says it is, and the head says what a reader wants to know."""

import re
from pathlib import Path

import pytest

from plaudit.config.load import load_config
from plaudit.pipeline import PipelineConfig, plan
from plaudit.stages import STAGES
from tests.architecture.repo import PACKAGE, ROOT

COMMANDS = {"demo": "pipeline", "pipeline": "pipeline", "eval policies": "compare", "eval reward": "reward_eval"} | {
    name: name for name in STAGES
}
"""What stands after `plaudit` in a launch line -> the stage whose config the file is."""
LAUNCH = re.compile(rf"\bplaudit ({'|'.join(sorted(COMMANDS, key=len, reverse=True))})\b")


def yaml_files() -> list[Path]:
    folders = [folder for folder in (PACKAGE, ROOT / "configs", ROOT / "examples") if folder.exists()]
    return sorted(path for folder in folders for pattern in ("*.yaml", "*.yml") for path in folder.rglob(pattern))


def head(path: Path) -> str:
    """The comment that the file begins with."""
    lines = path.read_text(encoding="utf-8").splitlines()
    length = next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return "\n".join(lines[:length])


def test_there_are_configs():
    assert PACKAGE / "demo.yaml" in yaml_files()


@pytest.mark.parametrize("path", yaml_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_config_loads(path, tmp_path):
    launch = LAUNCH.search(head(path))
    assert launch, f"{path}: the head has no launch line such as `plaudit ppo {path.name}`"
    stage = COMMANDS[launch[1]]
    if stage == "pipeline":
        assert plan(load_config(PipelineConfig, path), tmp_path / "run")
    else:
        load_config(STAGES[stage].config_class, path)


@pytest.mark.parametrize("path", yaml_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_config_says_what_it_needs(path):
    missing = [word for word in ("Hardware:", "Launch:", "Time:") if word not in head(path)]
    assert missing == []
