"""Supervised fine-tuning on one page (N1.1): a tiny model learns to write three letters backwards.

    python examples/sft_loop.py --epochs 12

`plaudit sft` runs this algorithm; around it stand files, templates, packing, micro-batches, ranks, checkpoints and
options. With one seed both come to the same numbers (tests/training/test_loops.py). B rows of T tokens.
"""

import argparse
import itertools
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from plaudit.formulas.logprobs import nll_losses, token_logprobs
from plaudit.formulas.schedules import learning_rate
from plaudit.hardware.randomness import permutation

MINIBATCH_SIZE, PEAK_RATE, MAX_GRAD_NORM = 32, 3e-3, 1.0
BEGIN, END, LETTERS = 0, 1, "abcdefgh"  # the tiny model's tokens are <s>, </s>, <unk>, then the letters
Row = tuple[list[int], list[int]]
"""The ids of a prompt, and those of its answer."""


def encode(prompt: str, answer: str) -> Row:
    """<s> and the prompt; the answer and </s>, which is learned too: else the model would never stop."""
    return [BEGIN, *(3 + LETTERS.index(x) for x in prompt)], [*(3 + LETTERS.index(x) for x in answer), END]


def padded(rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
    """(ids, which of them are an answer's), [B T] both. Padding stands on the right, where a causal model never
    looks."""
    ids = [torch.tensor([*prompt, *answer]) for prompt, answer in rows]
    answers = [torch.tensor([False] * len(prompt) + [True] * len(answer)) for prompt, answer in rows]
    return nn.utils.rnn.pad_sequence(ids, batch_first=True), nn.utils.rnn.pad_sequence(answers, batch_first=True)


def loss_of(model: PreTrainedModel, rows: Sequence[Row]) -> Tensor:
    """−Σ log π(y_t | x, y_<t) over the answers' tokens ÷ their number: nats per token. Prompts are conditions only."""
    ids, is_answer = padded(rows)
    logits = model(input_ids=ids).logits  # [B T V]; those at t predict the token at t + 1
    logprobs = token_logprobs(logits[:, :-1], ids[:, 1:])
    return nll_losses(logprobs, is_answer[:, 1:]).sum() / is_answer.sum()


def sft(
    model: PreTrainedModel, rows: Sequence[Row], *, epochs: int, seed: int, minibatch_size: int = MINIBATCH_SIZE,
    peak: float = PEAK_RATE,
) -> Iterator[float]:  # fmt: skip
    """Train in place; each optimiser step's loss, before the step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, weight_decay=0.0)
    steps_per_epoch = math.ceil(len(rows) / minibatch_size)
    for step in range(epochs * steps_per_epoch):
        # 1. a minibatch: every epoch goes through all rows, in an order of its own
        epoch, index = divmod(step, steps_per_epoch)
        order = permutation(len(rows), seed, "shuffle", epoch)
        chosen = [rows[i] for i in order[index * minibatch_size : (index + 1) * minibatch_size]]

        # 2. its loss and the gradient
        loss = loss_of(model, chosen)
        loss.backward()

        # 3. one step: the gradient's norm is limited, the rate falls to 0 in a line
        norm = nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, epochs * steps_per_epoch, peak=peak, warmup_steps=0, shape="linear")
        if loss.isfinite() and norm.isfinite():  # NaN would poison the moments for good
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield loss.item()


def tiny_model(seed: int) -> PreTrainedModel:
    """Two blocks, 64 numbers wide, random weights."""
    shape = LlamaConfig(
        vocab_size=3 + len(LETTERS), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=16, bos_token_id=BEGIN, eos_token_id=END, pad_token_id=2,
    )  # fmt: skip
    torch.manual_seed(seed)
    return LlamaForCausalLM(shape)


@torch.no_grad()
def answer(model: PreTrainedModel, prompt: str) -> str:
    """The likeliest token, one after the other, until </s>."""
    ids, written = encode(prompt, "")[0], ""
    while len(written) < 8:
        token = int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
        if token < 3:
            break
        ids, written = [*ids, token], written + LETTERS[token - 3]
    return written


def main(arguments: Sequence[str] | None = None) -> float:
    """Train on nine tenths of all prompts of three letters; the held-out loss, nats per token."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=12, help="passes over the rows")
    parser.add_argument("--seed", type=int, default=0, help="of first weights and order")
    options = parser.parse_args(arguments)
    prompts = ["".join(letters) for letters in itertools.product(LETTERS, repeat=3)]
    prompts = [prompts[i] for i in permutation(len(prompts), options.seed, "split")]
    held_out, learned = prompts[:51], prompts[51:]
    model, rows = tiny_model(options.seed), [encode(prompt, prompt[::-1]) for prompt in learned]
    for step, loss in enumerate(sft(model, rows, epochs=options.epochs, seed=options.seed), start=1):
        if step % 15 == 1:
            print(f"step {step:4}  loss {loss:.4f} nats per token")
    with torch.no_grad():
        measured = loss_of(model, [encode(prompt, prompt[::-1]) for prompt in held_out]).item()
    print(f"held out: {measured:.4f} nats per token; {held_out[0]} is answered by {answer(model, held_out[0])!r}")
    return measured


if __name__ == "__main__":
    main()
