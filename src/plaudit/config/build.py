"""From trees of values to a config: layers are merged by type, the command line's options among them, the whole is
checked, each mistake is told where it was written."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from pydantic_core import SchemaValidator, ValidationError

from plaudit.config.names import meant, missing_here
from plaudit.config.read import Node, from_plain, parse_option
from plaudit.config.types import (
    MISSING,
    arm_of_kind,
    bare_field,
    child_type,
    choices,
    default_of,
    field_types,
    idle_fields,
    join,
    kind_of,
    kinds,
    phrase,
    shape,
    to_plain,
)  # fmt: skip
from plaudit.errors import UserError


def build(cls: type, tree: Node, problems: list[str], path: str = "") -> Any:
    """An instance of `cls`, or None where something is wrong with the tree; `problems` then says what, with its place.

    `path`: where the tree stands in a larger one.
    """
    own = _Problems(cls)
    config = _value(cls, tree, MISSING, path, own)
    problems += own
    return None if own else config


class _Problems(list[str]):
    """What is wrong with a tree; `root` is the class that the whole of it is for."""

    def __init__(self, root: type) -> None:
        super().__init__()
        self.root = root


# ---------------------------------------------------------------------------------------------------------- layers


def merge(tp: Any, base: Node, over: Node, path: str, problems: list[str]) -> Node:
    """`base` with `over` laid on top, by type: another `kind` drops the old alternative's keys, a list is edited by
    index, everything else that is not a mapping is replaced."""
    base, over = _expand(tp, base), _expand(tp, over)
    if not isinstance(over.value, dict):
        return over
    if isinstance(base.value, list) and _by_index(over):
        return _edited(tp, base, over, path, problems)
    if not isinstance(base.value, dict) or _switches_kind(tp, base, over):
        return over
    items = dict(base.value)
    for key, node in over.value.items():
        if key in items:
            node = merge(child_type(tp, key, (over, base)), items[key], node, join(path, key), problems)
        items[key] = node
    return Node(items, base.where)


def _edited(tp: Any, base: Node, over: Node, path: str, problems: list[str]) -> Node:
    items = list(base.value)
    for key, node in sorted(over.value.items(), key=lambda item: int(item[0])):
        index = int(key)
        if index > len(items):
            problems.append(f"{node.where}: {path} has {len(items)} items; the next one is {path}.{len(items)}")
        elif index == len(items):
            items.append(node)
        else:
            items[index] = merge(child_type(tp, key, ()), items[index], node, join(path, key), problems)
    return Node(items, base.where)


def _expand(tp: Any, node: Node) -> Node:
    """Bare values in their full form: a kind's name, a dataclass's only required text, a list's only element."""
    if node.value is None or tp is None or (this := shape(tp)).leaf:
        return node
    if this.items:
        return node if isinstance(node.value, list) or _by_index(node) else Node([node], node.where)
    if isinstance(node.value, (dict, list)) or not this.arms:
        return node
    name = "kind" if len(this.arms) > 1 else bare_field(this.arms[0])
    return Node({name: node}, node.where) if name else node


def _by_index(node: Node) -> bool:
    return isinstance(node.value, dict) and bool(node.value) and all(key.isdecimal() for key in node.value)


def _switches_kind(tp: Any, base: Node, over: Node) -> bool:
    if tp is None or len(shape(tp).arms) < 2 or "kind" not in base.value or "kind" not in over.value:
        return False
    return arm_of_kind(tp, kind_of(base)) is not arm_of_kind(tp, kind_of(over))


# --------------------------------------------------------------------------------------------------------- checking


def _value(tp: Any, node: Node, default: Any, path: str, problems: _Problems) -> Any:
    """What a node means where `tp` is wanted. `default`: the field's; it fills what the node leaves open."""
    node, this = _expand(tp, node), shape(tp)
    if this.items and _by_index(node):
        node = _edited(tp, from_plain(() if default in (MISSING, None) else to_plain(default)), node, path, problems)
    if this.leaf is Node or (node.value is None and this.optional):
        return node if this.leaf is Node else None
    if this.items and isinstance(node.value, list):
        if this.fixed not in (0, len(node.value)):
            return _tell(problems, node, path, f"needs {this.fixed} values, got {len(node.value)}")
        items = enumerate(node.value)
        return tuple(_value(this.item(i), one, MISSING, join(path, str(i)), problems) for i, one in items)
    if this.leaf is not None:
        return _scalar(tp, node, path, problems)
    if not isinstance(node.value, dict):
        return _tell(problems, node, path, _unfit(tp, node))
    if this.values is not None:
        keys = node.value.items()
        return {key: _value(this.values, one, MISSING, join(path, key), problems) for key, one in keys}
    return _group(tp, node, default, path, problems)


def _group(tp: Any, node: Node, default: Any, path: str, problems: _Problems) -> Any:
    """A dataclass; where the field's default is an instance of it, what the node leaves open is that instance's."""
    before, arms, kind = len(problems), shape(tp).arms, node.value.get("kind")
    values: dict[str, Any] = {}
    cls = arms[0] if len(arms) == 1 else arm_of_kind(tp, kind_of(node)) if kind else type(default)
    if cls not in arms:
        known = [word for arm in arms for word in kinds(arm)]
        what = _not_among(kind_of(node), known) if kind else f"missing; choose from: {', '.join(known)}"
        return _tell(problems, kind or node, join(path, "kind"), what)
    for key, one in node.value.items():
        if key not in field_types(cls):
            _tell(problems, one, join(path, key), _unknown(key, cls, tp, problems.root))
    for name, wanted in field_types(cls).items():
        old = getattr(default, name) if type(default) is cls else default_of(cls, name)
        if name in node.value:
            values[name] = _value(wanted, node.value[name], old, join(path, name), problems)
        elif old is MISSING:
            _tell(problems, node, join(path, name), f"missing; it has no default ({phrase(wanted)})")
        else:
            values[name] = old
    for name, why in idle_fields(tp).items():
        if name in node.value and values.get(name) != default_of(cls, name):
            _tell(problems, node.value[name], join(path, name), f"has no effect here: {why}")
    try:
        return cls(**values) if len(problems) == before else None
    except (UserError, ValueError, TypeError) as error:
        return _tell(problems, node, path, str(error))


_NAMES: dict[Any, Any] = {int: "int", float: "float", bool: "bool", str: "str", Any: "any"}
_CHECKS = {tp: SchemaValidator({"type": name}) for tp, name in _NAMES.items()}


def _scalar(tp: Any, node: Node, path: str, problems: _Problems) -> Any:
    """Text fields get what was written; true is no 1, and what is not a number is no number."""
    this, known, value = shape(tp), choices(tp), to_plain(node)
    if known or this.leaf is str:
        value = value if node.text is None else node.text
    elif (isinstance(value, bool) and this.leaf not in (bool, Any)) or value != value:
        value = "not a number"
    if value in known:
        return value
    if known and this.items and isinstance(value, str):
        return (value,)
    if known and not this.items:
        return _tell(problems, node, path, _not_among(value, known))
    try:
        return _CHECKS[str if known else this.leaf].validate_python(value)
    except ValidationError:
        return _tell(problems, node, path, _unfit(tp, node))


# ---------------------------------------------------------------------------------------------------------- telling


def _tell(problems: _Problems, node: Node, path: str, what: str) -> None:
    """One more problem, behind the place where the value, or what lacks it, was written."""
    is_named = not path or node.where.replace("-", "_") == f"__{path.replace('-', '_')}"
    problems.append(f"{node.where}: {'' if is_named else f'{path}: '}{what}")


def _unfit(tp: Any, node: Node) -> str:
    shown = to_plain(node) if node.text is None else node.text
    return f"expected {phrase(tp)}, got {'nothing' if node.value is None else repr(shown)}"


def _unknown(key: str, cls: type, union: Any, root: type) -> str:
    for arm in shape(union).arms:
        if arm is not cls and key in field_types(arm):
            return f"has no effect with kind {kinds(cls)[0]!r}; it belongs to kind {kinds(arm)[0]!r}"
    if why := missing_here(key):
        return f"unknown key: there is no such option; {why}"
    if near := meant(key, cls):
        return f"unknown key; did you mean {near!r}?"
    if (far := meant(key, root)) and key in far.split("."):
        return f"unknown key; {far!r} is an option, but does not stand here"
    return f"unknown key; known: {', '.join(field_types(cls))}"


def _not_among(word: Any, known: Sequence[Any]) -> str:
    near = difflib.get_close_matches(str(word), known, n=1)
    return f"{word!r} is none of: {', '.join(known)}" + (f"; did you mean {near[0]!r}?" if near else "")


# ---------------------------------------------------------------------------------------------- command-line options


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
