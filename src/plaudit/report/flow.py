"""The flow of RLHF as one run took it: demonstrations → SFT; K answers → ranking → reward model; prompts → PPO.

Generated from what the stages wrote down of themselves (config, provenance, results), never drawn by hand. A step that
a run doesn't have is left out; what was trained elsewhere is named; several runs of one step share a box.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plaudit.records.results import Result
from plaudit.report import flow_examples as examples
from plaudit.report.bars import share_reached
from plaudit.report.collect import PipelineData, RunData
from plaudit.report.lineage import InputFile, Lineage, Maker, lineage, shortened
from plaudit.report.measures import is_share, measure, spoken
from plaudit.report.samples import Card
from plaudit.telemetry.numbers import counted, fixed, percent

MOST_LINES = 4
"""Runs of a step that are named."""
MAIN = {
    "sft": ("held_out_nll_over_answers", "held_out_loss_over_tokens"),
    "reward": ("expected_accuracy_over_pairs", "held_out_accuracy_over_pairs", "held_out_accuracy_over_rows"),
    "label": ("two_labellers_over_pairs",),
    "ppo": ("score_over_responses",),
}
"""The measure that an arrow shows: one with a ceiling where there is one; else a stage's first result."""
FIXED = "\u00a0"
"""A space at which no line ends."""
OBJECTIVE, WON, PEOPLE_WON = "objective_over_prompts", "win_rate_over_prompts", "people_win_rate_over_prompts"


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
    cast = _cast(lineage(item, follow=follow))
    columns = tuple(column for column in (_first(cast), _second(cast), _third(cast)) if column.boxes)
    ids = {box.id for column in columns for box in column.boxes}
    if len(ids) < 2:
        return None
    wanted = [("sft", "answers")] if any(cast.maker(c, "model.path") in cast.sft for c in cast.collects) else []
    wanted += [("reward", "ppo")] if cast.ppos else []
    links = tuple(pair for pair in wanted if ids.issuperset(pair))
    return Flow(title=item.name, columns=columns, links=links)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cast:
    """Who plays which part. Controls, which had nothing to learn, stand apart."""

    family: Lineage
    sft: Sequence[Maker]
    collects: Sequence[Maker]
    """Those whose answers a reward model learned from."""
    labels: Sequence[Maker]
    rewards: Sequence[Maker]
    ppos: Sequence[Maker]
    compares: Sequence[Maker]
    verdicts: Sequence[Maker]
    """Stages in which people compared two policies."""
    controls: Sequence[Maker]

    def maker(self, run: Maker, option: str) -> Maker | None:
        """The run that made what a dotted option names."""
        return self.family.maker(_option(run, option), run)

    def name_of(self, run: Maker, option: str) -> str:
        """Of a model: the run that made it, else its path."""
        maker, path = self.maker(run, option), _option(run, option)
        return maker.folder.name if maker else shortened(str(path or ""))

    def files(self, runs: Iterable[Maker], option: str) -> list[InputFile]:
        """Of several runs, each file once."""
        every = [file for run in runs for file in self.family.files(run, option)]
        return list({(file.path, file.rows): file for file in every}.values())

    def policies(self, run: Maker) -> dict[str, Maker | None]:
        """Name -> the run that trained it, of a comparison."""
        named = run.config.get("policies")
        return {str(n): self.family.maker(p, run) for n, p in named.items()} if isinstance(named, dict) else {}


def _cast(family: Lineage) -> _Cast:
    def of(stage: str) -> list[Maker]:
        return [run for run in family.runs if run.stage == stage and not _is_control(run)]

    def makers(runs: Sequence[Maker], option: str) -> list[Maker]:
        files = [(run, file) for run in runs for file in family.files(run, option)]
        return [maker for run, file in files if (maker := family.maker(file.path, run)) is not None]

    rewards = of("reward")
    ranked = makers(rewards, "data") if rewards else family.runs
    labels = [run for run in of("label") if run in ranked]
    sources = makers(labels, "data") if rewards else family.runs
    collects = [run for run in of("collect") if run in ranked or run in sources]
    compares = of("compare")
    verdicts = [run for run in of("label") if any(maker in compares for maker in makers([run], "data"))]
    labels = [run for run in labels if run not in verdicts]
    controls = [run for run in family.runs if _is_control(run)]
    return _Cast(family=family, sft=of("sft"), collects=collects, labels=labels, rewards=rewards, ppos=of("ppo"),
                 compares=compares, verdicts=verdicts, controls=controls)  # fmt: skip


def _is_control(run: Maker) -> bool:
    return run.config.get("shuffle_labels") is True or (isinstance(run, RunData) and run.control)


# ------------------------------------------------------------------------------------------------------- the columns


def _first(cast: _Cast) -> FlowColumn:
    """Demonstrations → SFT."""
    runs, boxes = cast.sft, list[FlowBox]()
    if runs:
        files = cast.files(runs, "data")
        example = examples.demonstration(files)
        boxes.append(
            FlowBox(id="demonstrations", title="Demonstrations", facts=_names(files), leaves=_rows(files, "row"),
                    quote=examples.quote(example), example=example)
        )  # fmt: skip
        boxes.append(
            FlowBox(id="sft", title=_title("SFT", runs), trained=True,
                    facts=_each(cast, runs, lambda run: [f"starts from {cast.name_of(run, 'model.path')}"]),
                    leaves=(*_rows(cast.files(runs[:1], "held_out"), "held-out row"), *_measured(_main(runs[0]))),
                    example=examples.by_sft(cast.family, cast.sft, cast.collects, cast.compares))
        )  # fmt: skip
    elif cast.ppos or cast.rewards:
        starts = [cast.name_of(run, "model.path") for run in cast.ppos or cast.rewards]
        if known := tuple(name for name in dict.fromkeys(starts) if name):
            boxes.append(FlowBox(id="start", title="A model from elsewhere", facts=(*known, "no SFT in this run")))
    leads = ["writes the answers of 2"] if any(cast.maker(c, "model.path") in cast.sft for c in cast.collects) else []
    leads += ["where PPO starts in 3"] if any(cast.maker(p, "model.path") in cast.sft for p in cast.ppos) else []
    return FlowColumn(title="Supervised fine-tuning" if runs else "The start", boxes=tuple(boxes), end=", ".join(leads))


def _second(cast: _Cast) -> FlowColumn:
    """K answers → ranking → reward model; where nothing was trained, the functions that reward."""
    boxes: list[FlowBox] = []
    title, runs = "Reward model", cast.rewards
    example = examples.ranking(cast.files(runs, "data"), cast.family, [*cast.labels, *cast.collects])
    if cast.collects:
        boxes.append(_answers(cast, example))
    if runs or example:
        boxes.append(_ranking(cast, example))
    if runs:
        facts = _each(cast, runs, lambda run: [_kind(run), f"starts from {cast.name_of(run, 'model.path')}"])
        held_out = _rows(cast.files(runs[:1], "held_out"), "held-out row")
        boxes.append(
            FlowBox(id="reward", title=_title("Reward model", runs), trained=True,
                    facts=(*facts, *_control_lines(cast, "reward")), leaves=(*held_out, *_measured(_main(runs[0]))),
                    example=examples.scored(cast.ppos))
        )  # fmt: skip
    elif judges := list(dict.fromkeys(name for run in cast.ppos for name in _judges(cast, run, "rewards"))):
        title = "Reward function" if not boxes else title
        boxes.append(FlowBox(id="reward", title=title, facts=tuple(judges), example=examples.scored(cast.ppos)))
    return FlowColumn(title=title, boxes=tuple(boxes), end="judges PPO in 3" if runs and cast.ppos else "")


def _answers(cast: _Cast, example: examples.Ranked | None) -> FlowBox:
    run = cast.collects[0]
    samples = run.config.get("samples")
    files = cast.files(cast.collects, "prompts")
    who = cast.name_of(run, "model.path")
    return FlowBox(
        id="answers",
        title=f"{samples} answers a prompt" if isinstance(samples, int) else "Answers",
        facts=(f"{run.folder.name}: written by {who}",),
        answers=example.answers(MOST_LINES) if example else (),
        leaves=(*_rows(files, "prompt"), *_judged_by(cast)),
        example=example.unordered if example else None,
    )


def _ranking(cast: _Cast, example: examples.Ranked | None) -> FlowBox:
    files = cast.files(cast.rewards, "data")
    return FlowBox(
        id="ranking",
        title="Ranking" if example or not files else "Labels",
        facts=_names(files) or tuple(run.folder.name for run in (*cast.labels, *cast.collects)),
        order=example.order if example else "",
        leaves=_rows(files, "ranking" if example else "row") if cast.rewards else (),
        example=example.ordered if example else None,
    )


def _third(cast: _Cast) -> FlowColumn:
    """Prompts → PPO → comparison."""
    runs, boxes = cast.ppos, list[FlowBox]()
    if runs:
        files = cast.files(runs, "prompts")
        example = examples.prompt(files)
        boxes.append(
            FlowBox(id="prompts", title="Prompts", facts=_names(files), leaves=_rows(files, "prompt"),
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


def _ppo_lines(cast: _Cast, run: Maker) -> list[str]:
    lines = [f"starts from {cast.name_of(run, 'model.path')}"]
    if judges := _judges(cast, run, "rewards"):
        beta = _option(run, "kl.coef")
        lines.append(f"rewarded by {', '.join(judges)}" + (f", β {beta:g}" if isinstance(beta, int | float) else ""))
    by_key = {result.measure: result for result in run.results if not result.role}
    score, kl = by_key.get("score_over_responses"), by_key.get("kl_ref_over_responses")
    if score:
        before = f"{spoken(score.floor, 'score')} → " if score.floor is not None else ""
        lines.append(
            f"score {before}{spoken(score.value, 'score')}" + (f", KL {fixed(kl.value, 2)} nats" if kl else "")
        )
    return lines


def _policy_numbers(cast: _Cast) -> tuple[str, ...]:
    """What was measured of the (first) policy: J and its optimum where they are known, else its score."""
    run, held_out = cast.ppos[0], _rows(cast.files(cast.compares[:1], "prompts"), "held-out prompt")
    for compare in cast.compares:
        mine = {name for name, maker in cast.policies(compare).items() if maker is run}
        known = [r for r in compare.results if r.subject in mine and r.measure == OBJECTIVE]
        if known:
            return *held_out, *_measured(known[0])
    return *held_out, *_measured(_main(run))


def _contests(cast: _Cast) -> list[str]:
    """Win rates against the baseline, by the judge and by people; controls last."""
    lines: list[str] = []
    for compare in cast.compares:
        makers = cast.policies(compare)
        won = [r for r in compare.results if r.measure == WON and not r.part]
        for result in sorted(won, key=lambda r: makers.get(r.subject) in cast.controls):
            control = makers.get(result.subject) in cast.controls
            whose = f"{result.subject} (control)" if control and "control" not in result.subject else result.subject
            lines.append(f"{whose} against {result.against}: won {_number(result)}")
        if judges := _judges(cast, compare, "judge"):
            lines.append(f"judged by {', '.join(judges)}; ties half, ceiling 100 %")
    for verdict in cast.verdicts:
        for result in verdict.results:
            if result.measure == PEOPLE_WON:
                lines.append(f"by people: {result.subject} against {result.against}: won {_number(result)}")
    return lines[: 2 * MOST_LINES]


def _judged_by(cast: _Cast) -> tuple[str, ...]:
    """Who ranked the answers: people with their agreement, or what stands in for them with its noise."""
    lines: list[str] = []
    for run in cast.labels:
        lines += [f"ranked by people in {run.folder.name}", *_measured(_main(run), bounds=False)]
    for run in cast.collects if not cast.labels else ():
        if judges := _judges(cast, run, "labeller"):
            noise = run.config.get("noise")
            lines.append(f"ranked by {', '.join(judges)}" + (f", noise {noise:g}" if isinstance(noise, float) else ""))
    return tuple(dict.fromkeys(lines))


def _judges(cast: _Cast, run: Maker, option: str) -> list[str]:
    entries = run.config.get(option)
    named = []
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict):
            maker = cast.family.maker(entry.get("path"), run)
            function = str(entry.get("name") or entry.get("function") or entry.get("model") or "").rpartition(":")[2]
            named.append(maker.folder.name if maker else function or shortened(str(entry.get("path") or "")))
    return [name for name in named if name]


def _control_lines(cast: _Cast, stage: str) -> list[str]:
    runs = [run for run in cast.controls if run.stage == stage]
    numbers = ((run, _main(run)) for run in runs)
    named = ((run, result.value, measure(result.measure)) for run, result in numbers if result)
    return [f"control {run.folder.name}: {_with_unit(value, about.unit)}" for run, value, about in named][:MOST_LINES]


def _each(cast: _Cast, runs: Sequence[Maker], lines: Callable[[Maker], list[str]]) -> tuple[str, ...]:
    """The run's name and what is to say of it; of several runs their names and main numbers."""
    if len(runs) == 1:
        return runs[0].folder.name, *filter(None, lines(runs[0]))
    named = [f"{run.folder.name}" + (f": {_number(result)}" if (result := _main(run)) else "") for run in runs]
    more = len(named) - MOST_LINES
    return (*named[:MOST_LINES], *([f"and {more} more"] if more > 0 else []))


def _title(what: str, runs: Sequence[Maker]) -> str:
    return what if len(runs) == 1 else f"{what} · {len(runs)} runs"


def _kind(run: Maker) -> str:
    kind = _option(run, "objective.kind")
    return f"learns by {kind}" if isinstance(kind, str) else ""


def _names(files: Sequence[InputFile]) -> tuple[str, ...]:
    more = len(files) - 2
    return (*(file.name for file in files[:2]), *([f"and {more} more files"] if more > 0 else []))


def _rows(files: Sequence[InputFile], what: str) -> tuple[str, ...]:
    """`6,000 rows · 73d085f6`, a line a file."""
    lines = []
    for file in files[:2]:
        count = counted(file.rows, what) if file.rows is not None else f"{what}s"
        digest = f" · {file.fingerprint[:8]}" if file.fingerprint else ""
        lines.append(count + digest + (f" ({file.note})" if file.note else ""))
    return tuple(lines)


def _main(run: Maker) -> Result | None:
    own = [result for result in run.results if not result.role or run.stage == "label"]
    for key in MAIN.get(run.stage, ()):
        if known := [result for result in own if result.measure == key]:
            return known[0]
    return own[0] if own else None


def _measured(result: Result | None, *, bounds: bool = True) -> tuple[str, ...]:
    """The number with its interval; below it the ceiling, how far it is reached, and the floor."""
    if result is None:
        return ()
    line = f"{measure(result.measure).title} {_number(result)}"
    if not bounds:
        return (line,)
    unit, share = measure(result.measure).unit, share_reached(result)
    ceiling = "no ceiling known" if result.ceiling is None else f"ceiling {_with_unit(result.ceiling, unit)}"
    floor = [] if result.floor is None else [f"floor {_with_unit(result.floor, unit)}"]
    reached = [] if share is None else [f"{percent(share)} of the way"]
    return line, ", ".join([ceiling, *floor, *reached])


def _number(result: Result) -> str:
    unit = measure(result.measure).unit
    interval = ""
    if result.low is not None and result.high is not None:
        low, high = (f"{100 * x:.1f}" if is_share(unit) else fixed(x, 2) for x in (result.low, result.high))
        interval = f" [{low},{FIXED}{high}]".replace("-", "−")
    return _with_unit(result.value, unit) + interval


def _with_unit(value: float, unit: str) -> str:
    return (f"{fixed(100 * value, 1)} %" if is_share(unit) else spoken(value, unit)).replace(" ", FIXED)


def _option(run: Maker, dotted: str) -> Any:
    value: Any = run.config
    for name in dotted.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
