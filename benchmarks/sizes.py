"""What PPO costs by size of the model: seconds of an iteration by part, tokens per second, peak memory.

    python -m benchmarks.sizes                      # the three made-up sizes, about ten minutes on two cores
    python -m benchmarks.sizes models/smollm2       # and a real model of yours, its last two layers trained

One iteration is 16 prompts of 64 tokens, 64 new tokens each, 2 epochs of 2 minibatches, a shared critic, a rule as
judge, fp32. Each size runs in a process of its own; the first iteration warms up and isn't counted. Prints a table in
Markdown and a line of JSON.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

PROMPTS, PROMPT_TOKENS, NEW_TOKENS, ITERATIONS = 16, 64, 64, 4

SIZES: dict[str, dict[str, int]] = {
    "S": {
        "hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 4096,
    },
    "M": {
        "hidden_size": 576, "intermediate_size": 1216, "num_hidden_layers": 12, "num_attention_heads": 9,
        "num_key_value_heads": 3, "vocab_size": 16384,
    },
    "L": {
        "hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 12,
        "num_key_value_heads": 4, "vocab_size": 32768,
    },
}  # fmt: skip
"""Qwen2's architecture, tied embeddings: 5, 45 and 100 million parameters."""


def make(folder: Path, shape: dict[str, int]) -> None:
    """A model of that shape with random weights, and a tokenizer of as many words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(**shape, max_position_embeddings=512, tie_word_embeddings=True, eos_token_id=0, pad_token_id=1)
    Qwen2ForCausalLM(config).save_pretrained(folder)
    words = {"<eos>": 0, "<pad>": 1, **{f"w{i}": i for i in range(2, shape["vocab_size"])}}
    backend = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", pad_token="<pad>").save_pretrained(folder)


def measure(folder: Path, train: dict[str, Any]) -> dict[str, float]:
    """Train for a few iterations in this process; medians over all but the first."""
    from plaudit.config.load import load_config
    from plaudit.runs.folder import Run
    from plaudit.training.policy.config import PPOConfig
    from plaudit.training.policy.loop import ppo

    with tempfile.TemporaryDirectory() as temp:
        prompts = Path(temp, "prompts.jsonl")
        rows = [
            " ".join(f"w{2 + (i * PROMPT_TOKENS + j) % 4000}" for j in range(PROMPT_TOKENS)) for i in range(PROMPTS)
        ]
        prompts.write_text("".join(json.dumps({"prompt": row}) + "\n" for row in rows), encoding="utf-8")
        config = load_config(
            PPOConfig,
            {
                "prompts": str(prompts),
                "rewards": [{"kind": "function", "function": "repetition"}],
                "model": {"path": str(folder), "train": train},
                "sampling": {"max_new_tokens": NEW_TOKENS},
                "iterations": ITERATIONS, "prompts_per_iteration": PROMPTS, "epochs": 2, "minibatches": 2,
                "save_every": 10_000, "keep_rollouts": 1,
            },
        )  # fmt: skip
        with Run.create(Path(temp, "run"), "ppo", config) as run:
            ppo(config, run)
        lines = Path(temp, "run", "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    logged = [json.loads(line) for line in lines][1:]
    parts = {
        part: statistics.median(row[f"ppo/seconds_{part}"] for row in logged) for part in ("sample", "score", "update")
    }
    length = statistics.median(row["ppo/length_over_responses"] for row in logged)
    seconds = sum(parts.values())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {**parts, "seconds": seconds, "tokens_per_second": PROMPTS * length / seconds, "peak_gib": peak / 2**30}


def in_a_process(folder: Path, train: dict[str, Any]) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.sizes", "--measure", str(folder), json.dumps(train)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(answer.stdout.splitlines()[-1])


def parameters(folder: Path) -> int:
    from safetensors import safe_open

    total = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as tensors:
            total += sum(tensors.get_tensor(name).numel() for name in tensors.keys())  # noqa: SIM118
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="folder of a model of yours")
    parser.add_argument("--measure", nargs=2, metavar=("FOLDER", "TRAIN"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(Path(given.measure[0]), json.loads(given.measure[1]))))
        return
    found: dict[str, dict[str, float]] = {}
    print("| model | trained | sample + score + update | response tokens/s | peak memory |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temp:
        jobs: list[tuple[str, Path, dict[str, Any]]] = []
        for name, shape in SIZES.items():
            folder = Path(temp, name)
            make(folder, shape)
            jobs.append((name, folder, {"kind": "full"}))
        if given.model:
            jobs.append((Path(given.model).name, Path(given.model), {"kind": "last_layers", "layers": 2}))
        for name, folder, train in jobs:
            row = found[name] = in_a_process(folder, train)
            parts = " + ".join(f"{row[part]:.1f}" for part in ("sample", "score", "update"))
            print(
                f"| {name}, {parameters(folder) / 1e6:.0f}M | {train['kind']} | {parts} = {row['seconds']:.1f} s "
                f"| {row['tokens_per_second']:.0f} | {row['peak_gib']:.1f} GiB |",
                flush=True,
            )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
