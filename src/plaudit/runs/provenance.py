"""Where a run comes from: versions, machine, command, commit. No environment variables, no secrets."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import plaudit

PACKAGES = (
    "plaudit", "torch", "transformers", "tokenizers", "safetensors", "peft", "datasets", "pyarrow", "numpy",
    "accelerate", "vllm", "ray", "pydantic", "pyyaml", "rich",
)  # fmt: skip
_SECRET = re.compile(r"(^|[._-])(token|secret|password|passwd|api[_-]?key)$", re.IGNORECASE)


def provenance(stage: str = "") -> dict[str, Any]:
    """What is needed to tell later how a run came about; `data` will map each file that is read to its fingerprint."""
    return {
        "stage": stage,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": redact(_typed(sys.argv)),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count() or 0,
        "world_size": int(world) if (world := os.environ.get("WORLD_SIZE", "1")).isdecimal() else 1,
        "versions": dict(versions()),
        "commit": git_commit(Path.cwd()),
        "plaudit_commit": own_commit(Path(plaudit.__file__).parent),
        "data": {},
    }


@functools.cache
def versions(packages: tuple[str, ...] = PACKAGES) -> Mapping[str, str]:
    """Installed versions, read from the packages' metadata without importing them; absent ones left out."""
    installed = {}
    for name in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            installed[name] = metadata.version(name)
    return installed


def changed_versions(before: Mapping[str, str]) -> list[str]:
    """What computes a run's numbers and isn't as it was, as `torch 2.13.0 → 2.14.1`."""
    now = versions()
    return [
        f"{name} {before[name]} → {now.get(name, 'none')}"
        for name in ("plaudit", "torch", "transformers", "tokenizers")
        if name in before and before[name] != now.get(name)
    ]


def git_commit(folder: Path) -> str:
    """The commit of the working folder, with `+changes` when files differ from it; empty when there is none."""
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return ""
    return commit + ("+changes" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")


@functools.cache
def own_commit(package: Path) -> str:
    """The commit of the checkout that plaudit runs from; empty where it is installed, be it in another project."""
    return git_commit(package) if _git(package, "ls-files", "--error-unmatch", "__init__.py") else ""


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, timeout=10, check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else ""


def _typed(arguments: Sequence[str]) -> list[str]:
    """The command as it was typed; Python gives the program's path instead, which says where a user lives."""
    names = {"__main__.py": ["python", "-m", "plaudit"], "plaudit": ["plaudit"]}
    return [*names.get(Path(arguments[0]).name, arguments[:1]), *arguments[1:]]


def redact(arguments: Sequence[str]) -> list[str]:
    """The command line with the values of options named like a secret replaced by `***`."""
    shown: list[str] = []
    hide_next = False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        secret = name.startswith("-") and _SECRET.search(name) is not None
        hidden = "***" if hide_next and not argument.startswith("--") else ""
        shown.append(hidden or (f"{name}=***" if secret and equals else argument))
        hide_next = secret and not equals
    return shown
