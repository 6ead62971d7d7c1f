"""Continuous batching of transformers, `generate_batch`. Runs in a peer's environment.

Task and figures as of plaudit_generate.py. On a CPU it would take nine tenths of the memory for its cache: there it is
told how much the batch needs.
"""

import torch
from common import answer, calls_of, task
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
    prompts = [tokenizer(p, add_special_tokens=False).input_ids for p in given["prompts"]]
    for batch in given["batches"]:
        asked = prompts[: batch // given["answers"]]
        longest = max(map(len, asked)) + given["new_tokens"]
        sized = ContinuousBatchingConfig(
            page_size=64, num_blocks=batch * (1 + longest // 64) + 8, max_batch_tokens=max(1024, batch)
        )
        cache = {"continuous_batching_config": sized} if given["device"] == "cpu" else {}

        def call(number: int, new_tokens: int, batch=batch, asked=asked, cache=cache) -> int:
            config = GenerationConfig(
                do_sample=True, top_k=0, temperature=1.0, max_new_tokens=new_tokens,
                eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
                num_return_sequences=given["answers"],
            )  # fmt: skip
            outputs = model.generate_batch(asked, generation_config=config, **cache)
            tokens = sum(len(output.generated_tokens) for output in outputs.values())
            if len(outputs) != batch or not tokens:
                raise RuntimeError(f"{len(outputs)} answers of {batch}, {tokens} tokens")
            return tokens

        batches[batch] = calls_of(call, given["new_tokens"], given["repeats"])
    answer(batches=batches)


main()
