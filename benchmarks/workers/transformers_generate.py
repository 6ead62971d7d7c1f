"""`generate` of transformers. Runs in a peer's environment. Task and figures as of plaudit_generate.py."""

import torch
from common import answer, calls_of, task
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

        def call(number: int, new_tokens: int, ids: torch.Tensor = ids) -> int:
            whole = model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=True, top_k=0, temperature=1.0,
                max_new_tokens=new_tokens, num_return_sequences=given["answers"],
            )  # fmt: skip
            return int((whole[:, ids.shape[1] :] != tokenizer.pad_token_id).sum())

        batches[batch] = calls_of(call, given["new_tokens"], given["repeats"])
    answer(batches=batches)


main()
