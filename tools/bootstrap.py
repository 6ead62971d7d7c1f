#!/usr/bin/env python3
"""Set this checkout up in its own `.venv`: with uv where it is there or can be had, else with pip.

    python3 tools/bootstrap.py              what `make demo` needs
    python3 tools/bootstrap.py --extra dev  what `make test` and `make check` need

torch comes first, by pip, which looks where this machine's settings say: the CUDA build only where an NVIDIA GPU
answers. On Linux the ordinary index answers `torch` with several gigabytes of CUDA packages; a version that ends in
`+cpu` can never be one of them. A stamp in `.venv` makes every later call instant.
"""

import os
import sys

if sys.version_info < (3, 11):  # noqa: UP036  (newcomers run this with whatever `python3` is; the file parses on 3.6)
    made_before = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".venv", "bin", "python")
    if os.path.exists(made_before):
        os.execv(made_before, [made_before] + sys.argv)  # noqa: RUF005
    sys.exit(f"plaudit needs Python 3.11 or newer, this is {sys.version.split()[0]}; try: make PYTHON3=python3.12 demo")

import argparse
import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / "plaudit-stamp.json"
CONSTRAINTS = ROOT / "constraints.txt"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
NO_CPU_BUILD = """
No CPU build of torch was found (neither where pip looks on this machine nor on download.pytorch.org). You can
  take a mirror of PyTorch's CPU index:   PIP_EXTRA_INDEX_URL=https://mirror.example/whl/cpu make demo
  install a wheel that you have:          .venv/bin/python -m pip install torch-…+cpu-….whl   and call again
  take the CUDA build all the same:       TORCH_CUDA=1 make demo   (several gigabytes)
  use another Python:                     rm -r .venv; make PYTHON3=/path/to/python3.12 demo
  use an environment of your own:         make PYTHON=python3 demo   (nothing is installed)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extra", action="append", default=[], help="an extra of pyproject.toml (repeatable)")
    extras, there = set(parser.parse_args().extra), installed_extras()
    if there is not None and extras <= there:
        return
    extras |= there or set()
    make_venv()
    held = install_torch()
    install_plaudit(extras, held)
    STAMP.write_text(json.dumps({"key": stamp_key(), "extras": sorted(extras)}), encoding="utf-8")


# -------------------- the stamp


def stamp_key() -> str:
    """Changes with all that decides what gets installed, and with the checkout's folder (the install is editable)."""
    digest = hashlib.sha256(str(ROOT).encode("utf-8", "surrogateescape"))
    for path in (ROOT / "pyproject.toml", CONSTRAINTS, Path(__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def installed_extras() -> "set[str] | None":
    """None where the set-up has to run."""
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return set(stamp["extras"]) if stamp.get("key") == stamp_key() and PYTHON.exists() else None


# -------------------- the steps


def make_venv() -> None:
    if succeeds(PYTHON, "-m", "pip", "--version"):
        return
    try:
        import ensurepip  # noqa: F401
    except ImportError:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        sys.exit(f"This Python cannot make virtual environments; on Debian: sudo apt-get install python{version}-venv")
    if subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)]).returncode != 0:
        sys.exit("python -m venv failed")


def install_torch() -> str:
    """Returns `torch==VERSION` as it is installed: the later steps must not exchange the build."""
    version = installed_torch()
    if version is None:
        wanted = pinned_torch(CONSTRAINTS.read_text(encoding="utf-8"))
        if sys.platform != "linux" or os.environ.get("TORCH_CUDA") == "1" or succeeds("nvidia-smi", "-L"):
            done = pip("install", wanted)
        else:
            # Without its needs: a wheel from another index drags nothing else from there; they come with plaudit's.
            light = ("install", "--no-deps", f"{wanted}+cpu")
            done = pip(*light) or pip(*light, "--index-url", CPU_INDEX)
        version = installed_torch()
        if not done or version is None:
            sys.exit(NO_CPU_BUILD)
    return f"torch=={version}"


def install_plaudit(extras: "set[str]", held: str) -> None:
    """Editable, with the tested versions."""
    torch = VENV / "torch-constraint.txt"
    torch.write_text(f"{held}\n", encoding="utf-8")
    target = f".[{','.join(sorted(extras))}]" if extras else "."
    arguments = ["install", "--editable", target, "--constraint", str(CONSTRAINTS), "--constraint", str(torch)]
    uv = shutil.which("uv") or (pip("install", "uv") and str(PYTHON.with_name("uv")))
    if uv and run(uv, "pip", *arguments, "--python", str(PYTHON), "--compile-bytecode"):  # as pip does by itself
        return
    if not pip(*arguments):
        sys.exit("plaudit could not be installed; what pip said stands above")


# -------------------- helpers


def pinned_torch(constraints: str) -> str:
    """`torch==2.13.0`, as the constraints have it."""
    return re.search(r"^torch==[^\s;]+", constraints, re.MULTILINE).group()


def installed_torch() -> "str | None":
    code = "import importlib.metadata as m; print(m.version('torch'))"
    answer = subprocess.run([str(PYTHON), "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return answer.stdout.strip() if answer.returncode == 0 else None


def pip(*arguments: str) -> bool:
    return run(str(PYTHON), "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments)


def run(*command: str) -> bool:
    print(f"[set-up] {' '.join(command)}", flush=True)
    # A PYTHONPATH would make pip take what lies there for installed; PIP_USER would send it out of the environment.
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PIP_USER")}
    return subprocess.run(command, cwd=str(ROOT), env=environment).returncode == 0


def succeeds(*command: object) -> bool:
    try:
        return subprocess.run([str(c) for c in command], capture_output=True, timeout=30).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


if __name__ == "__main__":
    main()
