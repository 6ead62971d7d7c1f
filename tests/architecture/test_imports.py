"""Which package is known to which room. `.importlinter` holds the order of the rooms; this holds the outside world."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.repo import PACKAGE, at, nodes, none_of, package_files

ANYWHERE = set(sys.stdlib_module_names) | {"plaudit", "_typeshed"}  # the latter for type checkers only
TENSOR_ROOMS = {"records", "formulas", "tokens", "hardware", "models", "engines", "scoring", "rollouts"}
TENSOR_ROOMS |= {"evaluation", "training"}

ALLOWED = {
    "torch": TENSOR_ROOMS | {"pipeline", "doctor"},
    "jaxtyping": TENSOR_ROOMS,
    "transformers": {"tokens", "models", "engines"},
    "huggingface_hub": {"models"},
    "tokenizers": {"tokens", "models"},
    "safetensors": {"models", "training"},
    "peft": {"models"},
    "vllm": {"engines"},
    "ray": {"engines"},
    "datasets": {"data"},
    "pyarrow": {"data"},
    "lm_eval": {"evaluation"},
    "httpx2": {"scoring"},
    "rapidfuzz": {"scoring"},
    "sympy": {"scoring"},
    "py3langid": {"scoring"},
    "numpy": {"scoring", "evaluation", "engines", "report"},
    "plotly": {"report"},
    "jinja2": {"report", "runs", "tokens", "web"},
    "markupsafe": {"report", "web"},
    "sqlalchemy": {"feedback"},
    "psycopg": {"feedback"},
    "starlette": {"web"},
    "uvicorn": {"web"},
    "markdown_it": {"web"},
    "pydantic": {"config"},
    "pydantic_core": {"config"},
    "yaml": {"runs", "report", "config"},
    "filelock": {"runs"},
    "IPython": {"telemetry"},
    "rich": {"config", "telemetry", "report", "cli", "doctor", "pipeline"},
    "wandb": {"telemetry"},
    "tensorboard": {"telemetry"},
    "trackio": {"telemetry"},
}
"""A package that is not here needs a line in docs/decisions/0001-dependencies.md before it gets one here."""


def test_every_outside_package_stays_in_its_rooms():
    strangers = [
        f"{at(path, node)}: {room(path)} imports {name}"
        for path in package_files()
        for node, name in imported(path)
        if name.split(".")[0] not in ANYWHERE and room(path) not in ALLOWED.get(name.split(".")[0], set())
    ]
    none_of(strangers)


def test_only_hardware_knows_of_ranks():
    strangers = [
        at(path, node)
        for path in package_files()
        for node, name in imported(path)
        if name.startswith("torch.distributed") and room(path) != "hardware"
    ]
    none_of(strangers)


def test_shapes_are_checked_where_they_are_written():
    """With postponed annotations jaxtyping sees strings, and a wrong shape passes the tests."""
    silent = [
        str(path)
        for path in package_files()
        if {"jaxtyping", "__future__.annotations"} <= {name for _, name in imported(path)}
    ]
    none_of(silent)


def room(path: Path) -> str:
    """`data` for data/sources.py, `cli` for cli.py."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[tuple[ast.AST, str]]:
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node, node.module
            if node.module in ("__future__", "torch"):  # `from torch import distributed` is torch.distributed
                yield from ((node, f"{node.module}.{alias.name}") for alias in node.names)
