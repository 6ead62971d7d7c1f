"""Shell completion: the scripts ask `plaudit completion words` what may come next; where it has no answer, files do."""

import argparse
from collections.abc import Iterable, Sequence

SCRIPTS = {
    "bash": r"""_plaudit() {
  local IFS=$'\n'
  COMPREPLY=($(plaudit completion words -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _plaudit plaudit
""",
    "zsh": r"""#compdef plaudit
_plaudit() {
  local -a found
  found=(${(f)"$(plaudit completion words -- "${words[@]:1:$((CURRENT - 1))}" 2>/dev/null)"})
  if (( $#found )); then compadd -a found; else _files; fi
}
compdef _plaudit plaudit
""",
    "fish": r"""function __plaudit_words
  set -l typed (commandline -opc) (commandline -ct)
  plaudit completion words -- $typed[2..-1]
end
complete -c plaudit -a '(__plaudit_words)'
""",
}
"""To be evaluated at start-up: `eval "$(plaudit completion bash)"`, `plaudit completion fish | source`."""


def candidates(parser: argparse.ArgumentParser, typed: Sequence[str]) -> list[str]:
    """What the last of the typed words may become; the words are those behind `plaudit`."""
    *before, word = typed or [""]
    depth = 0
    while (children := _children(parser)) and depth < len(before) and before[depth] in children:
        parser, depth = children[before[depth]], depth + 1
    known: Iterable[str]
    if children:
        known = children
    elif word.startswith("-"):
        known = _options(parser)
    elif before[depth:] and before[-1].startswith("-"):
        known = _options(parser).get(before[-1], ())
    else:
        known = (choice for action in parser._actions if not action.option_strings for choice in action.choices or ())
    return sorted({one for one in known if one.startswith(word)})


def _children(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    groups = [action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(groups[0]) if groups else {}


def _options(parser: argparse.ArgumentParser) -> dict[str, list[str]]:
    """Each option with the words that it has a choice of."""
    known: dict[str, list[str]] = {name: [] for action in parser._actions for name in action.option_strings}
    if stage := parser.get_default("stage"):
        from plaudit.config.explain import describe

        for option in describe(stage.config_class):
            words = option.type.split(" | ")
            known.setdefault(f"--{option.name.replace('.N', '.0')}", []).extend(words if len(words) > 1 else [])
    return known
