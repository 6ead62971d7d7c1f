"""What an import may load: measured in a fresh interpreter, so that nothing that the tests loaded hides it."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.architecture.repo import PACKAGE, package_files

LIGHT_ROOMS = ["data", "report", "feedback", "runs", "telemetry", "config"]
HEAVY = {"torch", "transformers", "tokenizers", "safetensors", "peft", "accelerate", "datasets"}


def test_importing_plaudit_loads_nothing_else():
    assert loaded("import plaudit") - loaded("pass") == {"plaudit"}


def test_formulas_load_torch_and_jaxtyping_and_nothing_else():
    before = "import sys, torch, jaxtyping; before = set(sys.modules)"
    forget = "for name in before: del sys.modules[name]"
    assert loaded(f"{before}\n{import_all('formulas')}\n{forget}") == {"plaudit"}


def test_text_records_load_nothing_from_outside():
    assert loaded("import plaudit.records.text") - loaded("pass") == {"plaudit"}


@pytest.mark.parametrize("room", LIGHT_ROOMS)
def test_light_rooms_load_no_torch(room):
    if not (PACKAGE / room / "__init__.py").exists():
        pytest.skip(f"there is no room {room} yet")
    assert loaded(import_all(room)) & HEAVY == set()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["ppo", "--help"], 0),
        (["reward", "--help-all"], 0),
        (["eval", "policies", "--help"], 0),
        (["pipeline", "--help"], 0),
        (["completion", "words", "ppo", "--"], 0),
        (["init", "pipeline", "made.yaml"], 0),
        (["ppo", "ppo.yaml", "--iteratoins", "3"], 2),
        (["reward", "broken.yaml"], 2),
        (["ppo", "ppo.yaml", "--rewards.0.path", "./gone", "--dry-run"], 2),
        (["score", "./gone", "ppo.yaml"], 2),
        (["pipeline", "pipeline.yaml"], 2),
    ],
)
def test_the_command_line_answers_before_torch_is_loaded(arguments, code, tmp_path):
    """Help, completion, starter files and mistakes in a config must not wait for torch and transformers."""
    (tmp_path / "ppo.yaml").write_text("prompts: p\nrewards: [{kind: model, path: r}]\nmodel: m\n", "utf-8")
    (tmp_path / "broken.yaml").write_text("data: [", "utf-8")
    (tmp_path / "pipeline.yaml").write_text(
        "stages: {reward: {data: a, epohcs: 2}, sft: {data: b, epochs: x}}\n", "utf-8"
    )
    lines = [
        "import contextlib, io, os",
        f"os.chdir({str(tmp_path)!r})",
        "from plaudit.cli import main",
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), "
        "contextlib.suppress(SystemExit):",
        f"    assert main({arguments!r}) == {code}",
    ]
    assert loaded("\n".join(lines)) & (HEAVY | {"numpy", "pyarrow", "jinja2", "sympy", "rich"}) == set()


def import_all(room: str) -> str:
    modules = [path.relative_to(PACKAGE.parent).with_suffix("") for path in package_files() if room_of(path) == room]
    return "import " + ", ".join(".".join(module.parts).removesuffix(".__init__") for module in modules)


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0]


@cache
def loaded(statement: str) -> frozenset[str]:
    """The top-level packages from outside the standard library in sys.modules after the statement."""
    report = "import json, sys; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    command = [sys.executable, "-c", f"{statement}\n{report}"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    own = {"__main__", "__mp_main__", "sitecustomize", "usercustomize"}
    return frozenset(json.loads(answer.stdout)) - set(sys.stdlib_module_names) - own
