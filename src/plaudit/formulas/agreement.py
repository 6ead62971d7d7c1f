"""How far people who rank the same answers agree (N2.1). No torch: labelling servers use it too.

What is compared are verdicts of pairs: of two answers of a task, a labeller's ranks say that the first is better (1),
that the second is (−1) or that they tie (0). A unit is one pair of answers with the verdicts of all who judged it.
Intervals are 95 %; what one task's pairs say is never taken for independent.
"""

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from plaudit.formulas.intervals import clustered_interval

Numbers = tuple[float, float, float, int]
"""Value, lower and upper end of its interval, and how many comparisons it rests on."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A pair of answers (N2.2)."""

    task: Hashable
    verdicts: Mapping[str, int]
    """Labeller → verdict."""


def units_of(votes: Mapping[str, Mapping[str, Sequence[int]]]) -> list[Unit]:
    """Task → labeller → ranks (1 = best), as units: one for each pair of each task's answers   (N2.2)."""
    units: list[Unit] = []
    for task, ranks in votes.items():
        verdicts = {labeller: pair_verdicts(own) for labeller, own in ranks.items()}
        for pair in range(len(next(iter(verdicts.values()), ()))):
            units.append(Unit(task, {labeller: own[pair] for labeller, own in verdicts.items()}))
    return units


def pair_verdicts(ranks: Sequence[int]) -> tuple[int, ...]:
    """Of each pair i < j of a ranking: 1 where i is better (its rank is lower), −1 where j is, 0 where they
    tie   (N2.2)."""
    return tuple((a < b) - (a > b) for a, b in combinations(ranks, 2))


def alike(units: Sequence[Unit], *, preferred: bool = False) -> Numbers | None:
    """Share of the pairs of labellers who give a pair of answers the same verdict   (N2.1).

    `preferred`: only where both prefer one of the two answers, so that ties neither help nor harm; this is what
    InstructGPT's 72.6 ± 1.5 % between its labellers compares with. None where no two labellers meet.
    """
    outcomes: list[float] = []
    tasks: list[Hashable] = []
    for unit in units:
        for a, b in combinations(unit.verdicts.values(), 2):
            if not preferred or (a and b):
                outcomes.append(float(a == b))
                tasks.append(unit.task)
    return _share(outcomes, tasks)


def against_others(units: Sequence[Unit], labeller: str) -> Numbers | None:
    """Share of the pairs in which this labeller says what the majority of the others says   (N2.3).

    The majority is the sign of the others' verdicts added up; pairs without one are left out, own ties count half.
    """
    outcomes: list[float] = []
    tasks: list[Hashable] = []
    for unit in units:
        if labeller not in unit.verdicts:
            continue
        own = unit.verdicts[labeller]
        rest = sum(unit.verdicts.values()) - own
        if rest:
            outcomes.append(0.5 if not own else float(own * rest > 0))
            tasks.append(unit.task)
    return _share(outcomes, tasks)


def accuracy(votes: Mapping[str, Sequence[int]], gold: Mapping[str, Sequence[int]]) -> Numbers | None:
    """Share of the pairs that one labeller ranks as `gold` does (task → ranks, both); pairs that gold ties are left
    out, own ties count half   (N2.3)."""
    outcomes: list[float] = []
    tasks: list[Hashable] = []
    for task, own in votes.items():
        for verdict, right in zip(pair_verdicts(own), pair_verdicts(gold[task]), strict=True):
            if right:
                outcomes.append(0.5 if not verdict else float(verdict == right))
                tasks.append(task)
    return _share(outcomes, tasks)


def _share(outcomes: Sequence[float], tasks: Sequence[Hashable]) -> Numbers | None:
    if not outcomes:
        return None
    return (sum(outcomes) / len(outcomes), *clustered_interval(outcomes, tasks), len(outcomes))


# ------------------------------------------------------------------------------------------------- Krippendorff's α


def verdict_alpha(units: Sequence[Unit]) -> Numbers | None:
    """Krippendorff's α of the verdicts {<, =, >}, its interval by a jackknife over tasks   (N2.1).

    Nominal: two verdicts are the same or they are not. (An ordinal distance would have to say how much worse it is to
    turn a pair round than to call it a tie, and nothing says that.) Each pair counts both ways round, a against b and
    b against a, because which answer stands first is chance: so < and > are equally frequent, and α doesn't depend on
    the order in which answers are listed. None where no two labellers meet; NaN where there is one verdict only.
    """
    by_task: dict[Hashable, dict[tuple[int, int], float]] = {}
    total: dict[tuple[int, int], float] = {}
    comparisons = 0
    for unit in units:
        verdicts = list(unit.verdicts.values())
        comparisons += math.comb(len(verdicts), 2)
        for both in (verdicts, [-verdict for verdict in verdicts]):
            for key, count in coincidences(both).items():
                own = by_task.setdefault(unit.task, {})
                own[key] = own.get(key, 0.0) + count
                total[key] = total.get(key, 0.0) + count
    if not comparisons:
        return None
    value = nominal_alpha(total)
    rests = [nominal_alpha({k: count - each.get(k, 0.0) for k, count in total.items()}) for each in by_task.values()]
    half = 1.96 * _jackknife_error([rest for rest in rests if not math.isnan(rest)])
    return value, max(-1.0, value - half), min(1.0, value + half), comparisons


def coincidences(values: Sequence[int]) -> dict[tuple[int, int], float]:
    """o_ck of one unit: its ordered pairs of values by two labellers, each counted 1/(m − 1) for m
    labellers   (N2.1)."""
    frequencies: Counter[int] = Counter(values if len(values) > 1 else ())
    return {
        (c, k): n * (m - (c == k)) / (len(values) - 1) for c, n in frequencies.items() for k, m in frequencies.items()
    }


def nominal_alpha(coincidence: Mapping[tuple[int, int], float]) -> float:
    """Krippendorff's α with the nominal distance, out of the units' coincidences added up   (N2.1; Krippendorff 2011).

        α = 1 − (n − 1) Σ_{c≠k} o_ck / Σ_{c≠k} n_c n_k,    n_c = Σ_k o_ck,    n = Σ_c n_c

    1: all agree; 0: as by chance; below 0: less than by chance. NaN where only one value occurs.
    """
    totals: dict[int, float] = {}
    for (c, _), count in coincidence.items():
        totals[c] = totals.get(c, 0.0) + count
    n = sum(totals.values())
    observed = sum(count for (c, k), count in coincidence.items() if c != k)
    expected = n * n - sum(each * each for each in totals.values())
    return 1.0 - (n - 1.0) * observed / expected if expected > 1e-9 else math.nan


def _jackknife_error(rests: Sequence[float]) -> float:
    """√((n − 1)/n Σ (θ_i − θ̄)²) of the values θ_i without each of n parts; infinite for fewer than 2."""
    n = len(rests)
    if n < 2:
        return math.inf
    mean = sum(rests) / n
    return math.sqrt((n - 1) / n * sum((rest - mean) ** 2 for rest in rests))
