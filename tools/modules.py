"""Write docs/modules.md: every module of the package with what its docstring says it is (`make format`)."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "plaudit"
PAGE = ROOT / "docs" / "modules.md"
HEAD = """\
# Every module

The first sentences of their docstrings, folder by folder; which folder does what is told in
[ARCHITECTURE.md](../ARCHITECTURE.md). Written by `make format`; a test compares.
"""


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """What docs/modules.md must be."""
    folders = sorted({path.parent for path in PACKAGE.rglob("*.py")})
    return "\n".join([HEAD, *(line for folder in folders for line in section(folder))])


def section(folder: Path) -> Iterator[str]:
    """One folder: its own docstring, then a row a module."""
    name = folder.relative_to(PACKAGE.parent).as_posix()
    yield from (f"## {name}", "", told(folder / "__init__.py"), "")
    yield from ("| module | what it is |", "|---|---|")
    for path in sorted(folder.glob("*.py")):
        if path.name != "__init__.py":
            yield f"| [{path.name}](../{path.relative_to(ROOT).as_posix()}) | {told(path)} |"
    yield ""


def told(path: Path) -> str:
    """The docstring's first paragraph on one line, as the cell of a table."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(docstring.split("\n\n")[0].split()).replace("|", "\\|")


if __name__ == "__main__":
    main()
