"""The peers' own environments: one each, made once in a cache folder outside the repository, torch first."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

TORCH = "2.13.0"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
REQUIREMENTS = Path(__file__).resolve().parent / "peers"
UNWANTED = {"vllm": ("torchvision", "torchaudio", "torchcodec")}
"""What an environment's packages bring along and can't be imported beside the CPU build of torch."""


class EnvironmentFailed(Exception):
    """A peer's environment could not be made here."""


def cache() -> Path:
    """Where models and environments are kept: PLAUDIT_BENCH_CACHE, else plaudit/ in the user's cache folder."""
    given = os.environ.get("PLAUDIT_BENCH_CACHE")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "plaudit"


def python_of(name: str) -> Path:
    """The Python of `peers/requirements-NAME.txt`; makes the environment where it is missing or out of date."""
    requirements = REQUIREMENTS / f"requirements-{name}.txt"
    key = hashlib.sha256(f"{TORCH} {requirements.read_text(encoding='utf-8')}".encode()).hexdigest()
    folder = cache() / "peers" / name
    python, stamp = folder / "bin" / "python", folder / "made"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == key:
        return python
    print(f"making the environment of {name} in {folder} …", file=sys.stderr, flush=True)
    if not python.exists():
        _run(sys.executable, "-m", "venv", "--clear", str(folder))
    _install_torch(python)
    _pip(python, "install", f"torch=={_version(python)}", "-r", str(requirements))
    if name in UNWANTED:
        _pip(python, "uninstall", "--yes", *UNWANTED[name])
    stamp.write_text(key, encoding="utf-8")
    return python


def _install_torch(python: Path) -> None:
    """The CPU build where no NVIDIA GPU answers: on Linux the ordinary index has gigabytes of CUDA for `torch`."""
    if _version(python):
        return
    if sys.platform != "linux" or has_gpu():
        _pip(python, "install", f"torch=={TORCH}")
        return
    light = ("install", "--no-deps", f"torch=={TORCH}+cpu")
    try:
        _pip(python, *light)
    except EnvironmentFailed:
        _pip(python, *light, "--index-url", CPU_INDEX)


def has_gpu() -> bool:
    return shutil.which("nvidia-smi") is not None and subprocess.run(["nvidia-smi", "-L"]).returncode == 0


def _version(python: Path) -> str:
    code = "import importlib.metadata as m; print(m.version('torch'))"
    answer = subprocess.run([str(python), "-c", code], capture_output=True, text=True)
    return answer.stdout.strip() if answer.returncode == 0 else ""


def _pip(python: Path, *arguments: str) -> None:
    _run(str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input", *arguments)


def _run(*command: str) -> None:
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PIP_USER")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise EnvironmentFailed(f"{' '.join(command)}: {done.stderr.strip()[-400:]}")
