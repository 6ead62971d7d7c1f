"""What TRL's trainers share: when steps end, and options that let them run at their best."""

import time
from typing import Any

from common import synchronise
from transformers import TrainerCallback


class StepClock(TrainerCallback):
    """Notes when each optimiser step ends."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, args, state, control, **kwargs):
        synchronise()
        self.ends.append(time.perf_counter())


def training_options(given: dict[str, Any], folder: str) -> dict[str, Any]:
    """One epoch, nothing recomputed, saved or reported."""
    return {
        "output_dir": folder, "report_to": "none", "disable_tqdm": True, "save_strategy": "no",
        "use_cpu": given["device"] == "cpu", "bf16": given["precision"] == "bf16", "gradient_checkpointing": False,
        "per_device_train_batch_size": given["minibatch"], "gradient_accumulation_steps": given.get("accumulate", 1),
        "num_train_epochs": 1,
        "max_length": given["longest"], "learning_rate": 1e-5, "logging_steps": 10**6,
    }  # fmt: skip
