"""Growth: what an iteration of our PPO costs with twice the answers, twice the length, a larger model."""

import math
from collections.abc import Sequence
from typing import Any

from benchmarks import tables
from benchmarks.ppo import floor, iteration
from benchmarks.session import OURS, Session, arguments


def main(argv: Sequence[str]) -> None:
    options = arguments(
        "growth", __doc__ or "", argv,
        models=("S,M", "shapes: the first at all sizes, the others at the smallest"),
        prompts=("16,32,64,128", "answers of an iteration, at the smallest length"),
        tokens=("64,128,256", "tokens of a prompt, and of an answer, at the fewest answers"),
        iterations=(3, "measured iterations of a process, after one to warm up"),
        rounds=(1, "processes of each size"),
    )  # fmt: skip
    if options.quick:
        options.models, options.prompts, options.tokens, options.iterations = "XS", "4,8", "8", 1
    session = Session("growth", options)
    first, *others = options.models.split(",")
    counts = [int(n) for n in options.prompts.split(",")]
    lengths = [int(n) for n in options.tokens.split(",")]
    sizes = [("answers", first, n, lengths[0]) for n in counts]
    sizes += [("length", first, counts[0], n) for n in lengths[1:]]
    sizes += [("model", model, counts[0], lengths[0]) for model in others]
    units = []
    for grows, model, prompts, tokens in sizes:
        case = {"grows": grows, "model": model, "prompts": prompts, "tokens": tokens, "schedule": "1x4",
                "critic": "shared", "lengths": "fixed", "precision": session.precision}  # fmt: skip
        units += [unit for unit in iteration(session, case, iterations=options.iterations) if unit.side == OURS]
    session.measure(units, rounds=options.rounds)
    print(table(session.record))


def table(record: tables.Record) -> str:
    """Beside each size, the power of the needed operations by which seconds grow from the smallest: 1 is in step."""
    every = [group for group in tables.groups(record) if group.runs]
    header = ["what grows", "model", "answers", "prompt + answer", "seconds", "of floor", "power"]
    rows = []
    for group in every:
        case, (seconds, needed) = group.case, _cost(group)
        base_seconds, base_needed = _cost(every[0])
        grown = needed / base_needed
        power = f"{math.log(seconds / base_seconds) / math.log(grown):.2f}" if grown > 1.01 else ""
        rows.append([
            case["grows"], case["model"], str(case["prompts"]), f"{case['tokens']} + {case['tokens']}",
            tables.told(seconds), tables.share(needed / group.peak, seconds), power,
        ])  # fmt: skip
    return tables.markdown(header, rows)


def _cost(group: tables.Group) -> tuple[float, float]:
    """Seconds of an iteration, and the operations that it needs."""
    case: dict[str, Any] = group.case
    needed = sum(floor(case, case["prompts"] * case["tokens"]).values())
    return group.median(lambda f: [one["total"] for one in f["seconds"]]), needed
