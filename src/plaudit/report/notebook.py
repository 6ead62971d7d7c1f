"""Results and runs as fragments of HTML, for notebooks: what `_repr_html_` returns. No script, all text escaped."""

from collections.abc import Sequence

from plaudit.records.results import Result
from plaudit.report.bars import lines
from plaudit.report.headline import headline
from plaudit.report.html import environment
from plaudit.telemetry.numbers import duration


def results_html(results: Sequence[Result], *, title: str = "", facts: Sequence[str] = ()) -> str:
    """The sentence that results come to, and their table; a run's name and facts (`["finished", "27 iterations"]`)
    above them."""
    return (
        environment()
        .get_template("fragment.html.j2")
        .render(
            title=title,
            facts=[fact for fact in facts if fact],
            sentences=headline(results),
            rows=lines(results),
            staged=any(result.stage for result in results),
        )
    )


def run_html(
    name: str,
    results: Sequence[Result],
    *,
    stage: str = "",
    status: str = "",
    step: int | None = None,
    seconds: float | None = None,
) -> str:
    """A run: what it is, how far it came, what it found. The same for one with a folder and one in memory."""
    steps = "" if step is None else f"step {step}"
    return results_html(results, title=name, facts=(stage, status, steps, duration(seconds)))
