"""The flow of RLHF as one run took it: demonstrations → SFT; K answers → ranking → reward model; prompts → PPO.

Generated from what the stages wrote down of themselves (config, provenance, results), never drawn by hand. A step that
a run doesn't have is left out; what was trained elsewhere is named; several runs of one step share a box.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from plaudit.report import flow_examples as examples
from plaudit.report.collect import PipelineData, RunData
from plaudit.report.flow_cast import Cast, cast_of, option_of
from plaudit.report.flow_words import (
    FIXED,
    file_names,
    main_result,
    measured_lines,
    numbers_of,
    row_lines,
    with_interval,
    with_unit,
)
from plaudit.report.headline import PEOPLE_WON
from plaudit.report.lineage import Maker, lineage
from plaudit.report.measures import measure, spoken
from plaudit.report.samples import Card
from plaudit.telemetry.numbers import fixed

MOST_LINES = 4
"""Runs of a step that are named."""
OBJECTIVE, WON = "objective_over_prompts", "win_rate_over_prompts"


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowBox:
    id: str
    title: str
    facts: tuple[str, ...]
    order: str = ""
    """A ranking as labellers gave it: `D > C > A = B`."""
    quote: tuple[str, ...] = ()
    """Words of the example."""
    answers: tuple[str, ...] = ()
    """The example's answers, a line each."""
    trained: bool = False
    """A stage that learns, not what it learns from."""
    leaves: tuple[str, ...] = ()
    """Beside the arrow that leads on: rows and their hash, what was measured, its ceiling."""
    example: Card | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowColumn:
    title: str
    boxes: tuple[FlowBox, ...]
    end: str = ""
    """Where the last arrow leads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    title: str
    columns: tuple[FlowColumn, ...]
    links: tuple[tuple[str, str], ...]
    """Boxes of neighbouring columns of which one leads to the other."""

    @property
    def boxes(self) -> tuple[FlowBox, ...]:
        return tuple(box for column in self.columns for box in column.boxes)


def flow(item: RunData | PipelineData, *, follow: bool = True) -> Flow | None:
    """None where there are not two steps to show. `follow`: into runs and files that lie elsewhere."""
    cast = cast_of(lineage(item, follow=follow))
    columns = tuple(column for column in (_first(cast), _second(cast), _third(cast)) if column.boxes)
    ids = {box.id for column in columns for box in column.boxes}
    if len(ids) < 2:
        return None
    wanted = [("sft", "answers")] if any(cast.maker(c, "model.path") in cast.sft for c in cast.collects) else []
    wanted += [("reward", "ppo")] if cast.ppos else []
    links = tuple(pair for pair in wanted if ids.issuperset(pair))
    return Flow(title=item.name, columns=columns, links=links)


# ------------------------------------------------------------------------------------------------------- the columns


def _first(cast: Cast) -> FlowColumn:
    """Demonstrations → SFT."""
    runs, boxes = cast.sft, list[FlowBox]()
    if runs:
        files = cast.files(runs, "data")
        example = examples.demonstration(files)
        boxes.append(
            FlowBox(id="demonstrations", title="Demonstrations", facts=file_names(files),
                    leaves=row_lines(files, "row"), quote=examples.quote(example), example=example)
        )  # fmt: skip
        boxes.append(
            FlowBox(id="sft", title=_title("SFT", runs), trained=True,
                    facts=_each(cast, runs, lambda run: [_start(cast, run)]),
                    leaves=(*row_lines(cast.files(runs[:1], "held_out"), "held-out row"), *_numbers(runs)),
                    example=examples.by_sft(cast.family, cast.sft, cast.collects, cast.compares))
        )  # fmt: skip
    elif cast.ppos or cast.rewards:
        starts = [cast.name_of(run, "model.path") for run in cast.ppos or cast.rewards]
        if known := tuple(name for name in dict.fromkeys(starts) if name):
            boxes.append(FlowBox(id="start", title="A model from elsewhere", facts=(*known, "no SFT in this run")))
    leads = ["writes the answers"] if any(cast.maker(c, "model.path") in cast.sft for c in cast.collects) else []
    leads += ["PPO starts from it"] if any(cast.maker(p, "model.path") in cast.sft for p in cast.ppos) else []
    return FlowColumn(title="Supervised fine-tuning" if runs else "The start", boxes=tuple(boxes), end=", ".join(leads))


def _second(cast: Cast) -> FlowColumn:
    """K answers → ranking → reward model; where nothing was trained, the functions that reward."""
    boxes: list[FlowBox] = []
    title, runs = "Reward model", cast.rewards
    example = examples.ranking(cast.files(runs, "data"), cast.family, [*cast.labels, *cast.collects])
    if cast.collects:
        boxes.append(_answers(cast, example))
    if runs or example:
        boxes.append(_ranking(cast, example))
    if runs:
        facts = _each(cast, runs, lambda run: [_kind(run), _start(cast, run)])
        held_out = row_lines(cast.files(runs[:1], "held_out"), "held-out row")
        boxes.append(
            FlowBox(id="reward", title=_title("Reward model", runs), trained=True,
                    facts=(*facts, *_control_lines(cast, "reward")), leaves=(*held_out, *_numbers(runs)),
                    example=examples.scored(cast.ppos))
        )  # fmt: skip
    elif judges := list(dict.fromkeys(name for run in cast.ppos for name in cast.judges(run, "rewards"))):
        title = "Reward function" if not boxes else title
        boxes.append(FlowBox(id="reward", title=title, facts=tuple(judges), example=examples.scored(cast.ppos)))
    return FlowColumn(title=title, boxes=tuple(boxes), end="judges PPO" if runs and cast.ppos else "")


def _answers(cast: Cast, example: examples.RankedAnswers | None) -> FlowBox:
    run = cast.collects[0]
    samples = run.config.get("samples")
    files = cast.files(cast.collects, "prompts")
    who = cast.name_of(run, "model.path")
    return FlowBox(
        id="answers",
        title=f"{samples} answers a prompt" if isinstance(samples, int) else "Answers",
        facts=(f"{run.folder.name}: written by {who}",),
        answers=example.answers(MOST_LINES) if example else (),
        leaves=(*row_lines(files, "prompt"), *_judged_by(cast)),
        example=example.unordered if example else None,
    )


def _ranking(cast: Cast, example: examples.RankedAnswers | None) -> FlowBox:
    files = cast.files(cast.rewards, "data")
    return FlowBox(
        id="ranking",
        title="Ranking" if example or not files else "Labels",
        facts=file_names(files) or tuple(run.folder.name for run in (*cast.labels, *cast.collects)),
        order=example.order if example else "",
        leaves=row_lines(files, "ranking" if example else "row") if cast.rewards else (),
        example=example.ordered if example else None,
    )


def _third(cast: Cast) -> FlowColumn:
    """Prompts → PPO → comparison."""
    runs, boxes = cast.ppos, list[FlowBox]()
    if runs:
        files = cast.files(runs, "prompts")
        example = examples.prompt(files)
        boxes.append(
            FlowBox(id="prompts", title="Prompts", facts=file_names(files), leaves=row_lines(files, "prompt"),
                    quote=examples.quote(example), example=example)
        )  # fmt: skip
        facts = _each(cast, runs, lambda run: _ppo_lines(cast, run))
        boxes.append(
            FlowBox(id="ppo", title=_title("PPO", runs), trained=True, leaves=_policy_numbers(cast),
                    facts=(*facts, *_control_lines(cast, "ppo")), example=examples.policy(runs, cast.compares))
        )  # fmt: skip
    if cast.compares:
        boxes.append(
            FlowBox(id="comparison", title="Comparison", facts=tuple(_contests(cast)),
                    example=examples.comparison(cast.compares))
        )  # fmt: skip
    end = "the policy" if runs and not cast.compares else ""
    return FlowColumn(title="PPO" if runs else "Comparison", boxes=tuple(boxes), end=end)


# ------------------------------------------------------------------------------------------------------- in words


def _ppo_lines(cast: Cast, run: Maker) -> list[str]:
    lines = [_start(cast, run)]
    if judges := cast.judges(run, "rewards"):
        beta = option_of(run, "kl.coef")
        lines.append(f"rewarded by {', '.join(judges)}" + (f", β {beta:g}" if isinstance(beta, int | float) else ""))
    by_key = {result.measure: result for result in run.results if not result.role}
    score, kl = by_key.get("score_over_responses"), by_key.get("kl_ref_over_responses")
    if score:
        before = f"{spoken(score.floor, 'score')} → " if score.floor is not None else ""
        lines.append(
            f"score {before}{spoken(score.value, 'score')}" + (f", KL {fixed(kl.value, 2)} nats" if kl else "")
        )
    return lines


def _start(cast: Cast, run: Maker) -> str:
    name = cast.name_of(run, "model.path")
    return f"starts from {name}" if name else ""


def _numbers(runs: Sequence[Maker]) -> tuple[str, ...]:
    """Of several runs those of the first, by its name."""
    numbers = numbers_of(runs[0])
    return (f"{runs[0].folder.name}:", *numbers) if numbers and len(runs) > 1 else numbers


def _policy_numbers(cast: Cast) -> tuple[str, ...]:
    """What was measured of the (first) policy: J and its optimum where they are known, else its score."""
    run, held_out = cast.ppos[0], row_lines(cast.files(cast.compares[:1], "prompts"), "held-out prompt")
    for compare in cast.compares:
        mine = {name for name, maker in cast.policies(compare).items() if maker is run}
        known = [r for r in compare.results if r.subject in mine and r.measure == OBJECTIVE]
        if known:
            return *held_out, *measured_lines(known[0])
    return *held_out, *_numbers(cast.ppos)


def _contests(cast: Cast) -> list[str]:
    """Win rates against the baseline, by the judge and by people; controls last."""
    lines: list[str] = []
    for compare in cast.compares:
        makers = cast.policies(compare)
        won = [r for r in compare.results if r.measure == WON and not r.part]
        for result in sorted(won, key=lambda r: makers.get(r.subject) in cast.controls):
            control = makers.get(result.subject) in cast.controls
            whose = f"{result.subject} (control)" if control and "control" not in result.subject else result.subject
            lines.append(f"{whose} against {result.against}: won {with_interval(result)}")
        if judges := cast.judges(compare, "judge"):
            lines.append(f"judged by {', '.join(judges)}; ties half, ceiling 100{FIXED}%")
    for run in (*cast.compares, *cast.verdicts):
        for result in run.results:
            if result.measure == PEOPLE_WON:
                lines.append(f"by people: {result.subject} against {result.against}: won {with_interval(result)}")
    return lines[: 2 * MOST_LINES]


def _judged_by(cast: Cast) -> tuple[str, ...]:
    """Who ranked the answers: people with their agreement, or what stands in for them with its noise."""
    lines: list[str] = []
    for run in cast.labels:
        lines += [f"ranked by people in {run.folder.name}", *measured_lines(main_result(run), bounds=False)]
    for run in cast.collects if not cast.labels else ():
        if judges := cast.judges(run, "labeller"):
            noise = run.config.get("noise")
            lines.append(f"ranked by {', '.join(judges)}" + (f", noise {noise:g}" if isinstance(noise, float) else ""))
    return tuple(dict.fromkeys(lines))


def _control_lines(cast: Cast, stage: str) -> list[str]:
    runs = [run for run in cast.controls if run.stage == stage]
    numbers = ((run, main_result(run)) for run in runs)
    named = ((run, result.value, measure(result.measure)) for run, result in numbers if result)
    return [f"control {run.folder.name}: {with_unit(value, about.unit)}" for run, value, about in named][:MOST_LINES]


def _each(cast: Cast, runs: Sequence[Maker], lines: Callable[[Maker], list[str]]) -> tuple[str, ...]:
    """The run's name and what is to say of it; of several runs their names and main numbers."""
    if len(runs) == 1:
        return runs[0].folder.name, *filter(None, lines(runs[0]))
    named = [
        f"{run.folder.name}" + (f": {with_interval(result)}" if (result := main_result(run)) else "") for run in runs
    ]
    more = len(named) - MOST_LINES
    return (*named[:MOST_LINES], *([f"and {more} more"] if more > 0 else []))


def _title(what: str, runs: Sequence[Maker]) -> str:
    return what if len(runs) == 1 else f"{what} · {len(runs)} runs"


def _kind(run: Maker) -> str:
    kind = option_of(run, "objective.kind")
    return f"learns by {kind}" if isinstance(kind, str) else ""
