"""plaudit's fine-tuning on demonstrations, through `pl.sft` as a user calls it. Task and figures as of
plaudit_reward.py; each row has one answer."""

from common import answer, steps_of, task

import plaudit as pl


def main() -> None:
    given = task()
    rows = [{"prompt": prompt, "response": answers[0]} for prompt, answers in given["rows"]]
    run = pl.sft(
        f"{given['models']}/policy", rows, minibatch_size=given["minibatch"], epochs=1, held_out_fraction=0,
        max_length=given["longest"], save_every=10**6,
        device={"device": given["device"], "precision": given["precision"]},
    )  # fmt: skip
    answer(seconds=steps_of([row["time"] for row in run.metrics], given["warm"]))


main()
