"""TRL's SFTTrainer on demonstrations. Runs in a peer's environment. Task and figures as of plaudit_sft.py, and whether
it packs: a packed minibatch then holds about as many tokens, so that as many optimiser steps are taken."""

import tempfile

import torch
from common import answer, steps_of, task
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer
from trl_common import StepClock, training_options


def main() -> None:
    given, clock = task(), StepClock()
    policy = f"{given['models']}/policy"
    rows = [{"prompt": prompt, "completion": answers[0]} for prompt, answers in given["rows"]]
    options, packing = given, {}
    if given["packed"]:
        mean = sum(len(prompt) + len(answers[0]) for prompt, answers in given["rows"]) / len(rows)
        options = {**given, "minibatch": max(1, round(given["minibatch"] * mean / given["longest"]))}
        packing = {"packing": True, "packing_strategy": "bfd"}
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32),
            args=SFTConfig(**training_options(options, folder), **packing),
            train_dataset=Dataset.from_list(rows),
            processing_class=AutoTokenizer.from_pretrained(policy),
            callbacks=[clock],
        )
        trainer.train()
    # Packing fills whole windows: its steps may be fewer or more, with the tokens of all of them the same.
    scale = len(clock.ends) * given["minibatch"] / len(rows)
    seconds = [{"total": one["total"] * scale} for one in steps_of(clock.ends, given["warm"])]
    answer(seconds=seconds)


main()
