"""NOTATION.md against the source: names exist, shapes are as annotated, formulas cite notes that there are."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "plaudit"
FORMULAS = sorted((SOURCE / "formulas").glob("*.py"))
RECORDS = [SOURCE / "records" / "tensors.py"]
LAST_NOTE = {1: 3, 2: 3, 3: 14, 4: 13, 5: 2}
"""How many mechanisms each study note has."""
NOTE = re.compile(r"\bN(\d+)\.(\d+)")


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def tables() -> dict[str, list[dict[str, str]]]:
    """Section -> rows of its table, by column."""
    found: dict[str, list[dict[str, str]]] = {}
    section, header = "", []
    for line in (ROOT / "NOTATION.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            section, header = line.lstrip("# "), []
        elif line.startswith("|"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if not header:
                header = cells
            elif set(line) - set("|-"):
                found.setdefault(section, []).append(dict(zip(header, cells, strict=True)))
    return found


def names_in(row: dict[str, str]) -> list[str]:
    return re.findall(r"`(\w+)`", row["name"])


PLANNED = tables().get("Decided, not yet in the code", [])
"""Names that are agreed on and not built yet; the section is missing while there are none."""
ROWS = [row for section, rows in tables().items() if rows is not PLANNED and "shape" in rows[0] for row in rows]
NAMES = {name: row for row in ROWS for name in names_in(row)}


def defined_names() -> set[str]:
    """Every parameter, field, function, property and class of the package."""
    names: set[str] = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.arg):
                names.add(node.arg)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                names.add(node.target.id)
            elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(node.name)
    return names


def annotated_shapes(path: Path) -> Iterator[tuple[str, str]]:
    """(name, dims) of every parameter or field whose annotation holds a jaxtyping shape."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.arg) and node.annotation is not None:
            name, annotation = node.arg, node.annotation
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name, annotation = node.target.id, node.annotation
        else:
            continue
        for part in ast.walk(annotation):
            if isinstance(part, ast.Constant) and isinstance(part.value, str) and "Tensor" in ast.unparse(annotation):
                yield name, part.value.strip()


def public_definitions(path: Path) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    for node in parse(path).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node


def cited(text: str) -> list[tuple[int, int]]:
    return [(int(chapter), int(item)) for chapter, item in NOTE.findall(text)]


def test_the_tables_are_read():
    assert len(ROWS) > 40
    assert {"response_mask", "rewards", "gae_lambda", "chosen"} <= set(NAMES)
    assert len(NAMES) == sum(len(names_in(row)) for row in ROWS), "a name has two rows"


def test_every_name_exists():
    assert set(NAMES) - defined_names() == set()


def test_what_is_built_is_no_longer_planned():
    planned = {name for row in PLANNED for name in names_in(row)}
    assert planned & defined_names() == set(), "move these up into the tables of NOTATION.md"


@pytest.mark.parametrize("path", [*FORMULAS, *RECORDS], ids=lambda path: path.stem)
def test_shapes_are_those_of_the_table(path):
    for name, dims in annotated_shapes(path):
        if name in NAMES and "shape" in NAMES[name]:
            allowed = re.findall(r"\[([^\]]*)\]", NAMES[name]["shape"])
            assert dims in allowed, f"{path.name}: {name} is [{dims}], NOTATION.md says {NAMES[name]['shape']}"


@pytest.mark.parametrize("path", FORMULAS, ids=lambda path: path.stem)
def test_every_tensor_that_a_formula_takes_is_in_the_table(path):
    taken = {
        name
        for definition in public_definitions(path)
        if isinstance(definition, ast.FunctionDef)
        for argument in [*definition.args.args, *definition.args.kwonlyargs]
        if argument.annotation is not None and "Tensor" in ast.unparse(argument.annotation)
        for name in [argument.arg]
    }
    assert taken - set(NAMES) == set()


@pytest.mark.parametrize("path", [path for path in FORMULAS if path.stem != "__init__"], ids=lambda path: path.stem)
def test_every_public_formula_cites_a_note(path):
    definitions = list(public_definitions(path))
    assert definitions
    uncited = [d.name for d in definitions if not cited(ast.get_docstring(d) or "")]
    assert uncited == []


@pytest.mark.parametrize(
    "path", [ROOT / "NOTATION.md", *sorted(SOURCE.rglob("*.py"))], ids=lambda path: str(path.relative_to(ROOT))
)
def test_cited_notes_exist(path):
    for chapter, item in cited(path.read_text(encoding="utf-8")):
        assert 1 <= item <= LAST_NOTE.get(chapter, 0), f"N{chapter}.{item}"


def test_every_row_cites_a_note():
    assert [row for row in [*ROWS, *PLANNED] if not cited(row["note"])] == []
