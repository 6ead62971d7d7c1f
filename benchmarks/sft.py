"""Supervised fine-tuning: tokens a second, beside TRL's SFTTrainer, unpacked and packed, on the same rows."""

from collections.abc import Sequence
from typing import Any

from benchmarks import flops, tables, training
from benchmarks.session import OURS, Session, Unit, arguments
from benchmarks.shapes import SHAPES

PEERS = {"trl 1.16.0": False, "trl 1.16.0 bfd": True}
"""Side → whether it packs."""


def main(argv: Sequence[str]) -> None:
    options = arguments(
        "sft", __doc__ or "", argv,
        models=("S,story", "shapes to measure"),
        **training.OPTIONS,
    )  # fmt: skip
    if options.quick:
        options.models, options.steps, options.rounds, options.minibatch = "XS", 1, 1, 4
    session = Session("sft", options)
    units = [unit for model in options.models.split(",") for unit in _units(session, options, model)]
    session.measure(units, rounds=options.rounds)
    print(table(session.record))


def _units(session: Session, options: Any, model: str) -> list[Unit]:
    shape, precision = SHAPES[model], options.precision or session.precision
    found = training.examples(options, shape, 1, options.minibatch)
    prompts, texts = training.lengths(found)
    whole = [p + sum(t) for p, t in zip(prompts, texts, strict=True)]
    steps = options.steps + training.WARM
    targets = sum(sum(t) for t in texts)
    case = {
        "model": model, "rows": "demonstrations", "minibatch": options.minibatch, "tokens": sum(whole) / steps,
        "precision": precision, "source": "a file" if options.rows else "made",
        "needed": flops.fine_tuning(shape, whole, targets) / steps,
    }  # fmt: skip
    task = {"models": str(session.models(shape)), "minibatch": options.minibatch, "precision": precision,
            "device": options.device, "longest": 256, "warm": training.WARM, "rows": found}  # fmt: skip
    mixed = {"ACCELERATE_MIXED_PRECISION": "bf16"} if precision == "bf16" else {}
    return [Unit(case=case, side=OURS, worker="plaudit_sft.py", task=task)] + [
        Unit(case=case, side=side, worker="trl_sft.py", environment="trl116", variables=mixed,
             task={**task, "packed": packed})
        for side, packed in PEERS.items()
    ]  # fmt: skip


def table(record: tables.Record) -> str:
    return training.table(record, "rows", lambda case: case["needed"])
