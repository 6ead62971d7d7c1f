"""What the architecture tests look at: the checkout's own files, never an installed copy."""

import ast
import os
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGE = ROOT / "src" / "plaudit"
NOT_OURS = {".venv", ".git", "runs", "build", "dist", "node_modules"}


def files(*suffixes: str, under: Path = ROOT) -> list[Path]:
    """Every file with one of the suffixes, recursively; caches, environments and run folders are left out."""
    found = [path for path in every_file() if path.suffix in suffixes and path.is_relative_to(under)]
    assert found, f"no {suffixes} under {under}: is the test looking in the right place?"
    return found


@cache
def every_file() -> tuple[Path, ...]:
    def is_cache(name: str) -> bool:
        return name == "__pycache__" or name.endswith("_cache")

    found: list[Path] = []
    for folder, below, names in os.walk(ROOT):
        below[:] = [name for name in below if not is_cache(name) and (folder != str(ROOT) or name not in NOT_OURS)]
        found += [Path(folder, name) for name in names]
    return tuple(sorted(path for path in found if path.is_file()))


def package_files() -> list[Path]:
    return files(".py", under=PACKAGE)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Every node of a file's tree."""
    return tuple(ast.walk(tree(path)))


@cache
def calls(path: Path) -> tuple[tuple[str, ast.Call], ...]:
    """Every call in a file with the dotted name it is made by: `torch.load`, `open`, `path.read_text`."""
    return tuple((ast.unparse(node.func), node) for node in nodes(path) if isinstance(node, ast.Call))


def at(path: Path, node: ast.AST) -> str:
    return f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"


def none_of(problems: list[str]) -> None:
    """Fails with one problem a line, all of them."""
    __tracebackhide__ = True
    assert not problems, "\n  " + "\n  ".join(problems)
