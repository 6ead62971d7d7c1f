"""`generate` of transformers. Runs in a peer's environment. Task and figures as of plaudit_generate.py."""

import time

import torch
from common import answer, synchronise, task
from transformers import AutoModelForCausalLM, AutoTokenizer


@torch.no_grad()
def main() -> None:
    given, batches = task(), {}
    dtype = torch.bfloat16 if given["precision"] == "bf16" else torch.float32
    folder = f"{given['models']}/policy"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(given["device"]).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompts = [tokenizer(p, add_special_tokens=False).input_ids for p in given["prompts"]]
    for batch in given["batches"]:
        ids = torch.tensor(prompts[: batch // given["answers"]], device=given["device"])
        calls = []
        for _ in range(1 + given["repeats"]):
            began = time.perf_counter()
            whole = model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=True, top_k=0, temperature=1.0,
                max_new_tokens=given["new_tokens"], num_return_sequences=given["answers"],
            )  # fmt: skip
            synchronise()
            seconds = time.perf_counter() - began
            tokens = int((whole[:, ids.shape[1] :] != tokenizer.pad_token_id).sum())
            calls.append({"seconds": seconds, "tokens": tokens})
        batches[batch] = calls[1:]
    answer(batches=batches)


main()
