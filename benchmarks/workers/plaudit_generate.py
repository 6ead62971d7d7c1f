"""plaudit's sampling, through `Policy.rollouts` as a user calls it; log-probabilities come along.

Task: models, prompts (texts), answers to each, batches, new_tokens, repeats, precision, device.
Figures: of each batch the seconds and tokens of every call.
"""

import torch
from common import answer, calls_of, task

import plaudit as pl


def main() -> None:
    given, batches = task(), {}
    policy = pl.Policy.load(f"{given['models']}/policy")
    for batch in given["batches"]:
        asked = [p for p in given["prompts"][: batch // given["answers"]] for _ in range(given["answers"])]

        def call(number: int, new_tokens: int, batch: int = batch, asked: list[str] = asked) -> int:
            options = {"max_new_tokens": new_tokens, "batch_size": batch, "device": given["device"]}
            with torch.autocast(given["device"], dtype=torch.bfloat16, enabled=given["precision"] == "bf16"):
                rollouts = policy.rollouts(asked, seed=number, **options)
                return sum(int(rollout.response_mask.sum()) for rollout in rollouts)

        batches[batch] = calls_of(call, given["new_tokens"], given["repeats"])
    answer(batches=batches)


main()
