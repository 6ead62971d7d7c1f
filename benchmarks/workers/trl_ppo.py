"""Iterations of TRL's PPOTrainer. Runs in TRL's own environment.

Task and figures as of plaudit_ppo.py. Sampling is `batch_generation`; scoring all that follows it until the advantages
are whitened; updating all until it logs.
"""

import tempfile
import time

import torch
from common import WORLD, answer, synchronise, task
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    TrainerCallback,
)
from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer


class Clock(TrainerCallback):
    """Notes when each part ends, and counts optimiser steps."""

    def __init__(self) -> None:
        self.seconds: list[dict[str, float]] = []
        self.tokens: list[int] = []
        self.steps = 0
        self.marks: dict[str, float] = {}

    def mark(self, name: str) -> None:
        synchronise()
        self.marks[name] = time.perf_counter()

    def after(self, name: str, function):
        def called(*args, **kwargs):
            result = function(*args, **kwargs)
            self.mark(name)
            return result

        return called

    def sampling(self, function):
        def called(model, queries, *rest):
            self.mark("begun")
            whole, logits = function(model, queries, *rest)
            self.mark("sampled")
            pad = rest[1]
            self.tokens.append(int((whole[:, queries.shape[1] :] != pad).sum()))
            return whole, logits

        return called

    def on_train_begin(self, args, state, control, **kwargs):
        self.mark("end")

    def on_step_end(self, args, state, control, **kwargs):
        before = self.marks["end"]
        self.mark("end")
        m = self.marks
        parts = {
            "sample": m["sampled"] - m["begun"],
            "score": m["scored"] - m["sampled"],
            "update": m["logged"] - m["scored"],
        }
        total = m["end"] - before
        self.seconds.append({**parts, "rest": total - sum(parts.values()), "total": total})


def main() -> None:
    given, clock = task(), Clock()
    policy, judge = f"{given['models']}/policy", f"{given['models']}/judge"
    tokenizer = AutoTokenizer.from_pretrained(policy, padding_side="left")
    rows = Dataset.from_dict(
        {"input_ids": [tokenizer(p, add_special_tokens=False).input_ids for p in given["prompts"]]}
    )
    n, kind = len(rows) // WORLD, {"dtype": torch.float32}
    ppo_trainer.batch_generation = clock.sampling(ppo_trainer.batch_generation)
    ppo_trainer.masked_whiten = clock.after("scored", ppo_trainer.masked_whiten)
    with tempfile.TemporaryDirectory() as folder:
        args = PPOConfig(
            output_dir=folder, report_to="none", disable_tqdm=True, save_strategy="no", num_sample_generations=0,
            use_cpu=given["device"] == "cpu", bf16=given["precision"] == "bf16", gradient_checkpointing=False,
            # A process's share of the whole batch, cut into minibatches: where micro-batches are accumulated it steps
            # less often.
            per_device_train_batch_size=n, gradient_accumulation_steps=1, num_mini_batches=given["minibatches"],
            num_ppo_epochs=given["epochs"], total_episodes=len(rows) * (1 + given["iterations"]),
            local_rollout_forward_batch_size=n, response_length=given["new_tokens"], temperature=1.0,
            stop_token="eos" if given["ragged"] else None, learning_rate=1e-6,
        )  # fmt: skip
        trainer = PPOTrainer(
            args=args,
            processing_class=tokenizer,
            model=AutoModelForCausalLM.from_pretrained(policy, **kind),
            ref_model=AutoModelForCausalLM.from_pretrained(policy, **kind),
            reward_model=AutoModelForSequenceClassification.from_pretrained(judge, **kind),
            value_model=AutoModelForSequenceClassification.from_pretrained(judge, **kind),
            train_dataset=rows,
            callbacks=[clock],
        )
        trainer.log = clock.after("logged", trainer.log)
        step = trainer.optimizer.optimizer.step

        def counted(*args, **kwargs):
            clock.steps += 1
            return step(*args, **kwargs)

        trainer.optimizer.optimizer.step = counted
        trainer.train()
    tokens = torch.tensor(clock.tokens[1:])
    if WORLD > 1:
        torch.distributed.all_reduce(tokens)
    answer(
        seconds=clock.seconds[1:],
        response_tokens=tokens.tolist(),
        updates=clock.steps / (1 + given["iterations"]),
    )


main()
