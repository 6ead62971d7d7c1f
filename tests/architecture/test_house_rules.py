"""Rules of the house that a machine can hold: sizes, no pickle, utf-8, no places of one machine, documented options."""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.architecture.repo import ROOT, at, calls, files, nodes, none_of, package_files, tree

MAX_FUNCTION_LINES = 60
MAX_FILE_LINES = 400
MAX_TEST_FILE_LINES = 600
LONG_FUNCTIONS = {
    "src/plaudit/training/policy/loop.py:optimise": "the algorithm, to be read from top to bottom",
    "tests/models/zoo.py:language_model": "a table: each family with its small config",
}
"""`path:function` -> why it must be long. Empty is best."""

PICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
FORBIDDEN_CALLS = {
    "torch.save": "pickles; use safetensors",
    "yaml.load": "runs code; use yaml.safe_load",
    "yaml.unsafe_load": "runs code; use yaml.safe_load",
    "eval": "runs text as code",
    "exec": "runs text as code",
}


# ---------------------------------------------------------------------------------------------------- sizes


def test_no_giant_functions():
    giants = {
        f"{path.relative_to(ROOT)}:{node.name}": node.end_lineno - node.lineno + 1
        for path in files(".py")
        for node in nodes(path)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno - node.lineno + 1 > MAX_FUNCTION_LINES
    }
    none_of([f"{name} has {lines} lines" for name, lines in giants.items() if name not in LONG_FUNCTIONS])
    assert set(LONG_FUNCTIONS) <= set(giants), "the allow-list names functions that are short or gone"


def test_no_giant_files():
    giants = []
    for path in files(".py", ".js", ".css"):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > (MAX_TEST_FILE_LINES if path.is_relative_to(ROOT / "tests") else MAX_FILE_LINES):
            giants.append(f"{path.relative_to(ROOT)} has {lines} lines")
    none_of(giants)


# ---------------------------------------------------------------------------------------------------- safety


def test_nothing_is_pickled():
    imports = [
        f"{at(path, node)}: {name}"
        for path in package_files()
        for node in nodes(path)
        for name in imported_names(node)
        if name.split(".")[0] in PICKLERS
    ]
    none_of(imports)


def test_torch_load_reads_weights_only():
    """The safe flag is written out, whatever the installed torch has as its default."""
    unsafe = [
        at(path, call)
        for path in package_files()
        for name, call in calls(path)
        if name == "torch.load" and keyword(call, "weights_only") != "True"
    ]
    none_of(unsafe)


def test_no_dangerous_calls():
    found = [
        f"{at(path, call)}: {name} {FORBIDDEN_CALLS[name]}"
        for path in package_files()
        for name, call in calls(path)
        if name in FORBIDDEN_CALLS or keyword(call, "allow_pickle") == "True"
    ]
    none_of(found)


def test_remote_code_is_never_trusted_by_default():
    trusting = [
        at(path, call)
        for path in package_files()
        for _, call in calls(path)
        if keyword(call, "trust_remote_code") == "True"
    ]
    none_of(trusting)


# ---------------------------------------------------------------------------------------------------- text


def test_text_is_utf8_whatever_the_machine():
    """Without `encoding`, Windows and a bare container read and write another alphabet."""
    silent = [
        at(path, call) for path in package_files() for name, call in calls(path) if opens_text_silently(name, call)
    ]
    none_of(silent)


@pytest.mark.parametrize(
    ("source", "silent"),
    [
        ("open('x')", True),
        ("open('x', 'rb')", False),
        ("open('x', encoding='utf-8')", False),
        ("path.open('w')", True),
        ("path.open('wb', buffering=0)", False),
        ("path.read_text()", True),
        ("path.write_text(text, encoding='utf-8')", False),
        ("gzip.open('x', 'rt')", True),
        ("gzip.open('x')", False),
        ("os.open('x', 0)", False),
    ],
)
def test_the_utf8_rule_sees(source, silent):
    call = ast.parse(source, mode="eval").body
    assert opens_text_silently(ast.unparse(call.func), call) is silent


def opens_text_silently(name: str, call: ast.Call) -> bool:
    if keyword(call, "encoding") is not None:
        return False
    last = name.rsplit(".", 1)[-1]
    if last in ("read_text", "write_text"):
        return len(call.args) < (1 if last == "read_text" else 2)
    if last != "open" or name.startswith(("os.", "socket.", "webbrowser.")):
        return False
    place = 1 if name in ("open", "io.open", "gzip.open") else 0  # path.open(mode) has the mode first
    mode = (
        call.args[place] if len(call.args) > place else next((k.value for k in call.keywords if k.arg == "mode"), None)
    )
    if mode is None:
        return name != "gzip.open"
    return (
        isinstance(mode, ast.Constant)
        and isinstance(mode.value, str)
        and "b" not in mode.value
        and (name != "gzip.open" or "t" in mode.value)
    )


def test_no_file_names_a_place_of_one_machine():
    """Absolute paths of somebody's machine end up in documentation, defaults and logs."""
    place = re.compile(r"(?<![\w./\-])/(?:" + "work|home|root|Users" + r")/\w")
    suffixes = (
        ".py",
        ".md",
        ".toml",
        ".yaml",
        ".yml",
        ".txt",
        ".html",
        ".js",
        ".css",
        ".json",
        ".jsonl",
        ".cfg",
        ".ini",
    )
    texts = [*files(*suffixes), ROOT / "Makefile", ROOT / ".ci" / "run", ROOT / ".importlinter", ROOT / ".gitignore"]
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in texts
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if place.search(line)
    ]
    none_of(found)


# ---------------------------------------------------------------------------------------------------- words


def test_every_module_says_what_it_is():
    silent = [str(path.relative_to(ROOT)) for path in package_files() if not ast.get_docstring(tree(path))]
    none_of(silent)


def test_configs_are_frozen_and_every_option_is_explained():
    """`plaudit … --help` shows the literal under the field; an option without one has no help."""
    problems = []
    for path in package_files():
        for node in nodes(path):
            if isinstance(node, ast.ClassDef) and node.name.endswith("Config"):
                problems += [f"{at(path, node)}: {node.name} is not {flag}" for flag in missing_flags(node)]
                problems += [f"{at(path, field)}: {node.name} explains no option here" for field in unexplained(node)]
    none_of(problems)


def missing_flags(node: ast.ClassDef) -> list[str]:
    decorators = " ".join(ast.unparse(d) for d in node.decorator_list)
    return [flag for flag in ("frozen", "slots", "kw_only") if f"{flag}=True" not in decorators]


def unexplained(node: ast.ClassDef) -> Iterator[ast.AnnAssign]:
    for field, following in zip(node.body, [*node.body[1:], None], strict=True):
        if not isinstance(field, ast.AnnAssign) or ast.unparse(field.target) == "kind":
            continue  # `kind` is explained by its class
        if not (isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)):
            yield field


def imported_names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []


def keyword(call: ast.Call, name: str) -> str | None:
    return next((ast.unparse(k.value) for k in call.keywords if k.arg == name), None)
