"""Where a run comes from, without telling what is nobody's business."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from plaudit.runs.provenance import git_commit, own_commit, provenance, redact, versions


def test_it_names_machine_versions_command_and_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["plaudit", "ppo", "x.yaml"])
    monkeypatch.setenv("WORLD_SIZE", "4")
    facts = provenance("ppo")
    assert facts["stage"] == "ppo" and facts["data"] == {} and facts["world_size"] == 4
    assert facts["command"] == ["plaudit", "ppo", "x.yaml"]
    assert facts["python"] == ".".join(str(part) for part in sys.version_info[:3])
    assert facts["versions"]["pydantic"].count(".") == 2
    assert facts["started"].endswith("+00:00")


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("lib/plaudit/__main__.py", ["python", "-m", "plaudit"]),
        ("bin/plaudit", ["plaudit"]),
        ("mine/train.py", ["mine/train.py"]),
    ],
)
def test_the_command_is_told_as_it_was_typed(monkeypatch: pytest.MonkeyPatch, program: str, told: list[str]) -> None:
    monkeypatch.setattr(sys, "argv", [program, "demo"])
    assert provenance()["command"] == [*told, "demo"]


def test_no_environment_and_no_secret_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_verysecret")
    monkeypatch.setenv("WORLD_SIZE", "many")
    monkeypatch.setattr(sys, "argv", ["plaudit", "--hub.token", "hf_verysecret", "--wandb.api-key=hf_verysecret"])
    text = json.dumps(provenance())
    assert "verysecret" not in text and "PATH" not in text
    assert json.loads(text)["world_size"] == 1


def test_redaction_spares_token_counts() -> None:
    words = ["x", "--max_new_tokens", "64", "--token", "abc", "--password=p=q", "--api_key", "--verbose"]
    assert redact(words) == [
        "x",
        "--max_new_tokens",
        "64",
        "--token",
        "***",
        "--password=***",
        "--api_key",
        "--verbose",
    ]


def test_versions_do_not_import() -> None:
    code = "import sys; from plaudit.runs.provenance import versions; versions(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert versions(("pyyaml", "no-such-package-anywhere")).keys() == {"pyyaml"}


def test_commit_of_a_clean_and_a_changed_folder(tmp_path: Path) -> None:
    assert git_commit(tmp_path) == ""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    try:
        subprocess.run([*git, "init", "-q"], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no git")
    (tmp_path / "f").write_text("1")
    subprocess.run([*git, "add", "f"], check=True, capture_output=True)
    subprocess.run([*git, "commit", "-q", "-m", "one"], check=True, capture_output=True)
    clean = git_commit(tmp_path)
    assert len(clean) == 40 and int(clean, 16) >= 0
    inside = tmp_path / "site-packages" / "plaudit"  # installed in somebody's project: not a commit of plaudit's
    inside.mkdir(parents=True)
    (inside / "__init__.py").touch()
    assert own_commit(inside) == ""
    subprocess.run([*git, "add", str(inside)], check=True, capture_output=True)
    own_commit.cache_clear()
    assert own_commit(inside).startswith(clean)
    (tmp_path / "f").write_text("2")
    assert git_commit(tmp_path) == clean + "+changes"
