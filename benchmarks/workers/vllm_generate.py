"""vLLM in this process, log-probabilities on as PPO needs them. Runs in vLLM's environment.

Task and figures as of plaudit_generate.py.
"""

import os

os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

from common import answer, calls_of, task
from vllm import LLM, SamplingParams


def main() -> None:
    given, batches = task(), {}
    llm = LLM(
        model=f"{given['models']}/policy", dtype="bfloat16" if given["precision"] == "bf16" else "float32",
        enforce_eager=True, max_model_len=2 * given["new_tokens"] + 8, enable_prefix_caching=False,
        max_num_seqs=max(given["batches"]), disable_log_stats=True,
    )  # fmt: skip
    tokenizer = llm.get_tokenizer()
    prompts = [tokenizer(p, add_special_tokens=False).input_ids for p in given["prompts"]]
    for batch in given["batches"]:
        asked = [{"prompt_token_ids": p} for p in prompts[: batch // given["answers"]]]

        def call(number: int, new_tokens: int, asked: list = asked) -> int:
            params = SamplingParams(
                n=given["answers"], temperature=1.0, max_tokens=new_tokens, logprobs=0, detokenize=False
            )
            outputs = llm.generate(asked, params, use_tqdm=False)
            return sum(len(one.token_ids) for output in outputs for one in output.outputs)

        batches[batch] = calls_of(call, given["new_tokens"], given["repeats"])
    answer(batches=batches)


if __name__ == "__main__":
    main()
