"""A reward model on one page (N3.3, N3.12): from ranked answers a tiny model learns which letters people like.

    python examples/reward_loop.py --epochs 4

`plaudit reward` runs this algorithm; around it stand files, templates, shared prompts, micro-batches, ranks, twelve
other objectives and their measurements. With one seed both come to the same numbers (tests/training/test_loops.py).
A minibatch holds several prompts, with N answers together; r is an answer's score.
"""

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForSequenceClassification, PreTrainedModel

from plaudit.formulas.preference_losses import kwise, ranked_pairs
from plaudit.formulas.schedules import learning_rate
from plaudit.hardware.randomness import permutation

MINIBATCH_SIZE, PEAK_RATE, MAX_GRAD_NORM = 32, 3e-3, 1.0
BEGIN, END, LETTERS = 0, 1, "abcdefgh"  # the tiny model's tokens are <s>, </s>, <unk>, then the letters
WORTH = dict(zip(LETTERS, (2.0, 1.0, 0.5, 0.0, -0.5, -1.0, -2.0, 0.0), strict=True))


@dataclass(frozen=True)
class Ranked:
    """A prompt's K answers, each with the prompt before it, as ids; 1 is the best rank, equals share one."""

    answers: list[list[int]]
    ranks: list[int]


def encode(prompt: str, answer: str) -> list[int]:
    """<s>, prompt, answer, </s>: the score is read at the last token, where all of it has been seen."""
    return [BEGIN, *(3 + LETTERS.index(letter) for letter in prompt + answer), END]


def scores_of(model: PreTrainedModel, answers: Sequence[Sequence[int]]) -> Tensor:
    """r(x, y), [N]: a linear head on the last token's hidden state. Padding stands on the right, unseen."""
    ids = nn.utils.rnn.pad_sequence([torch.tensor(answer) for answer in answers], batch_first=True)
    hidden = model.base_model(input_ids=ids).last_hidden_state  # [N T H]
    last = torch.tensor([len(answer) - 1 for answer in answers])
    return model.score(hidden[torch.arange(len(answers)), last]).squeeze(1)


def flat(rows: Sequence[Ranked]) -> tuple[list[list[int]], Tensor, Tensor]:
    """All answers end to end, their ranks [N], and which of the prompts each belongs to [N]."""
    owner = torch.tensor([i for i, row in enumerate(rows) for _ in row.ranks])
    return [a for row in rows for a in row.answers], torch.tensor([r for row in rows for r in row.ranks]), owner


def loss_of(model: PreTrainedModel, rows: Sequence[Ranked]) -> Tensor:
    """−log σ(r_w − r_l), averaged over each prompt's pairs, then over the prompts (InstructGPT, eq. 1): nats."""
    answers, ranks, owner = flat(rows)
    total, prompts = kwise(scores_of(model, answers), ranks, owner)
    return total / prompts


def train(
    model: PreTrainedModel, rows: Sequence[Ranked], *, epochs: int, seed: int, minibatch_size: int = MINIBATCH_SIZE,
    peak: float = PEAK_RATE,
) -> Iterator[float]:  # fmt: skip
    """Train in place; each optimiser step's loss, before the step. It begins near log 2."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, weight_decay=0.0)
    steps_per_epoch = math.ceil(len(rows) / minibatch_size)
    for step in range(epochs * steps_per_epoch):
        # 1. a minibatch of prompts: all answers of one stay together
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


@torch.no_grad()
def accuracy(model: PreTrainedModel, rows: Sequence[Ranked]) -> float:
    """Share of the pairs that the scores order as the ranks do; a tie of scores is half a pair."""
    answers, ranks, owner = flat(rows)
    better, worse = ranked_pairs(ranks, owner)
    margin = (scores := scores_of(model, answers))[better] - scores[worse]
    return ((margin > 0).float() + 0.5 * (margin == 0).float()).mean().item()


def made_up(n: int, seed: int) -> list[Ranked]:
    """Prompts of three letters, four answers of three each, ranked by what their letters are worth."""
    generator = torch.Generator().manual_seed(seed)
    words = ["".join(LETTERS[i] for i in row) for row in torch.randint(len(LETTERS), (5 * n, 3), generator=generator)]
    rows = []
    for prompt, *answers in zip(*[iter(words)] * 5, strict=True):
        worth = [sum(WORTH[letter] for letter in answer) for answer in answers]
        ranks = [1 + sum(other > own for other in worth) for own in worth]
        rows.append(Ranked([encode(prompt, answer) for answer in answers], ranks))
    return [row for row in rows if len(set(row.ranks)) > 1]  # a prompt without a pair teaches nothing


def tiny_model(seed: int) -> PreTrainedModel:
    """One block, 32 numbers wide, random weights; the head's from N(0, 1/(d+1)) (Stiennon et al. 2020)."""
    torch.manual_seed(seed)
    model = LlamaForSequenceClassification(
        LlamaConfig(
            vocab_size=3 + len(LETTERS), hidden_size=32, intermediate_size=64, num_hidden_layers=1,
            num_attention_heads=2, max_position_embeddings=16, num_labels=1, pad_token_id=2,
        )
    )  # fmt: skip
    nn.init.normal_(model.score.weight, std=(32 + 1) ** -0.5)
    return model


def main(arguments: Sequence[str] | None = None) -> float:
    """Train, set the zero point, measure; the share of held-out pairs that are ordered as people do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=4, help="passes over the rankings")
    parser.add_argument("--seed", type=int, default=0, help="of first weights and order")
    options = parser.parse_args(arguments)
    model, rows, held_out = tiny_model(options.seed), made_up(400, seed=1), made_up(100, seed=2)
    for step, loss in enumerate(train(model, rows, epochs=options.epochs, seed=options.seed), start=1):
        if step % 10 == 1:
            print(f"step {step:3}  loss {loss:.4f} nats per prompt")
    # A loss on differences leaves the zero point open: here the average best answer scores 0.
    with torch.no_grad():
        bias = scores_of(model, [row.answers[row.ranks.index(1)] for row in rows]).mean()
        best, worst = scores_of(model, [encode("abc", "aaa"), encode("abc", "ggg")]) - bias
    share = accuracy(model, held_out)
    print(f"held out: {share:.1%} of the pairs as people order them; aaa scores {best:+.2f}, ggg {worst:+.2f}")
    return share


if __name__ == "__main__":
    main()
