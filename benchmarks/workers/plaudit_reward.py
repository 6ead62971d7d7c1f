"""plaudit's reward model on rankings, through `pl.reward` as a user calls it.

Task: models, rows [(prompt, answers, best first)], minibatch, longest, precision, device, warm.
Figures: seconds of each optimiser step after the first `warm` ones.
"""

from common import answer, steps_of, task

import plaudit as pl


def main() -> None:
    given = task()
    rows = [
        {"prompt": prompt, "responses": answers, "ranks": list(range(1, 1 + len(answers)))}
        for prompt, answers in given["rows"]
    ]
    run = pl.reward(
        f"{given['models']}/policy", rows, minibatch_size=given["minibatch"], epochs=1, held_out_fraction=0,
        max_length=given["longest"], save_every=10**6,
        device={"device": given["device"], "precision": given["precision"]},
    )  # fmt: skip
    answer(seconds=steps_of([row["time"] for row in run.metrics], given["warm"]))


main()
