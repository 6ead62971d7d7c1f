"""Write constraints.txt: a version of everything, for every Python and platform at once (`make lock`, needs uv).

torch keeps the version that stands in the file: to move it, edit that line first. Its CUDA packages are left out,
because tools/bootstrap.py decides which build of torch a machine gets.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
HEAD = """\
# The versions that this checkout was tested with; tools/bootstrap.py installs exactly these.
# People who `pip install plaudit` are bound by the ranges in pyproject.toml only.
# Written by `make lock`: every supported Python and platform in one file, torch's CUDA packages left out.
"""
LEFT_OUT = re.compile(r"^(nvidia-|cuda-|triton==)|== 'emscripten'")


def main() -> None:
    torch = re.search(r"^torch==\S+", CONSTRAINTS.read_text(encoding="utf-8"), re.MULTILINE)
    if torch is None:
        sys.exit("constraints.txt has no line `torch==…` to keep")
    resolve = ["uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.10", "--extra", "dev"]
    resolve += ["--no-annotate", "--no-header", "pyproject.toml", "-"]
    uv = subprocess.run(resolve, input=torch.group(), stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    CONSTRAINTS.write_text(HEAD + tidy(uv.stdout), encoding="utf-8")


def tidy(resolved: str) -> str:
    kept = [line for line in resolved.splitlines() if not LEFT_OUT.search(line)]
    return "".join(re.sub(r"( and| ;) sys_platform != 'emscripten'", "", line) + "\n" for line in kept)


if __name__ == "__main__":
    main()
