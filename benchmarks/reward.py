"""Reward models: pairs and rankings a second, beside TRL's RewardTrainer on the same rows."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from benchmarks import flops, tables, training
from benchmarks.session import OURS, Session, Unit, arguments
from benchmarks.shapes import SHAPES

TRL = "trl 1.16.0"


def main(argv: Sequence[str]) -> None:
    options = arguments(
        "reward", __doc__ or "", argv,
        models=("S", "shapes to measure"),
        answers=("2,4,9", "answers to each prompt: pairs and rankings"),
        **training.OPTIONS,
    )  # fmt: skip
    if options.quick:
        options.models, options.answers, options.steps, options.rounds, options.minibatch = "XS", "2", 1, 1, 4
    session = Session("reward", options)
    units = []
    for model in options.models.split(","):
        for answers in map(int, options.answers.split(",")):
            units += _units(session, options, model, answers)
    session.measure(units, rounds=options.rounds)
    print(table(session.record))


def _units(session: Session, options: Any, model: str, answers: int) -> list[Unit]:
    """TRL learns from pairs: of a ranking all K(K−1)/2, so its steps have as many pairs as ours rankings have."""
    shape, precision = SHAPES[model], options.precision or session.precision
    minibatch = options.minibatch if answers == 2 else max(1, options.minibatch // 4)
    found = training.examples(options, shape, answers, minibatch)
    prompts, texts = training.lengths(found)
    steps = options.steps + training.WARM
    case = {
        "model": model, "rows": "pairs" if answers == 2 else f"rankings of {answers}", "minibatch": minibatch,
        "tokens": sum(prompts + [sum(t) for t in texts]) / steps, "precision": precision,
        "source": "a file" if options.rows else "made",
        "needed": flops.reward_training(shape, prompts, texts) / steps,
    }  # fmt: skip
    folder = str(session.models(shape))
    task = {"models": folder, "minibatch": minibatch, "precision": precision, "device": options.device,
            "longest": 256, "warm": training.WARM, "rows": [(p, list(t)) for p, t in found]}  # fmt: skip
    pairs = [(p, [a, b]) for p, t in found for a, b in combinations(t, 2)]
    many = answers * (answers - 1) // 2
    ours = Unit(case=case, side=OURS, worker="plaudit_reward.py", task=task)
    mixed = {"ACCELERATE_MIXED_PRECISION": "bf16"} if precision == "bf16" else {}
    peer = Unit(case=case, side=TRL, worker="trl_reward.py", environment="trl116", variables=mixed,
                task={**task, "rows": pairs, "accumulate": many})  # fmt: skip
    return [ours, peer]


def table(record: tables.Record) -> str:
    return training.table(record, "rows", lambda case: case["needed"])
