"""Do rankings of the prompts on which a reward model is least sure teach more than random ones? In the tiny world.

    plaudit demo --out runs/demo
    python -m benchmarks.active_selection runs/demo --out runs/active.json

Both arms begin with the same random rankings. Each round trains a reward model on all rankings so far, from the SFT
model, and adds more of the pool: `random`, or `unsure` as `collect` with `unsure` chooses them, a random share among
them. The labels are the demo's own: the true reward with Gumbel noise. Measured is the accuracy that the model can
expect on held-out pairs, whose ceiling is known. Prints a line for each round.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

import plaudit as pl
from plaudit.formulas.pair_scores import mean_pair_entropy
from plaudit.hardware.randomness import permutation
from plaudit.scoring.options import FunctionConfig
from plaudit.training.collect import UNSURE, least_sure
from plaudit.training.options import UnsureConfig

SIZES = (60, 120, 240, 360)
ANSWERS = 4
STEPS = 24
"""Of the optimiser, for the small sets: the smaller, the more often it is seen."""
RANDOM_SHARE = 0.2
TRUTH = "plaudit.data.tinyworld:true_reward"
Row = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path, help="a finished demo's folder, or its first four stages")
    parser.add_argument("--out", type=Path, default=Path("active.json"))
    parser.add_argument("--pool", type=int, default=1200, help="prompts to choose from")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    known = parser.parse_args(arguments)
    pool = rankings(known.demo / "03-answers" / "rankings.jsonl")[: known.pool]
    points: list[Row] = []
    for seed in known.seeds:
        for arm in ("random", "unsure"):
            for point in curve(arm, seed, pool, known.demo):
                points.append(point)
                print(json.dumps(point), flush=True)
                known.out.write_text(json.dumps(points, indent=1), encoding="utf-8")


def rankings(path: Path) -> list[Row]:
    """The file's rows with their first few answers."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [{**row, "responses": row["responses"][:ANSWERS], "ranks": row["ranks"][:ANSWERS]} for row in rows]


def curve(arm: str, seed: int, pool: Sequence[Row], demo: Path) -> Iterator[Row]:
    """A point for each size: how many rankings, and how right the model is that learned from them."""
    order = permutation(len(pool), seed, "active")
    labelled, rest = order[: SIZES[0]], order[SIZES[0] :]
    held_out = str(demo / "04-held-out-answers" / "rankings.jsonl")
    for size, following in zip(SIZES, (*SIZES[1:], None), strict=True):
        run = pl.reward(
            demo / "02-sft" / "model",
            [pool[i] for i in labelled],
            held_out=held_out,
            epochs=max(4, STEPS * 15 // size),
            minibatch_size=15,
            optim_learning_rate=2e-3,
            optim_warmup_fraction=0.1,
            evaluate_every=10_000,
            truth_function=TRUTH,
            floors=False,
            seed=seed,
        )
        expected = next(one for one in run.results if one.measure == "expected_accuracy_over_pairs")
        yield {"arm": arm, "seed": seed, "rankings": size, "accuracy": expected.value, "ceiling": expected.ceiling}
        if following is not None:
            count = following - size
            chosen = rest[:count] if arm == "random" else doubted(run.model, pool, rest, count, seed)
            labelled = [*labelled, *chosen]
            rest = [i for i in rest if i not in set(chosen)]


def doubted(model: Any, pool: Sequence[Row], rest: Sequence[int], count: int, seed: int) -> list[int]:
    """Indices of the pool, chosen as `collect` chooses."""
    prompts = [pool[i]["prompt"] for i in rest for _ in range(ANSWERS)]
    scores = model.score(prompts, [text for i in rest for text in pool[i]["responses"]])
    groups = torch.tensor(scores, dtype=torch.float64).view(len(rest), ANSWERS)
    rows = [{"index": i, UNSURE: mean_pair_entropy(group)} for i, group in zip(rest, groups, strict=True)]
    options = UnsureConfig(judge=(FunctionConfig(function=TRUTH),), prompts=count, random_share=RANDOM_SHARE)
    return [row["index"] for row in least_sure(rows, options, seed)]


if __name__ == "__main__":
    main()
