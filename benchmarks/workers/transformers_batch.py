"""Continuous batching of transformers, `generate_batch`. Runs in a peer's environment.

Task and figures as of plaudit_generate.py. On a CPU it would take nine tenths of the memory for its cache: there it is
told how much the batch needs.
"""

import time

import torch
from common import answer, synchronise, task
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.generation.configuration_utils import ContinuousBatchingConfig


@torch.no_grad()
def main() -> None:
    given, batches = task(), {}
    dtype = torch.bfloat16 if given["precision"] == "bf16" else torch.float32
    folder = f"{given['models']}/policy"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa")
    model = model.to(given["device"]).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = GenerationConfig(
        do_sample=True, top_k=0, temperature=1.0, max_new_tokens=given["new_tokens"],
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, num_return_sequences=given["answers"],
    )  # fmt: skip
    prompts = [tokenizer(p, add_special_tokens=False).input_ids for p in given["prompts"]]
    for batch in given["batches"]:
        asked, calls = prompts[: batch // given["answers"]], []
        longest = max(map(len, asked)) + given["new_tokens"]
        sized = ContinuousBatchingConfig(
            page_size=64, num_blocks=batch * (1 + longest // 64) + 8, max_batch_tokens=max(1024, batch)
        )
        cache = {"continuous_batching_config": sized} if given["device"] == "cpu" else {}
        for _ in range(1 + given["repeats"]):
            began = time.perf_counter()
            outputs = model.generate_batch(asked, generation_config=config, **cache)
            synchronise()
            seconds = time.perf_counter() - began
            tokens = sum(len(output.generated_tokens) for output in outputs.values())
            if len(outputs) != batch or not tokens:
                raise RuntimeError(f"{len(outputs)} answers of {batch}, {tokens} tokens")
            calls.append({"seconds": seconds, "tokens": tokens})
        batches[batch] = calls[1:]
    answer(batches=batches)


main()
