"""The likelihood of rows as a loss: fine-tuning's (N1.1), and that of the text beside PPO's rollouts (N4.12)."""

from collections.abc import Sequence

from plaudit.formulas.logprobs import nll_losses
from plaudit.hardware.machine import Machine
from plaudit.models.trunk import Trunk
from plaudit.tokens.batches import pack
from plaudit.tokens.encode import EncodedRow


def nll_backward(
    trunk: Trunk, rows: Sequence[EncodedRow], microbatch_tokens: int, machine: Machine, *, coef: float = 1.0
) -> float:
    """Accumulate this rank's part of the gradient of coef · Σ −log π(y_t | x, y_<t) / N at temperature 1; N counts the
    answers' tokens of all rows, so that neither micro-batches nor ranks change it (`optim.step` adds the parts up).

    Returns: the mean over all rows' tokens, nats per token, without `coef`; the same on every rank.
    """
    num_tokens = max(sum(len(response) for _, response in rows), 1)
    total = 0.0
    for cut in machine.ranks.cuts((len(p) + len(r) for p, r in rows), microbatch_tokens):
        batch = pack([rows[i][0] for i in cut], [rows[i][1] for i in cut]).to(machine.device)
        with machine.autocast():
            logprobs = trunk(batch, {"logprobs"})["logprobs"]
        loss = nll_losses(logprobs, batch.response_mask).sum() / num_tokens
        (coef * loss).backward()
        total += float(loss.detach())
    (total,) = machine.ranks.totals(total)
    return total
