"""What a finished run leaves in summary.json: its results, and the version of the way in which they are written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from plaudit.errors import UserError
from plaudit.records.results import Result
from plaudit.telemetry.register import measure_of

FORMAT = 2


def summary(results: Iterable[Result] = (), **more: Any) -> dict[str, Any]:
    """For `Run.finish`: the results, and `more` that belongs to the stage alone. ValueError for an undeclared key."""
    plain = []
    for result in results:
        measure_of(result.measure)
        plain.append(result.to_plain())
    return {"format": FORMAT, "results": plain, **more}


def read_results(content: Mapping[str, Any]) -> list[Result]:
    """The results of a summary.json; none where there is none yet.

    Raises: UserError where another version of plaudit wrote it.
    """
    if not content:
        return []
    if content.get("format") != FORMAT:
        raise UserError(
            f"summary.json has format {content.get('format', 1)}, this version of plaudit reads {FORMAT}: "
            "run that stage again, or read it with the version that its provenance.json names"
        )
    return [Result.from_plain(plain) for plain in content["results"]]
