"""Results and runs as fragments of HTML, for notebooks: what `_repr_html_` returns. No script, all text escaped."""

from collections.abc import Sequence

from plaudit.records.results import Result
from plaudit.report.bars import lines
from plaudit.report.headline import headline
from plaudit.report.html import environment


def results_html(results: Sequence[Result], *, title: str = "", facts: Sequence[str] = ()) -> str:
    """The sentence that results come to, and their table; a run's name and facts (`["finished", "27 iterations"]`)
    above them."""
    template = environment().get_template("fragment.html.j2")
    facts, staged = [fact for fact in facts if fact], any(result.stage for result in results)
    return template.render(title=title, facts=facts, sentences=headline(results), rows=lines(results), staged=staged)
