"""What is measured, and what a measurement said. Every room that reports numbers speaks in these two records.

A `Measure` is declared once, in `telemetry/register.py`, and says what a number means. A `Result` is one number of one
subject. English is made of them at the edge: in the terminal's table, in the report, in a notebook. No room recognises
a result by a sentence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

Better = Literal["up", "down", ""]
"""Where one wants a number to go; empty where neither way is good in itself."""
Role = Literal["floor", "people", ""]
"""floor: it knows no language, measured on the same rows as what must beat it; people: the labellers themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """What a number is, whoever measured it and in whichever stage."""

    key: str
    """`what_over_what`, without a stage: `score_over_responses`. A user's word stands in braces: `part/{name}`."""
    title: str
    """A few plain words, as in a table's row: `held-out accuracy`."""
    unit: str
    """As shown on an axis: `nats`, `score`, `share of pairs`; empty for a pure number."""
    better: Better = ""
    meaning: str
    """One or two sentences that can be read cold."""
    formula: str = ""
    """The same in symbols, where there is a formula."""
    panel: str = ""
    """Title of the figure in which its curve is drawn (`PANELS` of the register); empty: no step logs it."""
    curve: str = ""
    """Key of the measure whose curve goes towards a result of this one, on the same scale; empty: none. The braces of
    a family stand for the same word in both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One number that a stage found, with what it has to be read against."""

    measure: str
    """Key of a declared `Measure`; a family's with the user's word in it."""
    subject: str
    """Who was measured: the name of a policy, a judge, a floor, the labellers."""
    value: float
    low: float | None = None
    """Lower end of the 95 % interval, in the measure's unit."""
    high: float | None = None
    floor: float | None = None
    """The known reference at the worse end."""
    ceiling: float | None = None
    """The known reference at the better end."""
    count: int | None = None
    """How many answers, pairs or prompts were counted."""
    ties: int | None = None
    against: str = ""
    """Of a comparison: the other side."""
    role: Role = ""
    """What the subject is, where it is not what the stage was about."""
    part: str = ""
    """An aspect, a subset or another part of the data; empty: the whole."""
    stage: str = ""
    """Name of the pipeline's stage; empty outside a pipeline."""
    facts: Mapping[str, float | int] = field(default_factory=dict)
    """Further numbers that belong to it, by their own names."""

    def to_plain(self) -> dict[str, Any]:
        """For summary.json: what is empty is left out."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        always = ("measure", "subject", "value")
        return {k: dict(v) if k == "facts" else v for k, v in values.items() if k in always or v not in (None, "", {})}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Result:
        """The inverse; keys that this version doesn't know are left out."""
        known = {f.name for f in fields(cls)}
        return cls(**{key: value for key, value in plain.items() if key in known})
