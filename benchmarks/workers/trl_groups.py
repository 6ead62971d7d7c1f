"""TRL's GRPO and RLOO. Runs in a peer's environment. Task and figures as of plaudit_ppo.py, and which trainer.

Sampling is `_generate`; scoring the rest of what is done with the whole batch before the first update; updating all
the rest of an iteration.
"""

import tempfile
import time

import torch
from common import answer, synchronise, task
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer
from trl_common import StepClock, training_options

TRAINERS = {"grpo": (GRPOTrainer, GRPOConfig), "rloo": (RLOOTrainer, RLOOConfig)}


class Timed:
    """A method that adds its seconds to a list, one entry a call."""

    def __init__(self, function) -> None:
        self.function, self.seconds = function, []

    def __call__(self, *args, **kwargs):
        began = time.perf_counter()
        result = self.function(*args, **kwargs)
        synchronise()
        self.seconds.append(time.perf_counter() - began)
        return result


def main() -> None:
    given, clock = task(), StepClock()
    trainer_class, config_class = TRAINERS[given["trainer"]]
    policy, judge = f"{given['models']}/policy", f"{given['models']}/judge"
    tokenizer = AutoTokenizer.from_pretrained(policy, padding_side="left")
    answers = len(given["prompts"]) * given["samples"]
    steps, minibatch = given["minibatches"] * given["epochs"], answers // given["minibatches"]
    with tempfile.TemporaryDirectory() as folder:
        options = training_options({**given, "minibatch": minibatch, "longest": 0}, folder)
        del options["max_length"], options["num_train_epochs"]
        args = config_class(
            **options, num_generations=given["samples"], generation_batch_size=answers,
            num_iterations=given["epochs"], max_completion_length=given["new_tokens"], temperature=1.0, beta=0.05,
            max_steps=steps * (1 + given["iterations"]),
        )  # fmt: skip
        trainer = trainer_class(
            model=AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32),
            reward_funcs=AutoModelForSequenceClassification.from_pretrained(judge, num_labels=1, dtype=torch.float32),
            args=args,
            train_dataset=Dataset.from_dict({"prompt": given["prompts"]}),
            processing_class=tokenizer,
            reward_processing_classes=AutoTokenizer.from_pretrained(judge),
            callbacks=[clock],
        )
        sampling = trainer._generate = Timed(trainer._generate)
        whole = trainer._generate_and_score_completions = Timed(trainer._generate_and_score_completions)
        trainer.train()
    seconds = []
    for index in range(1, 1 + given["iterations"]):
        total = clock.ends[(index + 1) * steps - 1] - clock.ends[index * steps - 1]
        sample, score = sampling.seconds[index], whole.seconds[index] - sampling.seconds[index]
        update = total - whole.seconds[index]
        seconds.append({"sample": sample, "score": score, "update": update, "rest": 0.0, "total": total})
    tokens = answers * given["new_tokens"]  # fixed lengths: none ends
    answer(
        seconds=seconds, response_tokens=[tokens] * len(seconds), updates=len(clock.ends) / (1 + given["iterations"])
    )


main()
