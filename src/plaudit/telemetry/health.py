"""Whether a run is well: rules over what it logs and finds, checked while it runs. The rules are `health_rules`'.

Each number costs the same, however long the run is, and a resumed run's state follows from its metrics.jsonl.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cache
from typing import Any

from plaudit.records.results import Result
from plaudit.telemetry.console import HEALTH, say, warn
from plaudit.telemetry.numbers import number, percent
from plaudit.telemetry.register import measure_of

FIRST, RECENT = 3, 5
"""Numbers of a series that `Trend.first` and `Trend.recent` are the means of."""
ENOUGH = 10
"""Numbers from which on `Trend.moved` is told from noise."""
HEALTHY = "healthy"
"""The verdict where no rule holds."""


class Level(StrEnum):
    """How bad it is, in ascending order."""

    NOTICE = "notice"
    """Worth a look."""
    WARNING = "warning"
    """Something doesn't work as it should."""
    ALARM = "alarm"
    """What comes of the run can't be used, or nothing is learnt."""

    @property
    def rank(self) -> int:
        return list(Level).index(self)


class Trend:
    """What the rules look at of one measure's series."""

    def __init__(self) -> None:
        self.count = 0
        self.start = self.last = math.nan
        self.first = 0.0
        """Mean of the first `FIRST`."""
        self.lowest = math.inf
        self._near: deque[float] = deque(maxlen=RECENT)
        self._jumps = 0.0

    def add(self, value: float) -> None:
        if self.count:
            self._jumps += (value - self.last) ** 2
        else:
            self.start = value
        if self.count < FIRST:
            self.first += (value - self.first) / (self.count + 1)
        self.count += 1
        self.last = value
        self.lowest = min(self.lowest, value)
        self._near.append(value)

    @property
    def recent(self) -> float:
        """Mean of the last `RECENT`."""
        return sum(self._near) / len(self._near)

    @property
    def peak(self) -> float:
        """Largest of the last `RECENT`."""
        return max(self._near)

    @property
    def moved(self) -> float:
        """From first to recent in standard errors, as far as one number's noise can be told from the next one's; 0
        while there are few."""
        if self.count < ENOUGH or not self._jumps:
            return 0.0
        noise = math.sqrt(self._jumps / (2 * (self.count - 1)))
        return (self.recent - self.first) / (noise * math.sqrt(1 / FIRST + 1 / RECENT))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What a healthy run's log doesn't do."""

    name: str
    stages: tuple[str, ...]
    keys: tuple[str, ...]
    """Measures, without a stage. The first says whose line is looked at, whose number is told and in which figure."""
    when: str
    """`holds` in words."""
    holds: Callable[[Trend, Trend, Trend], bool]
    """Of the keys' trends, in their order; where there are fewer the first one's again."""
    lines: int = 1
    """So many lines in a row."""
    after: int = 0
    """Lines that don't count, from the run's beginning or the end of the critic's warm-up on."""
    applies: Callable[[Mapping[str, Any], str], bool] = lambda config, name: True
    """Whether the rule makes sense, by the run's config and, of a measure in braces, the user's word."""
    level: Level = Level.WARNING
    says: str
    """`{now}`: the last number, `{peak}` and `{recent}`: the largest and the mean of late, `{first}`: the first ones'
    mean, `{start}`: the first, `{name}`: the user's word."""
    do: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRule:
    """What a stage that worked doesn't find out. Looked at once, with the results."""

    name: str
    stages: tuple[str, ...]
    keys: tuple[str, ...]
    """The result's measure."""
    when: str
    breaks: Callable[[Result, Sequence[Result]], float | None]
    """Of a result and all of them: the number to tell as `{now}`, or None where nothing is wrong."""
    applies: Callable[[Mapping[str, Any], str], bool] = lambda config, name: True
    level: Level = Level.WARNING
    says: str
    do: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Symptom:
    """A rule that fired, or the same measure's family member."""

    rule: str
    level: Level
    key: str
    """The measure, without a stage."""
    since: int | None
    """The step; None: seen in the results."""
    until: int | None = None
    """The step at which it was over; None: it was not."""
    value: float
    says: str
    do: str

    @property
    def text(self) -> str:
        """`KL … is 164 nats (since step 2): raise kl.coef`."""
        past = "" if self.until is None else f", until {self.until}"
        when = "" if self.since is None else f" (step {self.since}{past})"
        return f"{self.says}{when}: {self.do}"

    def to_plain(self) -> dict[str, Any]:
        names = ("rule", "level", "key", "since", "until", "value", "says", "do")
        return {name: getattr(self, name) for name in names}


@dataclass(slots=True)
class _Watch:
    """A rule on one measure."""

    rule: Rule
    keys: tuple[str, ...]
    name: str
    lines: int = 0
    held: int = 0


@dataclass(slots=True)
class Monitor:
    """The health of one run: `see` each line of metrics, `conclude` with the results."""

    stage: str
    config: Mapping[str, Any]
    findings: dict[tuple[str, str], Symptom] = field(default_factory=dict)
    """By rule and measure, in the order in which they came."""
    _trends: dict[str, Trend] = field(default_factory=dict)
    _watches: dict[str, list[_Watch]] = field(default_factory=dict)

    def see(self, step: int, values: Mapping[str, float]) -> list[Symptom]:
        """Take in a line (keys without a stage, finite numbers) and return what it shows for the first time."""
        for key, value in values.items():
            if key not in self._trends:
                self._trends[key] = Trend()
                self._watches[key] = list(self._watch(key))
            self._trends[key].add(value)
        fired = (self._check(watch, step) for key in values for watch in self._watches[key])
        return [finding for finding in fired if finding is not None]

    def read(self, line: Mapping[str, Any]) -> None:
        """`see` a line as metrics.jsonl has it."""
        prefix = f"{self.stage}/"
        named = {key.removeprefix(prefix): x for key, x in line.items() if key.startswith(prefix)}
        values = {key: x for key, x in named.items() if isinstance(x, int | float) and math.isfinite(x)}
        if isinstance(step := line.get("step"), int):
            self.see(step, {key: x for key, x in values.items() if _is_declared(key)})

    def conclude(self, results: Sequence[Result]) -> list[Symptom]:
        """What the results show."""
        shown: list[Symptom] = []
        for rule in _rules()[1]:
            if self.stage in rule.stages and rule.applies(self.config, ""):
                for result in results:
                    is_meant = result.measure in rule.keys and not result.role
                    if is_meant and (now := rule.breaks(result, results)) is not None:
                        says = rule.says.format(now=_in_words(now, result.measure), name=result.subject)
                        shown.append(_symptom(rule, result.measure, None, now, says))
        self.findings |= {(one.rule, one.key): one for one in shown}
        return shown

    def _watch(self, key: str) -> Iterable[_Watch]:
        declared = measure_of(key).key
        before, braces, after = declared.partition("{name}")
        name = key[len(before) : len(key) - len(after)] if braces else ""
        for rule in _rules()[0]:
            if self.stage in rule.stages and rule.keys[0] == declared and rule.applies(self.config, name):
                yield _Watch(rule, (key, *rule.keys[1:]), name)

    def _check(self, watch: _Watch, step: int) -> Symptom | None:
        rule, key = watch.rule, watch.keys[0]
        trends = [self._trends[one] for one in watch.keys if one in self._trends]
        watch.lines += 1
        warm_up = rule.after + int(self.config.get("critic_warmup") or 0) if rule.after else 0
        if len(trends) < len(watch.keys) or watch.lines <= warm_up:
            return None
        first, second, third = [*trends, trends[0], trends[0]][:3]
        holds = rule.holds(first, second, third)
        watch.held = watch.held + 1 if holds else 0
        known = self.findings.get((rule.name, key))
        if watch.held >= rule.lines:
            names = ("last", "start", "first", "peak", "recent")
            words = {name: _in_words(getattr(first, name), key) for name in names}
            symptom = _symptom(
                rule, key, step, first.last, rule.says.format(name=watch.name, now=words["last"], **words)
            )
            self.findings[rule.name, key] = replace(symptom, since=known.since) if known else symptom
            return None if known else symptom
        if known and known.until is None and not holds:
            self.findings[rule.name, key] = replace(known, until=step)
        return None


def _in_words(value: float, key: str) -> str:
    """`92 %` of a measure that is a share, else the number."""
    is_share = measure_of(key).unit.split(" ")[0] in ("share", "fraction") and 0.0 <= value <= 1.0
    return percent(value) if is_share else number(value, 3)


def _symptom(rule: Rule | ResultRule, key: str, step: int | None, value: float, says: str) -> Symptom:
    return Symptom(rule=rule.name, level=rule.level, key=key, since=step, value=value, says=says, do=rule.do)


@cache
def _rules() -> tuple[tuple[Rule, ...], tuple[ResultRule, ...]]:
    from plaudit.telemetry.health_rules import RESULT_RULES, RULES  # it is made of this module's records

    return RULES, RESULT_RULES


def is_watched(stage: str) -> bool:
    """Whether there are rules for the stage."""
    return any(stage in rule.stages for rules in _rules() for rule in rules)


def tell(finding: Symptom) -> None:
    """A finding's one line, when it comes up."""
    (say if finding.level is Level.NOTICE else warn)(f"{HEALTH}{finding.level} — {finding.text}  [{finding.rule}]")


def worst(findings: Iterable[Symptom]) -> Level | None:
    """The highest level of what is not over; None: healthy."""
    return max((one.level for one in findings if one.until is None), key=lambda level: level.rank, default=None)


def verdict(findings: Sequence[Symptom]) -> str:
    """What a run says last: `healthy`, or what is wrong and what to do, a line each where it is several things."""
    wrong = sorted((one for one in findings if one.until is None), key=lambda one: -one.level.rank)
    past = [one.rule for one in findings if one.until is not None]
    over = f"; no longer: {', '.join(past)}" if past else ""
    if not wrong:
        return f"{HEALTH}{HEALTHY}{over}"
    lines = [f"{one.level} — {one.text} [{one.rule}]" for one in wrong]
    if len(lines) == 1:
        return f"{HEALTH}{lines[0]}{over}"
    return "\n  ".join([f"{HEALTH}{wrong[0].level}, {len(lines)} findings{over}", *lines])


def diagnose(
    stage: str, config: Mapping[str, Any], lines: Iterable[Mapping[str, Any]], results: Sequence[Result] = ()
) -> Monitor:
    """The health of a run by its files: the lines of metrics.jsonl and its results. Nothing is said."""
    monitor = Monitor(stage, config)
    for line in lines:
        monitor.read(line)
    monitor.conclude(results)
    return monitor


def _is_declared(key: str) -> bool:
    try:
        measure_of(key)
    except ValueError:
        return False
    return True
