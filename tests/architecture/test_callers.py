"""Nothing is written for nobody: each public function, class and method is used in the package or in the examples."""

import ast
from collections import Counter
from collections.abc import Iterator

from tests.architecture.repo import PACKAGE, ROOT, files, none_of, package_files, tree

CALLED_FROM_OUTSIDE = {
    "telemetry/console.py:Terminal.emit": "logging calls its handlers by it",
    "telemetry/events.py:EventLog.emit": "logging calls its handlers by it",
    "web/serve.py:Impatient.connection_made": "asyncio calls protocols by it",
    "web/serve.py:Impatient.handle_events": "uvicorn calls it when bytes have come",
}
"""`file:name` -> who calls it, if nobody in the package does. Empty is best."""
SPELLS_NAMES = ("__init__.py", "stages.py", "load.py")
"""Files that name functions in strings: lazy exports, the stages (`module:function`), a config's own check."""


def test_every_definition_has_a_user():
    uses = Counter()
    for path in [*package_files(), *files(".py", under=ROOT / "examples")]:
        uses += used_names(tree(path), strings=path.name in SPELLS_NAMES)
    unused = {
        f"{path.relative_to(PACKAGE)}:{name}"
        for path in package_files()
        for name, node in definitions(tree(path))
        if uses[name.split(".")[-1]] <= used_names(node)[name.split(".")[-1]]  # its own recursion is no use
    }
    none_of([f"{name} is used by nobody" for name in sorted(unused - set(CALLED_FROM_OUTSIDE))])
    assert set(CALLED_FROM_OUTSIDE) <= unused, "the allow-list names what has a user, or is gone"


def test_the_rule_sees():
    source = "def a(): return a()\ndef b(): return 1\nclass C:\n    def d(self): return b()\n    def _e(self): pass\n"
    module = ast.parse(source)
    assert [name for name, _ in definitions(module)] == ["a", "b", "C", "C.d"]
    assert used_names(module)["a"] == used_names(module.body[0])["a"] == 1  # by itself alone
    assert used_names(module)["b"] == 1


def definitions(module: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, node
            for method in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
                    yield f"{node.name}.{method.name}", method


def used_names(node: ast.AST, *, strings: bool = False) -> Counter[str]:
    """Names that are read or called, and with `strings` those that a string spells (lazy exports); an import alone is
    no use."""
    return Counter(
        name
        for inner in ast.walk(node)
        for name in (
            inner.id
            if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Load)
            else inner.attr
            if isinstance(inner, ast.Attribute)
            else inner.value.rpartition(":")[2]
            if strings and isinstance(inner, ast.Constant) and isinstance(inner.value, str)
            else None,
        )
        if name
    )
