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
        path, tp, negated = _resolve(cls, name, (tree, file))
        node = None
        if tp is None or shape(tp).leaf is bool:  # an unknown option is left for the check to name
            node = Node(None if tp is None else not negated, f"--{name}")
        if negated and equals:
            problems.append(f"--{name}: takes no value; write --{'.'.join(path)}={value}")
        elif equals:
            node = parse_option(value, f"--{name}")
        elif not negated and words and not _is_option(words[0]):
            node = parse_option(words.pop(0), f"--{name}")
        lists = [depth for depth in range(1, len(path)) if _is_list(cls, path[:depth], (tree, file))]
        unindexed = next((".".join(path[:depth]) for depth in lists if not path[depth].isdecimal()), "")
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


def _is_list(cls: type, path: Sequence[str], trees: Sequence[Node]) -> bool:
    tp = _walk(cls, path, trees)[1]
    return tp is not None and bool(shape(tp).items)


def _resolve(cls: type, name: str, trees: Sequence[Node]) -> tuple[list[str], Any, bool]:
    """(path, its type or None if there is no such field, whether it is `--no-...` of a bool)."""
    path, tp = _walk(cls, name.split("."), trees)
    if tp is None and name.startswith("no-"):
        positive, positive_tp = _walk(cls, name[3:].split("."), trees)
        if positive_tp is not None and shape(positive_tp).leaf is bool:
            return positive, positive_tp, True
    return path, tp, False


def _walk(cls: type, parts: Sequence[str], trees: Sequence[Node]) -> tuple[list[str], Any]:
    """Follow a path through the types; dashes become underscores where only that names a field."""
    path: list[str] = []
    tp: Any = cls
    for part in parts:
        names = (part, part.replace("-", "_"))
        part, tp = next(((name, below) for name in names if (below := child_type(tp, name, trees))), (part, None))
        path.append(part)
        trees = [tree.value[part] for tree in trees if isinstance(tree.value, dict) and part in tree.value]
    return path, tp
