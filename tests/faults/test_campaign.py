"""The list of faults is whole, and every test that it names is there."""

import ast
import re
from functools import cache

import pytest

from tests.architecture.repo import ROOT, none_of
from tests.faults.campaign import FAULTS, KINDS

NAMED = {f"{number}, {fault}": tests for number, (fault, tests) in FAULTS.items()} | KINDS


@cache
def names_in(file: str) -> set[str]:
    path = ROOT / "tests" / f"{file}.py"
    source = ast.parse(path.read_text(encoding="utf-8")) if path.is_file() else ast.Module([], [])
    return {node.name for node in source.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("fault", NAMED)
def test_every_fault_has_its_tests(fault):
    assert NAMED[fault], "a fault without a test"
    named = [test.partition("::") for test in NAMED[fault]]
    none_of([f"tests/{file}.py has no test_{name}" for file, _, name in named if f"test_{name}" not in names_in(file)])


def test_no_fault_is_left_out():
    assert list(FAULTS) == list(range(1, 43))


def test_what_is_not_done_names_its_fault():
    """A table of the page: number, what isn't done, why."""
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \| ([^|]+) \|$", page, re.MULTILINE)
    assert {int(number) for number, _, _ in rows} <= set(FAULTS)
    assert rows and all(what.strip() and why.strip() for _, what, why in rows)
