"""What a finished run leaves in summary.json: its results, and the version of the way in which they are written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from plaudit.errors import UserError
from plaudit.records.results import Result
from plaudit.telemetry.register import measure_of

FORMAT = 2


def summary(results: Iterable[Result] = (), **more: Any) -> dict[str, Any]:
    """For `Run.finish`: the results, and `more` that belongs to the stage alone. ValueError for an undeclared key."""
    results = list(results)
    for result in results:
        measure_of(result.measure)
    return {"format": FORMAT, "results": [result.to_plain() for result in results], **more}


def read_results(content: Mapping[str, Any], path: Path | str = "summary.json") -> list[Result]:
    """The results of a summary.json, which stands at `path`; none where there is none yet.

    Raises: UserError where another version of plaudit wrote it.
    """
    check_format(content, path)
    return [Result.from_plain(plain) for plain in content.get("results", ())]


def check_format(content: Mapping[str, Any], path: Path | str) -> None:
    """UserError for a summary.json that another version of plaudit wrote; nothing where there is none yet."""
    written = content.get("format", 1)
    if content and written != FORMAT:
        raise UserError(
            f"{path} has format {written!r}, and this version of plaudit reads format {FORMAT}. "
            "Run it again, or read it with the version that wrote it (provenance.json names it)."
        )
