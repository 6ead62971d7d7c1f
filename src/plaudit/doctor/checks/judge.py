"""Judges at work: on answers of every kind, alone and among others, against the clock and against β."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from plaudit.doctor.examined import Examined, overheard
from plaudit.doctor.findings import Finding, error, note, warning
from plaudit.doctor.inputs import judges
from plaudit.errors import UserError
from plaudit.models.reward.loading import needed_columns
from plaudit.records.text import Group, PromptRow, Ranking, Rating, Text, Verdict
from plaudit.scoring.protocol import Scorer
from plaudit.telemetry.numbers import duration, number
from plaudit.telemetry.progress import Stopwatch
from plaudit.training.policy.config import PPOConfig

JUDGED = 8
"""Answers that a judge is tried on."""
TOLERANCE = {"fp32": 1e-3, "bf16": 5e-2}
"""Of a score, relative to its size where that is above 1: what rounding may do."""
SLOW, TRIES = 0.25, 3
"""Seconds an answer, the best of so many calls: a machine that does something else is slow now and then."""
FEWEST = 1e-3
"""Seconds: calls that take less aren't worth a line."""
LOOSE, TIGHT = 150.0, 0.1
"""Standard deviations of the score that β buys a nat's worth of: beyond LOOSE nothing holds the policy, below TIGHT
it can't move. A score tilted by β moves KL to about (σ/β)²/2 nats (Gaussian scores)."""
FAR_FROM_ZERO = 2.0
"""Standard deviations, as in the rule `scores_off_zero` of a run's health."""
LONG_TEXT, FOREIGN = 400, "你好，这是一个测试。 مرحبا Привет 🙂"
"""Words of the very long answer; an answer in other scripts."""


def answers(examined: Examined) -> Iterator[Finding]:
    """Whatever a policy may write gets a finite score, in time."""
    for option, scorer, real in _judged(examined):
        prompt = max(real, key=lambda group: len(group.responses[0]))
        tried = {
            "an empty answer": "",
            "white space": " \n\t ",
            "a very long answer": " word" * LONG_TEXT,
            "other scripts": FOREIGN,
        }
        for what, text in {"an ordinary answer": prompt.responses[0], **tried}.items():
            group = replace(prompt, responses=(text,), response_ids=(), token_ends=())
            if fault := _fault(scorer, group):
                yield error(option, f"{scorer.name!r} on {what}: {fault}", "let it score every text, or abstain (None)")
                break
        else:
            yield from _time(scorer, real, option, examined)


def _judged(examined: Examined) -> Iterator[tuple[str, Scorer, list[Group]]]:
    """(option, judge, answers) of judges that any text can be put before: not by token, nor with nothing to compare."""
    for (option, scorer), (_, judge) in zip(examined.scorers, judges(examined.kind, examined.config), strict=True):
        real = real_answers(examined)
        if judge.kind == "model":
            compares = needed_columns(judge.model, judge.read_as)
            real = [group for group in real if all(group.columns.get(column) for column in compares)]
        elif judge.kind != "function" or judge.by_token:  # who is asked is not asked for the sake of a check
            continue
        if real:
            yield option, scorer, real


def _fault(scorer: Scorer, group: Group) -> str:
    try:
        with overheard([]):
            scores = scorer.score([group])
    except UserError as fault:
        return str(fault)
    number = float(scores.scores[0])
    return "" if not bool(scores.valid[0]) or math.isfinite(number) else f"the score is {number}"


def _time(scorer: Scorer, groups: Sequence[Group], option: str, examined: Examined) -> Iterator[Finding]:
    seconds = math.inf
    for _ in range(TRIES):
        with Stopwatch() as clock, overheard([]):
            scorer.score(groups)
        seconds = min(seconds, clock.seconds / len(groups))
        if seconds <= SLOW:
            break
    if examined.kind == "ppo" and seconds > FEWEST:
        rows = examined.config.prompts_per_iteration * examined.config.samples_per_prompt
        yield note(option, f"{scorer.name!r}: {duration(seconds)} an answer, {duration(seconds * rows)} an iteration")
    if seconds > SLOW:
        yield warning(
            option,
            f"{scorer.name!r} takes {seconds:.2g} s an answer",
            "let it work on the whole list at once, or on threads (`async def` functions can wait together)",
        )


def alone(examined: Examined) -> Iterator[Finding]:
    """An answer's score doesn't depend on what is judged with it, on padding or on order."""
    tolerance = TOLERANCE[examined.machine.precision]
    for option, scorer, real in _judged(examined):
        # One long answer: what pads the others shows.
        longest = max(real, key=lambda group: len(group.responses[0]))
        groups = [*real, replace(longest, responses=(longest.responses[0] + " word" * 40,), response_ids=())]
        try:
            with overheard([]):
                together = _numbers(scorer, groups)
                reverse = _numbers(scorer, groups[::-1])[::-1]
                each = [_numbers(scorer, [group])[0] for group in groups]
        except UserError:
            continue  # `answers` tells
        for what, other in (("alone", each), ("in the opposite order", reverse)):
            apart = [i for i, (a, b) in enumerate(zip(together, other, strict=True)) if _differs(a, b, tolerance)]
            if apart:
                i = apart[0]
                yield warning(
                    option,
                    f"{scorer.name!r} gives {groups[i].responses[0][:40]!r} {_shown(together[i])} among {len(groups)} "
                    f"answers and {_shown(other[i])} {what}",
                    "judge each answer by itself: no statistics over the batch; of a model look at the padding side, "
                    "the attention mask and the position of the last token",
                )
                break


def varied(examined: Examined) -> Iterator[Finding]:
    """Different answers get different scores; of several judges one may have nothing to say of these."""
    examined.need_trained()
    silent: list[Finding] = []
    count = 0
    for option, scorer, few in _judged(examined):
        groups = examined.answered.groups if examined.kind in ("ppo", "collect") else few
        if len({group.responses for group in groups}) < 4:
            continue
        count += 1
        try:
            with overheard([]):
                numbers = [number for number in _numbers(scorer, groups) if number is not None]
        except UserError:
            continue
        if not numbers:
            message = f"{scorer.name!r} abstains from every answer"
            silent.append(warning(option, message, "see for what it returns None"))
        elif min(numbers) == max(numbers):
            message = f"{scorer.name!r} gives all {len(numbers)} answers {numbers[0]:g}: there is nothing to learn"
            silent.append(warning(option, message, "look at what it compares, at its columns and its extraction"))
    speaks = len(silent) < count
    yield from (note(one.where, one.message.partition(":")[0]) if speaks else one for one in silent)


def scale(examined: Examined) -> Iterator[Finding]:
    """The score's spread and offset go with β and with a new critic."""
    examined.need_trained()
    config = examined.config
    with overheard([]):
        scores = examined.answered.scored().scores
    known = scores.scores[scores.valid]
    if len(known) < 2:
        return
    mean, std = float(known.mean()), float(known.std())
    spread, coef = 1.0 if config.shaping.normalise else std, config.kl.coef
    yield note("rewards", f"scores {mean:.3g} ± {std:.2g}, β = {coef:g}: σ/β = {_ratio(spread, coef)}")
    if coef and spread and not TIGHT <= spread / coef <= LOOSE:
        is_loose = spread / coef > LOOSE
        yield warning(
            "kl.coef",
            f"β = {coef:g} beside scores that spread by {spread:.2g}: "
            + ("nothing holds the policy near its start" if is_loose else "the KL's price outweighs what can be won"),
            f"set kl.coef between {spread / 50:.1g} and {spread:.1g}",
        )
    if abs(mean) > FAR_FROM_ZERO * std and _position_counts(config):
        yield warning(
            "rewards",
            f"scores of {mean:.3g} ± {std:.2g} lie far from 0, and a new critic expects 0: until it has learned, "
            f"{'late' if mean > 0 else 'early'} tokens are favoured, whatever they say",
            "centre the scores (`reference:` of a reward model, shaping.normalise), or set critic_warmup",
        )


def _position_counts(config: PPOConfig) -> bool:
    """While V ≡ 0, Â_t = (γλ)^(T−t) r: scores far from 0 make a token's position worth something."""
    advantage, shaping = config.advantage, config.shaping
    is_helped = config.critic_warmup or shaping.normalise or shaping.whiten or shaping.credit == "token"
    is_gae = advantage.kind == "gae" and advantage.gamma * advantage.gae_lambda < 1.0
    return bool(is_gae and config.value_coef and not is_helped)


def _ratio(spread: float, coef: float) -> str:
    return number(spread / coef, 2) if coef else "∞"


def _numbers(scorer: Scorer, groups: Sequence[Group]) -> list[float | None]:
    return list(scorer.score(groups).optional_scores)


def _differs(one: float | None, other: float | None, tolerance: float) -> bool:
    if one is None or other is None:
        return one is not other
    return not abs(one - other) <= tolerance * max(1.0, abs(one))


def _shown(score: float | None) -> str:
    return "no score" if score is None else f"{score:.4g}"


def real_answers(examined: Examined) -> list[Group]:
    """Prompts of the stage, each with one answer: labelled, demonstrated, or the policy's; else a few words."""
    if examined.kind == "reward_eval":
        return _labelled(examined)
    if examined.kind in ("ppo", "collect") and not examined.untrained:
        return examined.answered.groups[:JUDGED]
    shown = [row.response for _, row in examined.demonstrated()][:JUDGED]
    rows = [row for use in examined.uses for row in examined.rows(use) if isinstance(row, PromptRow)][:JUDGED]
    texts = shown or ["Yes.", "I do not know.", "Let me think about that first.", "No, thank you."]
    return [
        Group(prompt=row.prompt, responses=(texts[i % len(texts)],), columns=row.columns) for i, row in enumerate(rows)
    ]


def _labelled(examined: Examined) -> list[Group]:
    groups: list[Group] = []
    for row in [row for use in examined.uses for row in examined.rows(use)][:JUDGED]:
        match row:
            case Ranking():
                columns = row.columns
                groups += [Group(prompt=row.prompt, responses=(text,), columns=columns) for text in row.responses[:2]]
            case Rating() | Verdict():
                groups.append(Group(prompt=row.prompt, responses=(row.response,)))
            case Text() | _:
                pass
    return groups[:JUDGED]
