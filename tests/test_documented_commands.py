"""The commands that the documentation shows run, as they stand there."""

from pathlib import Path

import pytest

from tools import docs_commands

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = docs_commands.documents()


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def has(path: Path, run: str) -> bool:
    return any(block.run == run for block in docs_commands.blocks(path))


@pytest.mark.parametrize("document", [path for path in DOCUMENTS if has(path, "quick")], ids=named)
def test_quick_commands_run(document, warm):
    failures = docs_commands.run_file(document, ("quick",), warm)
    assert not failures, "\n\n".join(failures)


@pytest.mark.slow
@pytest.mark.parametrize("document", [path for path in DOCUMENTS if has(path, "slow")], ids=named)
def test_all_commands_run(document):
    """As people run them: `plaudit` itself, which loads everything anew for each command."""
    failures = docs_commands.run_file(document, ("quick", "slow"))
    assert not failures, "\n\n".join(failures)
