"""Counts of rows that reward functions scored, failed on, or abstained on: for metrics and the final report."""

from collections import Counter
from dataclasses import dataclass, field

from plaudit.scoring.rows import FailureKind
from plaudit.telemetry.console import warn

EXAMPLES_KEPT = 5


@dataclass(slots=True)
class Tally:
    """What a reward function returned for the rows that it was given: counts since the run began."""

    counts: Counter[str] = field(default_factory=Counter)
    """`rows` seen, `abstained` (None), and a kind of failure each: `raised`, `timed_out`, `died`, `not_finite`."""
    examples: list[str] = field(default_factory=list)
    """The first few failures that `on_error` let pass, in words."""
    counts_before: Counter[str] = field(default_factory=Counter)
    """The counts when `take` last asked."""

    def failed(self, kind: FailureKind, message: str) -> None:
        """Count one; say the first of its kind aloud."""
        if not self.counts[kind]:
            warn(f"{message}; such rows are counted from now on")
        self.counts[kind] += 1
        if len(self.examples) < EXAMPLES_KEPT:
            self.examples.append(message)

    def take(self) -> Counter[str]:
        """What has been counted since the last call."""
        new = self.counts - self.counts_before
        self.counts_before = Counter(self.counts)
        return new


def rates(counts: Counter[str]) -> tuple[float, float]:
    """Shares of the rows that failed and that the function abstained on; 0 where no row was seen."""
    rows = max(counts["rows"], 1)
    return sum(counts[kind] for kind in FailureKind) / rows, counts["abstained"] / rows
