"""Find and run the commands that the documentation shows, so that no command in it is wrong.

Every fenced block of shell in a Markdown file says on the line above whether it may be run:

    <!-- run: quick -->     seconds; run by the default tests
    <!-- run: slow -->      minutes; run by `make slow`
    <!-- run: none -->      needs what a test has not (a GPU, a hub, somebody's files)

In a ```console block the lines that start with `$ ` are commands and the rest is what they print; a ```bash or ```sh
block is a script. The blocks of one file run in order in one scratch folder, as a reader would run them.

    python tools/docs_commands.py           list the blocks
    python tools/docs_commands.py FILE.md   run the quick blocks of a file; --slow runs the slow ones too
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLASSES = ("quick", "slow", "none")
SHELLS = ("console", "bash", "sh", "shell")
NOT_OURS = {".venv", ".git", "runs", "build", "dist", "node_modules"}
FENCE = re.compile(r"^(?P<indent>\s*(?:> ?)?)(?P<ticks>`{3,}|~{3,}) *(?P<language>[\w+-]*).*$")
MARKER = re.compile(r"^(?:> ?)?\s*<!--\s*run:\s*(?P<word>[\w-]+)\s*-->\s*$")


@dataclass(frozen=True)
class Block:
    path: Path
    line: int
    """Of the opening fence, from 1."""
    language: str
    text: str
    run: str
    """quick, slow or none; empty where the block says nothing."""

    @property
    def where(self) -> str:
        return f"{self.path.relative_to(ROOT) if self.path.is_relative_to(ROOT) else self.path}:{self.line}"

    @property
    def script(self) -> str:
        return self.text if self.language != "console" else commands_of(self.text)


def documents() -> list[Path]:
    found = (path for path in ROOT.rglob("*.md") if not hidden(path.relative_to(ROOT)))
    return sorted(found)


def hidden(path: Path) -> bool:
    return path.parts[0] in NOT_OURS or any(part.endswith("_cache") for part in path.parts)


def blocks(path: Path) -> list[Block]:
    """The shell blocks of a Markdown file, in order."""
    found = []
    lines = path.read_text(encoding="utf-8").splitlines()
    at = 0
    while at < len(lines):
        fence = FENCE.match(lines[at])
        if fence is None:
            at += 1
            continue
        end = closing_fence(lines, at, fence["ticks"])
        if fence["language"] in SHELLS:
            text = "\n".join(line.removeprefix(fence["indent"]) for line in lines[at + 1 : end])
            found.append(Block(path, at + 1, fence["language"], text, marker_above(lines, at)))
        at = end + 1
    return found


def closing_fence(lines: list[str], start: int, ticks: str) -> int:
    for at in range(start + 1, len(lines)):
        if lines[at].strip().lstrip("> ").rstrip() == ticks:
            return at
    return len(lines)


def marker_above(lines: list[str], fence: int) -> str:
    marker = MARKER.match(lines[fence - 1]) if fence else None
    return marker["word"] if marker else ""


def commands_of(console: str) -> str:
    """What a reader would type: lines after `$ `, with the lines that a backslash continues."""
    typed: list[str] = []
    continued = False
    for line in console.splitlines():
        if line.startswith("$ "):
            typed.append(line[2:])
        elif continued:
            typed.append(line.removeprefix("> "))
        else:
            continue
        continued = typed[-1].endswith("\\")
    return "\n".join(typed)


def unclassified(found: list[Block]) -> list[str]:
    return [f"{b.where}: say <!-- run: {'|'.join(CLASSES)} --> above it" for b in found if b.run not in CLASSES]


def run_file(path: Path, classes: tuple[str, ...], binaries: Path = Path(sys.executable).parent) -> list[str]:
    """Runs a file's blocks of these classes in order in one scratch folder; returns what failed, with its output.

    binaries: where the shell finds `plaudit` first
    """
    failures = []
    with tempfile.TemporaryDirectory(prefix="plaudit docs ") as folder:
        furnish(Path(folder))
        for block in blocks(path):
            if block.run in classes:
                failures += run_block(block, Path(folder), binaries)
    return failures


def run_block(block: Block, folder: Path, binaries: Path) -> list[str]:
    path = (str(binaries), str(Path(sys.executable).parent), os.environ["PATH"])
    env = {**os.environ, "PATH": os.pathsep.join(path)}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.script], cwd=folder, env=env, text=True, encoding="utf-8",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    if done.returncode == 0:
        return []
    return [f"{block.where}: exit status {done.returncode}\n{block.script}\n{done.stdout[-3000:]}"]


def furnish(folder: Path) -> None:
    """The checkout as links, so that relative paths work and whatever a command writes stays in the scratch folder."""
    for entry in ROOT.iterdir():
        if entry.name not in NOT_OURS and not entry.name.endswith("_cache"):
            (folder / entry.name).symlink_to(entry)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, help="run this file's blocks")
    parser.add_argument("--slow", action="store_true", help="the slow blocks too")
    options = parser.parse_args()
    if options.file:
        failures = run_file(options.file.resolve(), ("quick", "slow") if options.slow else ("quick",))
        sys.exit("\n\n".join(failures) or 0)
    found = [block for path in documents() for block in blocks(path)]
    for block in found:
        print(f"{block.run or '?':6}{block.where:40} {block.script.strip().splitlines()[0] if block.script else ''}")
    sys.exit("\n".join(unclassified(found)) or 0)


if __name__ == "__main__":
    main()
