"""The room is pure: torch, jaxtyping and the standard library; and three of its modules do without torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import plaudit.formulas

ROOM = Path(plaudit.formulas.__file__).parent
MODULES = sorted(path.stem for path in ROOM.glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("module", ["intervals", "optimum", "schedules"])
def test_torch_is_not_loaded(module):
    check = f"import sys, plaudit.formulas.{module}; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


@pytest.mark.parametrize("module", MODULES)
def test_only_torch_jaxtyping_and_the_standard_library(module):
    tree = ast.parse((ROOM / f"{module}.py").read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    allowed = {"torch", "jaxtyping", *sys.stdlib_module_names}
    strangers = {name for name in imported if name.split(".")[0] not in allowed}
    assert {name for name in strangers if not name.startswith("plaudit.formulas.")} == set()
    assert "__future__" not in imported  # jaxtyping needs real annotations
