"""Words: NOTATION.md's glossary is the code's own, and the words that it turns down are nobody's name."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator

from tests.architecture.repo import PACKAGE, at, nodes, none_of, package_files, tree
from tests.architecture.test_notation import tables

GLOSSARY = tables()["Words"]
TURNED_DOWN = {word for row in tables()["Words that are no names"] for word in re.findall(r"`(\w+)`", row["not"])}


def test_every_word_of_the_glossary_is_in_the_code():
    known = {node.name for path in package_files() for node in nodes(path) if isinstance(node, DEFINES)}
    known |= {name for path in package_files() for name, _ in names(tree(path))}
    missing = [
        f"{row['word']}: {name}"
        for row in GLOSSARY
        for name in re.findall(r"`(\w+)`", row["in the code"])
        if name not in known
    ]
    none_of(missing)
    assert len(GLOSSARY) >= 20


def test_words_that_are_turned_down_are_no_names():
    assert {"place", "told", "found"} <= TURNED_DOWN
    none_of(
        [
            f"{at(path, node)}: {name}"
            for path in package_files()
            for name, node in names(tree(path))
            if name.strip("_").lower() in TURNED_DOWN
        ]
    )


def test_a_class_has_its_name_for_itself():
    """Who reads `Answer` knows which; protocols of one method in the file that asks for them may repeat (`_Trunk`)."""
    homes = defaultdict(list)
    for path in package_files():
        for node in nodes(path):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and node.name not in SHARED:
                homes[node.name].append(path.relative_to(PACKAGE))
    none_of([f"{name}: {', '.join(map(str, paths))}" for name, paths in homes.items() if len(paths) > 1])


SHARED = {"Participants", "RewardModel"}
"""Class names of several modules: each stage has its own participants beside its `participants` and `optimise`, and
`plaudit.RewardModel` is what a notebook holds of the protocol of that name."""
DEFINES = ast.FunctionDef | ast.ClassDef


def names(module: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Whatever the code gives a name: functions, classes, arguments, variables, attributes, fields."""
    for node in ast.walk(module):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.arg(arg=name):
                yield name, node
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name, node
