"""TRL's RewardTrainer on pairs. Runs in a peer's environment. Task and figures as of plaudit_reward.py."""

import tempfile

from common import answer, steps_of, task
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from trl import RewardConfig, RewardTrainer
from trl_common import StepClock, training_options


def main() -> None:
    given, clock = task(), StepClock()
    judge = f"{given['models']}/judge"
    rows = [{"prompt": prompt, "chosen": a, "rejected": b} for prompt, (a, b) in given["rows"]]
    with tempfile.TemporaryDirectory() as folder:
        trainer = RewardTrainer(
            model=AutoModelForSequenceClassification.from_pretrained(judge, num_labels=1, dtype="float32"),
            args=RewardConfig(**training_options(given, folder)),
            train_dataset=Dataset.from_list(rows),
            processing_class=AutoTokenizer.from_pretrained(judge),
            callbacks=[clock],
        )
        trainer.train()
    answer(seconds=steps_of(clock.ends, given["warm"]))


main()
