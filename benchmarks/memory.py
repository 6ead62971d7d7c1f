"""Memory: the most that one PPO iteration holds, against the length of texts and the size of the vocabulary."""

from collections.abc import Sequence

from benchmarks import tables
from benchmarks.ppo import iteration
from benchmarks.session import OURS, Session, arguments
from benchmarks.shapes import SHAPES


def main(argv: Sequence[str]) -> None:
    options = arguments(
        "memory", __doc__ or "", argv,
        models=("S,S-wide", "shapes: S-wide is S with 151,936 tokens"),
        tokens=("64,256,512", "tokens of a prompt, and of an answer; 64,128 where the vocabulary is large"),
        prompts=(16, "prompts of the iteration, in four minibatches"),
        rounds=(1, "processes of each side"),
    )  # fmt: skip
    if options.quick:
        options.models, options.tokens, options.prompts = "XS", "16", 4
    session = Session("memory", options)
    fixed = {"schedule": "1x4", "critic": "shared", "lengths": "fixed", "precision": session.precision}
    units = []
    for model in options.models.split(","):
        # TRL keeps tokens × vocabulary several times: beyond this it would take the whole machine.
        is_wide = SHAPES[model].vocabulary > 100_000
        for tokens in ["64", "128"] if is_wide else options.tokens.split(","):
            case = {"model": model, "prompts": options.prompts, "tokens": int(tokens), **fixed}
            units += iteration(session, case, iterations=0)
    session.measure(units, rounds=options.rounds)
    print(table(session.record))


def table(record: tables.Record) -> str:
    every = tables.groups(record)
    header = ["model", "vocabulary", "prompt + answer", "", "peak MB", "plaudit has"]
    rows = []
    for group in every:
        case = group.case
        mine = memory(group)
        ours = next((memory(g) for g in every if g.case == case and g.side == OURS), mine)
        part = "" if group.side == OURS or mine != mine else f"{ours / mine:.2f}×"
        labels = [case["model"], f"{SHAPES[case['model']].vocabulary:,}", f"{case['tokens']} + {case['tokens']}"]
        rows.append([*labels, group.side, tables.megabytes(mine), part or group.failed])
    return tables.markdown(header, rows)


def memory(group: tables.Group) -> float:
    return group.largest("peak_device_bytes") or group.largest("peak_resident_bytes")
