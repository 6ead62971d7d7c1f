"""PPO: seconds of an iteration beside TRL's, part by part, and as a share of what the matrices need."""

import random
from collections.abc import Sequence
from typing import Any

from benchmarks import flops, tables
from benchmarks.session import OURS, Session, Unit, arguments
from benchmarks.shapes import SHAPES, Shape, alphabet

TRL = "trl 1.12.0"
GROUPS = ("trl 1.16.0 grpo", "trl 1.16.0 rloo")
MINIBATCHES = 4
PARTS = ("sample", "score", "update", "rest")


def main(argv: Sequence[str]) -> None:
    options = arguments(
        "ppo", __doc__ or "", argv,
        models=("S,M", "shapes to measure"),
        schedules=("", "epochs × minibatches, 4x4 or 1x4; empty: S 4x4, M 1x4"),
        lengths=("", "fixed, ragged, or both; empty: S both, M fixed"),
        critics=("", "shared, separate, or both; empty: S both, M shared; ragged shared"),
        processes=("", "that compute together; empty: 1, and on a CPU one a thread too"),
        groups=(False, "16 prompts × 4 answers without a critic, beside TRL's GRPO and RLOO"),
        precision=("", "fp32 or bf16; empty: whichever matmuls run faster in"),
        prompts=(64, "prompts of an iteration"),
        tokens=(64, "tokens of a prompt, and the most of an answer"),
        iterations=(3, "measured iterations of a process, after one to warm up"),
        rounds=(2, "processes of each side"),
    )  # fmt: skip
    if options.quick:
        options.models, options.prompts, options.tokens, options.iterations, options.rounds = "XS", 8, 16, 1, 1
    if options.groups and options.out.name == "ppo.json":
        options.out = options.out.with_name("ppo-groups.json")
    session = Session("ppo", options)
    units = [unit for case in cases(options) for unit in _units(session, options, case)]
    session.measure(units, rounds=options.rounds)
    print(table(session.record))


def cases(options: Any) -> list[dict[str, Any]]:
    """What is measured, the most important first."""
    found = []
    for model in options.models.split(","):
        if options.groups:
            found.append({"model": model, "schedule": "1x4", "critic": "none", "lengths": "fixed", "processes": 1})
            continue
        small = model not in ("M", "L")
        for lengths in (options.lengths or ("fixed,ragged" if small else "fixed")).split(","):
            schedules = options.schedules or ("4x4" if small else "1x4")
            both = "shared,separate" if small and lengths == "fixed" else "shared"
            shared = options.device == "cpu" and options.threads > 1
            shared = shared and options.prompts % (options.threads * MINIBATCHES) == 0  # TRL wants whole minibatches
            several = f",{options.threads}" if shared else ""
            found += [
                {"model": model, "schedule": schedule, "critic": critic, "lengths": lengths, "processes": int(count)}
                for count in (options.processes or f"1{several}").split(",")
                for schedule in schedules.split(",")
                for critic in (options.critics or both).split(",")
            ]
    return found


def _units(session: Session, options: Any, case: dict[str, Any]) -> list[Unit]:
    precision = options.precision or session.precision
    about = {**case, "precision": precision, "prompts": options.prompts, "tokens": options.tokens}
    units = iteration(session, about, iterations=options.iterations)
    # TRL has a separate critic only: it runs beside that case, and both of ours are compared with it.
    return units[:1] if case["critic"] == "shared" and _has_separate(options, case) else units


def iteration(session: Session, case: dict[str, Any], *, iterations: int) -> list[Unit]:
    """Ours and TRL's processes for a case: model, schedule, critic, lengths, precision, prompts, tokens."""
    shape, ragged = SHAPES[case["model"]], case["lengths"] == "ragged"
    samples = 4 if case["critic"] == "none" else 1
    models = session.models(shape, end=0.5 if ragged else 1.0, longest=case["tokens"])
    task = {
        "models": str(models), "prompts": prompts(shape, case["prompts"] // samples, case["tokens"]),
        "new_tokens": case["tokens"], "samples": samples, "epochs": int(case["schedule"].partition("x")[0]),
        "minibatches": MINIBATCHES, "critic": case["critic"], "iterations": iterations,
        "precision": case["precision"], "device": session.options.device, "ragged": ragged,
    }  # fmt: skip
    ours = Unit(case=case, side=OURS, worker="plaudit_ppo.py", task=task, processes=case.get("processes", 1))
    mixed = {"ACCELERATE_MIXED_PRECISION": "bf16"} if case["precision"] == "bf16" else {}
    if case["critic"] == "none":
        return [ours] + [
            Unit(case=case, side=side, worker="trl_groups.py", task={**task, "trainer": side.split()[-1]},
                 environment="trl116", variables=mixed)
            for side in GROUPS
        ]  # fmt: skip
    theirs = Unit(
        case=case, side=TRL, worker="trl_ppo.py", task=task, environment="trl112", variables=mixed,
        processes=case.get("processes", 1),
    )  # fmt: skip
    return [ours, theirs]


def _has_separate(options: Any, case: dict[str, Any]) -> bool:
    return {**case, "critic": "separate"} in cases(options)


def prompts(shape: Shape, count: int, tokens: int) -> list[str]:
    """Different texts of so many tokens, from a fixed seed."""
    letters, draw = alphabet(shape.vocabulary), random.Random(0)
    ids = range(letters.first, letters.first + len(letters.characters))
    return [letters.text(draw.choices(ids, k=tokens)) for _ in range(count)]


def floor(case: dict[str, Any], response_tokens: float) -> dict[str, int]:
    """Operations of an iteration. Answers count with their mean length: attention's share is small."""
    count, mean = case["prompts"], max(1, round(response_tokens / case["prompts"]))
    critic = "separate" if case["critic"] == "separate" else "shared"
    epochs = int(case["schedule"].partition("x")[0])
    shape, lengths = SHAPES[case["model"]], [case["tokens"]] * count
    return flops.ppo_iteration(shape, lengths, [mean] * count, epochs=epochs, critic=critic)


def table(record: tables.Record) -> str:
    every = tables.groups(record)
    header = ["model", "schedule", "critic", "lengths", "processes", "", "sample", "score", "update", "rest", "total",
              "of floor", "update of floor", "tokens", "updates", "peak MB", "beside the peer"]  # fmt: skip
    rows = []
    for group in every:
        case = group.case
        labels = [*(str(case[key]) for key in ("model", "schedule", "critic", "lengths", "processes")), group.side]
        if not group.runs:
            rows.append([*labels, *["–"] * 9, "–", group.failed])
            continue
        seconds = {
            part: group.median(lambda f, part=part: [s[part] for s in f["seconds"]]) for part in (*PARTS, "total")
        }
        tokens = group.median(lambda f: f["response_tokens"])
        needed = floor(case, tokens)
        of_floor = tables.share(sum(needed.values()) / group.peak, seconds["total"])
        of_update = tables.share(needed["update"] / group.peak, seconds["update"])
        memory = group.largest("peak_device_bytes") or group.largest("peak_resident_bytes")
        rows.append([
            *labels, *(tables.told(seconds[part]) for part in (*PARTS, "total")), of_floor, of_update,
            tables.told(tokens), tables.told(group.median(lambda f: f["updates"])), tables.megabytes(memory),
            _beside(every, group, seconds["total"], tokens),
        ])  # fmt: skip
    return tables.markdown(header, rows)


def _beside(every: Sequence[tables.Group], group: tables.Group, total: float, tokens: float) -> str:
    """Ours as a ratio to the peer's seconds, by as many processes as it is fastest with; where answers came out longer
    or shorter, for the same operations."""
    if group.side != OURS:
        return ""
    counts = sorted({one.case["processes"] for one in every})
    found = [tables.beside(every, group, critic=critic, processes=count)
             for critic in (group.case["critic"], "separate") for count in counts]  # fmt: skip
    others: dict[str, tables.Group] = {}
    for other in sorted((one for some in found for one in some if one.runs), key=_total):
        others.setdefault(other.side, other)
    told = []
    for other in others.values():
        seconds = _total(other)
        theirs = other.median(lambda f: f["response_tokens"])
        same = sum(floor(group.case, tokens).values()) / sum(floor(group.case, theirs).values())
        told.append(tables.ratio(total, seconds * same) + (f" {other.side}" if len(others) > 1 else ""))
    return ", ".join(told) or "–"


def _total(group: tables.Group) -> float:
    return group.median(lambda f: [s["total"] for s in f["seconds"]])
