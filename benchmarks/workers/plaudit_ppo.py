"""Iterations of plaudit's PPO, through `pl.ppo` as a user calls it.

Task: models, prompts (texts), new_tokens, samples, epochs, minibatches, critic, iterations, precision, device.
Figures: seconds of each iteration by part, tokens sampled, optimiser steps taken. The first iteration warms up.
"""

from common import answer, task

import plaudit as pl


def main() -> None:
    given = task()
    critic = {"critic": None, "advantage": "returns"} if given["critic"] == "none" else {"critic": given["critic"]}
    run = pl.ppo(
        f"{given['models']}/policy",
        prompts=given["prompts"],
        rewards=[f"{given['models']}/judge"],
        iterations=1 + given["iterations"],
        prompts_per_iteration=len(given["prompts"]),
        samples_per_prompt=given["samples"],
        sampling_max_new_tokens=given["new_tokens"],
        epochs=given["epochs"],
        minibatches=given["minibatches"],
        optim_learning_rate=1e-6,
        save_every=10**6,
        device={"device": given["device"], "precision": given["precision"]},
        **critic,
    )
    seconds = []
    for before, row in zip(run.metrics, run.metrics[1:], strict=False):
        parts = {part: row[f"ppo/seconds_{part}"] for part in ("sample", "score", "update")}
        total = row["time"] - before["time"]
        seconds.append({**parts, "rest": total - sum(parts.values()), "total": total})
    answers = len(given["prompts"]) * given["samples"]
    lengths = [row["ppo/length_over_responses"] * answers for row in run.metrics[1:]]
    answer(
        seconds=seconds,
        response_tokens=lengths,
        updates=given["epochs"] * given["minibatches"] - max(row["ppo/skipped_updates"] for row in run.metrics),
    )


main()
