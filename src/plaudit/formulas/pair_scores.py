"""What a model that reads two answers at once says of them: its loss, and scores for K answers out of pairs (N3.10).

A pair logit is the log-odds that the answer shown first is the better one. Models have a position bias: logits of the
two orders are kept apart everywhere, and averaged.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid

from plaudit.formulas.masks import at_least_float32

Compare = Callable[[Int[Tensor, " B"], Int[Tensor, " B"]], Float[Tensor, " B"]]
"""(number of the answer shown first, of the second), one of each a prompt -> pair logits."""


def pair_bce(
    pair_logits: Float[Tensor, " M"], outcomes: Float[Tensor, " M"]
) -> tuple[Float[Tensor, ""], Int[Tensor, ""]]:
    """(Σ −y log σ(z) − (1 − y) log σ(−z), M); y = 1: the first is better, 0: the second, ½: a tie   (N3.10).

    A tie is a label like others: its loss is least, log 2, at z = 0. Nats.
    """
    logits, outcomes = at_least_float32(pair_logits), outcomes.detach()
    losses = -outcomes * logsigmoid(logits) - (1.0 - outcomes) * logsigmoid(-logits)
    return losses.sum(), torch.ones_like(outcomes, dtype=torch.bool).sum()


def both_orders_bce(
    pair_logits: Float[Tensor, " M"], swapped_logits: Float[Tensor, " M"], outcomes: Float[Tensor, " M"]
) -> tuple[Float[Tensor, ""], Int[Tensor, ""]]:
    """(Σ of the mean of `pair_bce` over both orders, M); y is seen from `pair_logits`, the swap has 1 − y   (N3.10)."""
    loss_sum, num_pairs = pair_bce(pair_logits, outcomes)
    return 0.5 * (loss_sum + pair_bce(swapped_logits, 1.0 - outcomes)[0]), num_pairs


def unbiased_logit(
    pair_logits: Float[Tensor, "*dims"], swapped_logits: Float[Tensor, "*dims"]
) -> Float[Tensor, "*dims"]:
    """(z_ab − z_ba) / 2: log-odds of a against b in which whatever both orders gain by position cancels   (N3.10).

    Its mean over reference answers b is the score of a lone answer a.
    """
    return 0.5 * (at_least_float32(pair_logits) - at_least_float32(swapped_logits))


def matrix_scores(logit_matrix: Float[Tensor, "K K"]) -> Float[Tensor, " K"]:
    """score_i = mean over j ≠ i of (M_ij − M_ji) / 2; M_ij has i shown first. Log-odds; they sum to 0   (N3.10).

    The diagonal is not read. One answer: 0.
    """
    answers = logit_matrix.shape[0]
    itself = torch.eye(answers, dtype=torch.bool, device=logit_matrix.device)
    against = unbiased_logit(logit_matrix, logit_matrix.T).masked_fill(itself, 0.0)
    return against.sum(dim=1) / max(answers - 1, 1)


def one_pass_scores(num_answers: Int[Tensor, " B"], compare: Compare) -> Float[Tensor, "B K"]:
    """Scores of all answers by one bubble pass: K − 1 comparisons instead of K(K − 1)/2, both orders   (N3.10).

    Answer 0 is champion; 1, 2, … challenge it in turn, and replace it where `unbiased_logit` is for them. A
    challenger's score is its champion's plus that logit, less the mean over the prompt's answers. `compare` is called
    twice a turn with a number for every prompt: prompts of fewer answers repeat their last turn, which changes nothing.
    Where logits are differences of utilities, these are the utilities less their mean: what the full matrix says, up to
    its factor K/(K − 1). The best one scores highest. Zero in the columns beyond a prompt's answers.
    """
    width = int(num_answers.max()) if num_answers.numel() else 0
    rows, champion = torch.arange(len(num_answers), device=num_answers.device), torch.zeros_like(num_answers)
    columns = [torch.zeros(len(num_answers), device=num_answers.device)]
    for turn in range(1, width):
        challenger = (num_answers - 1).clamp(max=turn)
        ahead = unbiased_logit(compare(challenger, champion), compare(champion, challenger))
        there = turn < num_answers
        columns.append(torch.where(there, torch.stack(columns, dim=1)[rows, champion] + ahead, 0.0))
        champion = torch.where((ahead > 0.0) & there, challenger, champion)
    scores = torch.stack(columns, dim=1)[:, :width]
    mean = scores.sum(dim=1) / num_answers
    answers = torch.arange(width, device=num_answers.device) < num_answers.unsqueeze(1)
    return torch.where(answers, scores - mean.unsqueeze(1), 0.0)


def mean_pair_entropy(scores: Float[Tensor, " N"]) -> float:
    """How unsure a judge is of the order of one prompt's answers, bits: the mean over its pairs of   (N3.1)

        H(p) = −p log₂ p − (1 − p) log₂ (1 − p),    p = σ(r_a − r_b)

    0: every pair is decided; 1: all answers score alike. Fewer than two answers: 0.
    """
    gaps = at_least_float32(scores.detach())
    a, b = torch.triu_indices(len(gaps), len(gaps), offset=1)
    gap = gaps[a] - gaps[b]
    p = gap.sigmoid()
    nats = -p * logsigmoid(gap) - (1.0 - p) * logsigmoid(-gap)
    return float(nats.mean() / math.log(2.0)) if len(gap) else 0.0
