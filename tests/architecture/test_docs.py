"""The documentation is true: its links lead somewhere, and the commands that it shows run."""

import ast
import dataclasses
import re
import typing
from pathlib import Path
from urllib.parse import unquote

from plaudit.stages import STAGES
from tests.architecture.repo import PACKAGE, ROOT, nodes, none_of
from tools import docs_commands, docstrings

LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?(?P<target>[^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)|(?:src|href)=\"(?P<html>[^\"]+)\"")
CODE = re.compile(r"^( {0,3})(`{3,}|~{3,}).*?^\1\2\s*$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
DOCUMENTS = docs_commands.documents()


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_relative_links_lead_somewhere():
    assert DOCUMENTS
    broken = [
        f"{named(document)} -> {target}"
        for document in DOCUMENTS
        for target in links(document)
        if not leads_somewhere(document, target)
    ]
    none_of(broken)


def links(document: Path) -> list[str]:
    text = CODE.sub("", document.read_text(encoding="utf-8"))
    return [match["target"] or match["html"] for match in LINK.finditer(text)]


def leads_somewhere(document: Path, target: str) -> bool:
    if re.match(r"[a-z][a-z+.-]*:", target):  # https:, mailto:
        return True
    place, _, anchor = unquote(target).partition("#")
    file = (document.parent / place) if place else document
    return file.exists() and (not anchor or file.suffix != ".md" or anchor in anchors(file))


def anchors(document: Path) -> set[str]:
    """Headings as GitHub makes anchors of them: lower case, punctuation gone, each space a hyphen."""
    headings = re.findall(r"^#{1,6}\s+(.*?)\s*#*$", document.read_text(encoding="utf-8"), re.MULTILINE)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings)
    made = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain}
    return made | set(re.findall(r"(?:id|name)=\"([^\"]+)\"", document.read_text(encoding="utf-8")))


def test_names_in_files_are_there():
    """`formulas/kl.py:k1` in a document: the file has a function, class, field or constant of that name."""
    wrong = [
        f"{named(document)}: {place}:{name}"
        for document in DOCUMENTS
        for place, name in re.findall(r"`([\w/]+\.py):([A-Za-z_]\w*)`", document.read_text(encoding="utf-8"))
        if place != "path.py"  # what a user writes for a file of their own
        and not any(name in defined(path) for path in (*PACKAGE.rglob(place), ROOT / place) if path.exists())
    ]
    none_of(wrong)


def defined(path: Path) -> set[str]:
    names = {node.name for node in nodes(path) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    stored = (n for n in nodes(path) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))
    return names | {node.id for node in stored}


def test_pages_of_docstrings_are_up_to_date():
    notes = docstrings.NOTES.read_text(encoding="utf-8")
    assert docstrings.MODULES.read_text(encoding="utf-8") == docstrings.modules_page(), "docs/modules.md: `make format`"
    assert notes == docstrings.notes_page(notes), "docs/notes.md: `make format`"


def test_every_mechanism_is_told_and_stands_in_the_code():
    told = docstrings.mechanisms(docstrings.NOTES.read_text(encoding="utf-8"))
    last = {1: 3, 2: 3, 3: 14, 4: 13, 5: 2}
    assert told == [f"N{chapter}.{number}" for chapter, n in last.items() for number in range(1, n + 1)]
    cited = {number for citation in docstrings.citations() for number in citation.numbers}
    none_of([f"{number}: no function or class cites it" for number in told if number not in cited])
    none_of([f"{number} is cited but told nowhere" for number in sorted(cited - set(told))])


def test_an_equation_is_what_the_docstring_displays_or_says_first():
    def equation(docstring):
        return docstrings.Citation(docstrings.NOTES, "f", docstring, frozenset()).equation

    assert equation("Advantages (N4.7).\n\n    δ = r        Â = Σ δ\n\nMore.") == "δ = r; Â = Σ δ"
    assert equation("|ℓ| ≥ 0: no estimate (N4.6; Schulman 2020). As a loss, none.") == r"\|ℓ\| ≥ 0: no estimate"


def test_every_option_is_named_in_the_documentation():
    words = set(re.findall(r"\w+", " ".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)))
    none_of(sorted({name for stage in STAGES.values() for name in options(stage.config_class)} - words))


def options(config: type) -> set[str]:
    """The names of a config's options and of those of its parts."""
    found, waiting = set(), [config]
    while waiting:
        part = waiting.pop()
        if isinstance(part, type) and dataclasses.is_dataclass(part):
            hints = typing.get_type_hints(part)
            waiting += hints.values()
            found |= {field.name for field in dataclasses.fields(part)} - {"kind"}
        else:
            waiting += typing.get_args(part)
    return found


def test_every_shell_block_says_whether_it_may_run():
    none_of(docs_commands.unclassified([block for path in DOCUMENTS for block in docs_commands.blocks(path)]))
