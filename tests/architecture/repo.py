"""What the architecture tests look at: the checkout's own files, never an installed copy."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGE = ROOT / "src" / "plaudit"
NOT_OURS = {".venv", ".git", "runs", "build", "dist", "node_modules"}


def files(*suffixes: str, under: Path = ROOT) -> list[Path]:
    """Every file with one of the suffixes, recursively; caches, environments and run folders are left out."""
    found = [path for path in under.rglob("*") if path.suffix in suffixes and path.is_file() and is_ours(path)]
    assert found, f"no {suffixes} under {under}: is the test looking in the right place?"
    return sorted(found)


def is_ours(path: Path) -> bool:
    parts = path.relative_to(ROOT).parts
    return parts[0] not in NOT_OURS and not any(part == "__pycache__" or part.endswith("_cache") for part in parts)


def package_files() -> list[Path]:
    return files(".py", under=PACKAGE)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Every call in a file with the dotted name it is made by: `torch.load`, `open`, `path.read_text`."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def at(path: Path, node: ast.AST) -> str:
    return f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"


def none_of(problems: list[str]) -> None:
    """Fails with one problem a line, all of them."""
    __tracebackhide__ = True
    assert not problems, "\n  " + "\n  ".join(problems)
