"""plaudit's sampling, through `Policy.rollouts` as a user calls it; log-probabilities come along.

Task: models, prompts (texts), answers to each, batches, new_tokens, repeats, precision, device.
Figures: of each batch the seconds and tokens of every call.
"""

import time

from common import answer, synchronise, task

import plaudit as pl


def main() -> None:
    given, batches = task(), {}
    policy = pl.Policy.load(f"{given['models']}/policy")
    for batch in given["batches"]:
        asked = [p for p in given["prompts"][: batch // given["answers"]] for _ in range(given["answers"])]
        calls = []
        for seed in range(1 + given["repeats"]):
            began, tokens = time.perf_counter(), 0
            options = {"max_new_tokens": given["new_tokens"], "batch_size": batch, "device": given["device"]}
            for rollout in policy.rollouts(asked, seed=seed, **options):
                tokens += int(rollout.response_mask.sum())
            synchronise()
            calls.append({"seconds": time.perf_counter() - began, "tokens": tokens})
        batches[batch] = calls[1:]
    answer(batches=batches)


main()
