#!/usr/bin/env python3
"""Set this checkout up in its own `.venv`; needs Python >= 3.10 and nothing else.

    python3 tools/bootstrap.py              what `make demo` needs
    python3 tools/bootstrap.py --extra dev  what `make test` and `make check` need

The build of torch is chosen before anything else is installed: the CUDA build only where an NVIDIA GPU answers, else
the CPU build. On Linux the ordinary index answers `torch` with several gigabytes of CUDA packages, so where there is
no CPU build to be had this stops and says so. A stamp in `.venv` makes every later call instant.
"""

import os
import sys

if sys.version_info < (3, 10):  # noqa: UP036  (newcomers run this with whatever `python3` is; the file parses on 3.6)
    made_before = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".venv", "bin", "python")
    if os.path.exists(made_before):
        os.execv(made_before, [made_before] + sys.argv)  # noqa: RUF005
    sys.exit(f"plaudit needs Python 3.10 or newer, this is {sys.version.split()[0]}; try: make PYTHON3=python3.12 demo")

import argparse
import hashlib
import json
import platform
import re
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "plaudit-stamp.json"
LOG = VENV / "install.log"
CONSTRAINTS = ROOT / "constraints.txt"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PROBE_SECONDS = 10
HEARTBEAT_SECONDS = 20


class SetupError(Exception):
    """Something that the reader has to do; the message says what."""


def say(text: str) -> None:
    print(f"[set-up] {text}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--extra", action="append", default=[], help="an extra of pyproject.toml, e.g. dev (repeatable)"
    )
    extras = frozenset(parser.parse_args().extra)
    try:
        set_up(extras)
    except SetupError as error:
        sys.exit(f"\n{error}\n")
    except KeyboardInterrupt:
        sys.exit("\n[set-up] stopped; the next call goes on from here")


def set_up(extras: frozenset[str]) -> None:
    installed = read_stamp()
    if installed is not None and extras <= installed:
        return
    began = time.monotonic()
    python = ensure_venv()
    ensure_torch(python)
    extras = extras | (installed or frozenset())
    install_plaudit(python, extras)
    STAMP.write_text(json.dumps({"key": stamp_key(), "extras": sorted(extras)}), encoding="utf-8")
    say(f"done in {time.monotonic() - began:.0f} s")


# -------------------- the stamp


def stamp_key() -> str:
    """Changes with all that decides what gets installed, and with the checkout's place (the install is editable)."""
    digest = hashlib.sha256(str(ROOT).encode("utf-8", "surrogateescape"))
    for path in (ROOT / "pyproject.toml", CONSTRAINTS, Path(__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def read_stamp() -> "frozenset[str] | None":
    """The extras installed, or None where the set-up has to run."""
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if stamp.get("key") != stamp_key() or not venv_python().exists():
        return None
    return frozenset(stamp["extras"])


# -------------------- the virtual environment


def venv_python() -> Path:
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def ensure_venv() -> Path:
    python = venv_python()
    if answers([str(python), "-m", "pip", "--version"]):
        return python
    if VENV.exists() and not (VENV / "pyvenv.cfg").exists():
        raise SetupError(f"{VENV} exists but is no virtual environment; move it away and call again.")
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError as error:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise SetupError(
            f"This Python ({sys.executable}) cannot make virtual environments: {error.name} is missing.\n"
            f"  Debian, Ubuntu:  sudo apt-get install python{version}-venv\n"
            "  otherwise:       install Python from python.org, or name another one: make PYTHON3=/path/to/python3 demo"
        ) from None
    say(f"making .venv with Python {platform.python_version()}")
    made = subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], capture_output=True, text=True)
    if made.returncode != 0:
        raise SetupError(f"python -m venv failed:\n{made.stdout}{made.stderr}")
    upgraded = pip(python, ["install", "--upgrade", "pip"], "pip")
    if upgraded != 0:
        say("pip could not be upgraded; going on with the one that came with Python")
    return python


def answers(command: "list[str]") -> bool:
    """Whether the command exists and exits with 0, within the probe's time."""
    try:
        return subprocess.run(command, capture_output=True, timeout=3 * PROBE_SECONDS).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


# -------------------- torch


def ensure_torch(python: Path) -> None:
    """Leave a torch in the environment, and never the CUDA one by accident."""
    if installed_torch(python) is not None:
        return
    wanted = pinned("torch", CONSTRAINTS.read_text(encoding="utf-8"))
    index = os.environ.get("TORCH_INDEX")
    if index:
        get_torch(python, ["--index-url", index, wanted], f"from {index} (TORCH_INDEX)")
    elif os.environ.get("TORCH_CUDA") == "1":
        get_torch(python, [wanted], "as the ordinary index has it (TORCH_CUDA=1)", with_needs=True)
    elif answers(["nvidia-smi", "-L"]):
        get_torch(python, [wanted], "with CUDA, for the NVIDIA GPU found here (several gigabytes)", with_needs=True)
    elif sys.platform != "linux":
        get_torch(python, [wanted], "the ordinary build, which is light here", with_needs=True)
    else:
        get_cpu_torch(python, wanted)


def get_cpu_torch(python: Path, wanted: str) -> None:
    if somebody_answers(f"{CPU_INDEX}/torch/"):
        try:
            get_torch(python, ["--index-url", CPU_INDEX, wanted], "CPU build, about 200 MB")
            return
        except SetupError:
            say("PyTorch's index has no build for this machine; asking the ordinary index")
    offer = ask_ordinary_index(python, wanted)
    cuda = cuda_needs(python, offer.get("requires_dist", [])) if offer else []
    if offer is None or cuda:
        raise SetupError(no_cpu_build(wanted, cuda))
    get_torch(python, [f"torch=={offer['version']}"], "CPU build, from the ordinary index")


def get_torch(python: Path, arguments: "list[str]", what: str, with_needs: bool = False) -> None:
    """Without its needs a wheel from another index drags nothing else from there; they come with plaudit's own."""
    needs = [] if with_needs else ["--no-deps"]
    say(f"{arguments[-1]}: {what}")
    if pip(python, ["install", *needs, *arguments], "torch") != 0:
        raise SetupError(f"torch could not be installed ({what}):\n{log_tail()}")


def installed_torch(python: Path) -> "str | None":
    code = "import importlib.metadata as m; print(m.version('torch'))"
    found = subprocess.run([str(python), "-c", code], capture_output=True, text=True)
    return found.stdout.strip() if found.returncode == 0 else None


def pinned(name: str, constraints: str) -> str:
    """The line of the constraints that pins `name`: `torch==2.13.0`."""
    match = re.search(rf"^{re.escape(name)}==\S+", constraints, re.MULTILINE)
    if match is None:
        raise SetupError(f"constraints.txt pins no {name}")
    return match.group()


def somebody_answers(url: str) -> bool:
    """Any answer counts, an error page too: it is pip's business what it says. Only silence does not."""
    try:
        urllib.request.urlopen(url, timeout=PROBE_SECONDS).close()
    except urllib.error.HTTPError:
        return True
    except urllib.error.URLError as error:
        return isinstance(error.reason, ssl.SSLError)  # pip may know a certificate that this Python does not
    except OSError:
        return False
    return True


def ask_ordinary_index(python: Path, wanted: str) -> "dict | None":
    """The metadata of the torch that the ordinary index would give; None where it has none.

    Only torch itself is looked at: from an index without separate metadata files, pip would fetch whole CUDA wheels
    merely to read what they need.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        arguments = ["install", "--dry-run", "--ignore-installed", "--no-deps", "--report", str(report), wanted]
        if pip(python, arguments, "asking the ordinary index about torch") != 0:
            return None
        return json.loads(report.read_text(encoding="utf-8"))["install"][0]["metadata"]


def cuda_needs(python: Path, requirements: "list[str]") -> "list[str]":
    """Those of a distribution's requirements that are CUDA packages and hold on this machine.

    The markers have to be evaluated (a CPU wheel may list them for other machines), by the library that pip carries.
    """
    suspects = [r for r in requirements if re.match(r"nvidia|cuda|triton|pytorch[-_]triton", r)]
    evaluate = (
        "import json, sys\n"
        "from pip._vendor.packaging.requirements import Requirement\n"
        "needs = [Requirement(text) for text in json.load(sys.stdin)]\n"
        "print(json.dumps([n.name for n in needs if n.marker is None or n.marker.evaluate({'extra': ''})]))"
    )
    answer = subprocess.run(
        [str(python), "-c", evaluate], input=json.dumps(suspects), stdout=subprocess.PIPE, text=True, check=True
    )
    return sorted(json.loads(answer.stdout))


def no_cpu_build(wanted: str, cuda: "list[str]") -> str:
    found = f"has one that needs CUDA ({', '.join(cuda[:3])}, …)" if cuda else "has no build of it either"
    python = f"'{venv_python()}'" if " " in str(venv_python()) else str(venv_python())
    return (
        f"No CPU build of {wanted} found for Python {platform.python_version()} on {platform.machine()}: "
        f"{CPU_INDEX} does not answer or has none,\nand the ordinary index {found}. Nothing was installed. You can\n"
        f"  take a mirror of PyTorch's CPU index:   TORCH_INDEX=https://mirror.example/whl/cpu make demo\n"
        f"  install a wheel that you have:          {python} -m pip install torch-2.13.0+cpu-….whl   and call again\n"
        f"  take the CUDA build all the same:       TORCH_CUDA=1 make demo   (several gigabytes)\n"
        f"  use another Python:                     rm -r .venv; make PYTHON3=/path/to/python3.x demo\n"
        f"  use an environment of your own:         make PYTHON=python3 demo   (nothing is installed)"
    )


# -------------------- plaudit


def install_plaudit(python: Path, extras: "frozenset[str]") -> None:
    """Editable, with the tested versions, and with torch held to the build that is there."""
    held = VENV / "torch-constraint.txt"
    held.write_text(f"torch=={installed_torch(python)}\n", encoding="utf-8")
    target = "." + (f"[{','.join(sorted(extras))}]" if extras else "")
    say("installing plaudit and what it needs" + (f" (extras: {', '.join(sorted(extras))})" if extras else ""))
    arguments = ["install", "--editable", target, "--constraint", str(CONSTRAINTS), "--constraint", str(held)]
    if pip(python, arguments, "plaudit") != 0:
        raise SetupError(f"plaudit could not be installed:\n{log_tail()}")


# -------------------- pip


def pip(python: Path, arguments: "list[str]", what: str) -> int:
    """Run pip with its output in .venv/install.log and a sign of life now and then; returns its exit status."""
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    # A PYTHONPATH would make pip take what lies there for installed; PIP_USER would send it out of the environment.
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PIP_USER")}
    began = time.monotonic()
    with LOG.open("ab") as log:
        log.write(f"\n$ {' '.join(command)}\n".encode())
        log.flush()
        with subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=str(ROOT), env=environment) as process:
            while True:
                try:
                    return process.wait(timeout=HEARTBEAT_SECONDS)
                except subprocess.TimeoutExpired:
                    elapsed, size = time.monotonic() - began, megabytes(VENV)
                    say(f"… {what}: {elapsed:.0f} s, {size:.0f} MB on disk so far (details: .venv/install.log)")


def log_tail(lines: int = 15) -> str:
    text = LOG.read_text(encoding="utf-8", errors="replace")
    return "\n".join(f"    {line}" for line in text.splitlines()[-lines:]) + f"\n  (all of it: {LOG})"


def megabytes(folder: Path) -> float:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file() and not f.is_symlink()) / 1e6


if __name__ == "__main__":
    main()
