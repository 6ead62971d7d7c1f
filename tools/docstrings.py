"""The two pages of docs/ that are written from docstrings (`make format`): every module, and the numbered mechanisms.

docs/modules.md is written whole. In docs/notes.md the prose is ours; the line **Code** under each mechanism and the
table of equations at the end come from the docstrings that cite its number.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "plaudit"
MODULES = ROOT / "docs" / "modules.md"
NOTES = ROOT / "docs" / "notes.md"
MODULES_HEAD = """\
# Every module

The first sentences of their docstrings, folder by folder; which folder does what is told in
[ARCHITECTURE.md](../ARCHITECTURE.md). Written by `make format`; a test compares.
"""
EQUATIONS_HEAD = """\
## The equations, and where they are

| | equation, as the docstring has it | code |
|---|---|---|
"""
NUMBER = re.compile(r"\bN[1-5]\.\d+\b")
SECTION = re.compile(r"^### (N[1-5]\.\d+) .*?(?=^##|\Z)", re.MULTILINE | re.DOTALL)


def main() -> None:
    MODULES.write_text(modules_page(), encoding="utf-8")
    NOTES.write_text(notes_page(NOTES.read_text(encoding="utf-8")), encoding="utf-8")


# ------------------------------------------------------------------------------------------------------------ modules


def modules_page() -> str:
    """What docs/modules.md must be."""
    folders = sorted({path.parent for path in PACKAGE.rglob("*.py")})
    return "\n".join([MODULES_HEAD, *(line for folder in folders for line in folder_lines(folder))])


def folder_lines(folder: Path) -> Iterator[str]:
    """One folder: its own docstring, then a row a module."""
    name = folder.relative_to(PACKAGE.parent).as_posix()
    yield from (f"## {name}", "", summary(folder / "__init__.py"), "")
    yield from ("| module | what it is |", "|---|---|")
    for path in sorted(folder.glob("*.py")):
        if path.name != "__init__.py":
            yield f"| [{path.name}]({link(path)}) | {summary(path)} |"
    yield ""


def summary(path: Path) -> str:
    """The docstring's first paragraph on one line, as the cell of a table."""
    return cell((ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n\n")[0])


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def link(path: Path) -> str:
    return f"../{path.relative_to(ROOT).as_posix()}"


# -------------------------------------------------------------------------------------------------------------- notes


@dataclass(frozen=True)
class Citation:
    """A public function or class whose docstring cites mechanisms."""

    path: Path
    name: str
    docstring: str
    numbers: frozenset[str]

    @property
    def is_formula(self) -> bool:
        return self.path.parent.name == "formulas"

    @property
    def equation(self) -> str:
        """The docstring's indented equation where it has one, else its first sentence; citations left out."""
        paragraphs = self.docstring.split("\n\n")
        displayed = next((p.strip() for p in paragraphs[1:] if p.startswith("    ") and p.count("\n") < 2), None)
        return cell(re.sub(r",?(\n| {3,})\s*", "; ", displayed) if displayed else first_sentence(paragraphs[0]))


def first_sentence(paragraph: str) -> str:
    plain = re.sub(r"\s*\([^()]*\bN[1-5]\.\d[^()]*\)", "", " ".join(paragraph.split()))
    return re.split(r"(?<=[^.A-Z]{2}\.) (?=[A-Z`])", plain)[0].rstrip(".")


def citations() -> list[Citation]:
    found = []
    for path in sorted([*PACKAGE.rglob("*.py"), *(ROOT / "examples").glob("*.py")]):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                docstring = ast.get_docstring(node) or ""
                if numbers := frozenset(NUMBER.findall(docstring)):
                    found.append(Citation(path, node.name, docstring, numbers))
    return found


def notes_page(text: str) -> str:
    """What docs/notes.md must be: its prose as it stands, the rest written anew."""
    prose = text.partition("## The equations, and where they are")[0]
    cited = citations()

    def with_code(section: re.Match[str]) -> str:
        body = re.sub(r"^\*\*Code\*\*:.*?\n\n", "", section.group(), flags=re.MULTILINE | re.DOTALL)
        return f"{body.rstrip()}\n\n**Code**: {code_line([c for c in cited if section[1] in c.numbers])}\n\n"

    return SECTION.sub(with_code, prose) + EQUATIONS_HEAD + "".join(rows(cited, mechanisms(prose)))


def mechanisms(text: str) -> list[str]:
    return [section[1] for section in SECTION.finditer(text)]


def code_line(cited: list[Citation]) -> str:
    """Formulas first, then the rooms that use them."""
    files: dict[Path, list[str]] = {}
    for citation in sorted(cited, key=lambda c: not c.is_formula):
        files.setdefault(citation.path, []).append(f"`{citation.name}`")
    named = (f"[{short(path)}]({link(path)}) {', '.join(names)}" for path, names in files.items())
    return "; ".join(named)


def short(path: Path) -> str:
    return path.relative_to(PACKAGE if path.is_relative_to(PACKAGE) else ROOT).as_posix()


def rows(cited: list[Citation], numbers: list[str]) -> Iterator[str]:
    """A row for each formula under the first number that it cites; where a number has none, what else cites it."""
    for number in numbers:
        mine = [c for c in cited if number in c.numbers]
        formulas = [c for c in mine if c.is_formula]
        for citation in formulas or mine:
            where = f"[{short(citation.path)}]({link(citation.path)}) `{citation.name}`"
            yield f"| {number} | {citation.equation} | {where} |\n"


if __name__ == "__main__":
    main()
