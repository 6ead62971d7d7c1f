"""What the results come to, in plain sentences made of the records alone."""

from collections.abc import Collection, Sequence

from plaudit.records.results import Result
from plaudit.report.collect import RunData
from plaudit.report.measures import arrange, measure, spoken

KL = "kl_baseline_over_prompts"
PEOPLE_WON = "people_win_rate_over_prompts"


def headline(results: Sequence[Result], controls: Collection[str] = ()) -> tuple[str, ...]:
    """A sentence for each stage that compares, of all its subjects; where none does, one for each stage's first result.

    `controls`: subjects that had nothing to learn from.
    """
    stages: dict[str, list[Result]] = {}
    for result in results:
        stages.setdefault(result.stage, []).append(result)
    compared = tuple(text for group in stages.values() if (text := _comparison(group, controls)))
    return compared or tuple(map(_alone, stages.values()))


def so_far(run: RunData) -> tuple[str, ...]:
    """Of a run without results: how the first curve that has a better end went. Empty where none has two points."""
    for _, keys in arrange(run.series):
        about, known = measure(keys[0]), run.series[keys[0]].known
        if about.better and len(known) > 1:
            (first, before), (last, after) = known[0], known[-1]
            steps = f"step {first} to step {last}"
            return (f"{about.title}: {_from_to(before, after, about.unit)}, {steps}.",)
    return ()


def _comparison(results: Sequence[Result], controls: Collection[str]) -> str:
    """`ppo raised the mean score by the judge from 0.698 to 1.98, win rate 87 % against sft, for 0.653 nats; the
    control gained nothing.`"""
    contests = [result for result in results if result.against and measure(result.measure).better and not result.role]
    if not contests:
        return ""
    first = {contest.subject: contest for contest in reversed(contests)}
    contests = [contest for contest in contests if contest is first[contest.subject]]
    contests.sort(key=lambda result: result.subject in controls)
    clauses = (_control(contest) if contest.subject in controls else _subject(contest, results) for contest in contests)
    return "; ".join(clauses) + "."


def _subject(contest: Result, results: Sequence[Result]) -> str:
    """One subject against the baseline, on the first measure that both have and that has a better end."""
    sides = (contest.subject, contest.against)
    own, base = ({r.measure: r for r in results if r.subject == side and not r.part} for side in sides)
    lead = next((key for key in own if key in base and measure(key).better and key != contest.measure), "")
    about = measure(contest.measure)
    won = f"{about.title} {spoken(contest.value, about.unit)} against {contest.against}"
    people = [r for r in results if (r.measure, r.subject, r.against) == (PEOPLE_WON, contest.subject, contest.against)]
    if people and contest not in people:
        won += f" (by people {spoken(people[0].value, measure(PEOPLE_WON).unit)})"
    price = f", for {spoken(own[KL].value, measure(KL).unit)}" if KL in own else ""
    if not lead:
        return f"{contest.subject}: {won}{price}"
    before, after = base[lead].value, own[lead].value
    verb = "hardly moved" if _gained(contest) is None else "raised" if after > before else "lowered"
    way = _from_to(before, after, measure(lead).unit)
    return f"{contest.subject} {verb} the {measure(lead).title} {way}, {won}{price}"


def _control(contest: Result) -> str:
    subject = contest.subject
    name = subject if "control" in subject else f"{subject}, a control,"
    share = spoken(contest.value, measure(contest.measure).unit)
    match _gained(contest):
        case None:
            return f"the {name} gained nothing ({share})"
        case True:
            return f"the {name} gained too ({share}), which it should not"
        case False:
            return f"the {name} lost ({share})"


def _gained(contest: Result) -> bool | None:
    """None where the interval holds the floor: chance alone may have done it."""
    even = 0.5 if contest.floor is None else contest.floor
    low = contest.value if contest.low is None else contest.low
    high = contest.value if contest.high is None else contest.high
    return True if low > even else False if high < even else None


def _alone(results: Sequence[Result]) -> str:
    """`reward model: held-out pair accuracy 76 % (floor 50 %, ceiling 77 %, longer wins 55 %).`: also the best of what
    knows no language."""
    first = next((r for r in results if not r.role), results[0])
    about = measure(first.measure)
    sides: tuple[tuple[str, float | None], ...] = (("floor", first.floor), ("ceiling", first.ceiling))
    rivals = [r for r in results if r.role == "floor" and (r.measure, r.part) == (first.measure, first.part)]
    if rivals and about.better:
        sign = 1 if about.better == "up" else -1
        best = max(rivals, key=lambda rival: sign * rival.value)
        if first.floor is None or sign * best.value > sign * first.floor:
            sides = (*sides, (best.subject, best.value))
    known = ", ".join(f"{name} {spoken(value, about.unit)}" for name, value in sides if value is not None)
    bounds = f" ({known})" if known else ""
    return f"{first.subject}: {about.title} {spoken(first.value, about.unit)}{bounds}."


def _from_to(before: float, after: float, unit: str) -> str:
    return f"from {spoken(before, unit)} to {spoken(after, unit)}"
