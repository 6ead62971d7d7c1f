"""What every number means: declared once, whole, logged or returned by somebody, and shown somewhere."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import plaudit
from plaudit.telemetry.register import MEASURES, PANELS, measure_of
from plaudit.telemetry.stage_measures import STAGE_MEASURES
from plaudit.telemetry.step_measures import STEP_MEASURES

SOURCE = Path(plaudit.__file__).parent
REGISTER = {"register.py", "step_measures.py", "stage_measures.py"}


def test_declarations_are_whole_and_named_by_the_rule() -> None:
    assert len(MEASURES) == len(STEP_MEASURES) + len(STAGE_MEASURES), "a key is declared twice"
    for key, measure in MEASURES.items():
        assert re.fullmatch(r"([a-z_]+/\{name\})?[a-z_]+", key), key
        assert measure.title and measure.title == measure.title.strip(".") and "over_" not in measure.title, key
        assert measure.meaning[0].isupper() or measure.meaning[0] in "−β", key
        assert measure.meaning.endswith(".") and "\n" not in measure.meaning, key
        assert measure.better in ("up", "down", ""), key


def test_steps_have_a_panel_and_results_lead_to_a_curve() -> None:
    titles = [panel.title for panel in PANELS]
    assert {measure.panel for measure in STEP_MEASURES} == set(titles)
    assert len(set(titles)) == len(titles)
    assert [measure.key for measure in STAGE_MEASURES if measure.panel] == []
    for measure in MEASURES.values():
        curve = MEASURES.get(measure.curve)
        assert not measure.curve or (curve.panel and curve.unit == measure.unit and curve.better == measure.better)


def test_a_stage_before_the_key_changes_nothing() -> None:
    assert measure_of("ppo/score_over_responses") is measure_of("score_over_responses")
    assert measure_of("ppo/part/length penalty_over_responses") is MEASURES["part/{name}_over_responses"]
    assert measure_of("part_failed/inner/x_over_responses").unit == "fraction"
    assert measure_of("reward/aspect/tone_spearman_over_labels").curve == "aspect/{name}_spearman_over_labels"


@pytest.mark.parametrize(
    "key",
    [
        "ppo/part/_over_responses",
        "ppo/part/x",
        "ppo/part/a\nb_over_responses",
        "ppo/ppo/score_over_responses",
        "score",
        "",
    ],
)
def test_what_is_not_declared_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="not declared"):
        measure_of(key)


def _literals(path: Path) -> set[str]:
    """Strings and keywords of a module, an f-string with `{name}` for whatever is put in."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
        if isinstance(node, ast.keyword) and node.arg:
            found.add(node.arg)
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "{name}" for part in node.values]
            found.add("".join(map(str, parts)))
    return found


def _rooms() -> dict[Path, set[str]]:
    rooms = [
        path
        for path in SOURCE.rglob("*.py")
        if path.name not in REGISTER and "report" not in path.relative_to(SOURCE).parts
    ]
    return {path: _literals(path) for path in rooms}


def _says(literals: set[str], key: str) -> bool:
    """Whether one of them is the key, or an f-string such as `{name}_over_seconds` that can become it."""
    patterns = [re.escape(one).replace(re.escape("{name}"), r"\w+") for one in literals if "_over_" in one]
    return key in literals or any(re.fullmatch(pattern, key) for pattern in patterns)


def test_every_measure_of_a_step_is_logged_by_somebody() -> None:
    """The dead go: a key that no room names can't reach a figure."""
    named = set().union(*_rooms().values())
    assert [measure.key for measure in STEP_MEASURES if not _says(named, measure.key)] == []


def test_every_measure_of_a_stage_is_returned_by_somebody() -> None:
    named = [literals for path, literals in _rooms().items() if "Result" in path.read_text(encoding="utf-8")]
    assert [measure.key for measure in STAGE_MEASURES if not any(measure.key in one for one in named)] == []
