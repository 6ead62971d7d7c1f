"""Command-line options as a tree of values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from plaudit.config.build import merge
from plaudit.config.read import Node, parse_option
from plaudit.config.types import child_type, shape


def parse_overrides(cls: type, options: Sequence[str], file: Node, problems: list[str]) -> Node:
    """`["--a.b", "3", "--flag", "--no-x"]` as one tree; a later option wins over an earlier one.

    `file`: what the options will be laid on; where a part's class depends on its kind, the kind may stand there.
    """
    tree, words = Node({}, "options"), list(options)
    while words:
        word = words.pop(0)
        if not _is_option(word):
            problems.append(f"{word!r}: not an option; options look like --name value")
            continue
        name, equals, value = word[2:].partition("=")
        path, tp, unindexed = _walk(cls, name, (tree, file))
        positive = _walk(cls, name[3:], (tree, file)) if tp is None and name.startswith("no-") else ([], None, "")
        negated = positive[1] is not None and shape(positive[1]).leaf is bool
        path, tp, unindexed = positive if negated else (path, tp, unindexed)
        node = None
        if tp is None or shape(tp).leaf is bool:  # an unknown option is left for the check to name
            node = Node(None if tp is None else not negated, f"--{name}")
        if negated and equals:
            problems.append(f"--{name}: takes no value; write --{'.'.join(path)}={value}")
        elif equals:
            node = parse_option(value, f"--{name}")
        elif not negated and words and not _is_option(words[0]):
            node = parse_option(words.pop(0), f"--{name}")
        if unindexed:
            problems.append(f"--{name}: {unindexed} is a list; say which item, as in --{unindexed}.0.{path[-1]}")
        elif node is None:
            problems.append(f"--{name}: needs a value; write --{name}=VALUE")
        else:
            for part in reversed(path):
                node = Node({part: node}, node.where)
            tree = merge(cls, tree, node, "", problems)
    return tree


def _is_option(word: str) -> bool:
    return word.startswith("--") and len(word) > 2


def _walk(cls: type, name: str, trees: Sequence[Node]) -> tuple[list[str], Any, str]:
    """(the path that a dotted name means, its type or None if there is no such field, the first list of which no item
    is named). Dashes become underscores where only that names a field."""
    path: list[str] = []
    tp: Any = cls
    unindexed = ""
    for part in name.split("."):
        if tp is not None and shape(tp).items and not part.isdecimal():
            unindexed = unindexed or ".".join(path)
        names = (part, part.replace("-", "_"))
        part, tp = next(((name, below) for name in names if (below := child_type(tp, name, trees))), (part, None))
        path.append(part)
        trees = [tree.value[part] for tree in trees if isinstance(tree.value, dict) and part in tree.value]
    return path, tp, unindexed
