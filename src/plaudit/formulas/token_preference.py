"""The token-level pairwise loss: a value at every token instead of one score per answer (N3.8)."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid

from plaudit.formulas.masks import at_least_float32, last_index, select

FORMS = ("strict", "note")


def token_pairwise(
    chosen_values: Float[Tensor, "B R"],
    rejected_values: Float[Tensor, "B R"],
    chosen_ids: Int[Tensor, "B R"],
    rejected_ids: Int[Tensor, "B R"],
    chosen_mask: Bool[Tensor, "B R"],
    rejected_mask: Bool[Tensor, "B R"],
    *,
    form: str,
) -> tuple[Float[Tensor, ""], Int[Tensor, ""]]:
    """(Σ over pairs of mean_t −log σ(v_w,t − v_l,t), number counted), t from the first differing token on   (N3.8).

    Both answers of a pair start in column 0 and are padded right; the prompt is not among the columns. Up to which t:

    - "strict": the last token of the *shorter* answer: only tokens that both wrote. Where none is left, because one
      answer begins with the whole other or they are identical, the values at their last tokens are compared.
    - "note": the last token of the *longer* one, as the code in the note has it, which so trains on the shorter side's
      padding though its text says otherwise. What a model says of padding depends on the pad token and on the batch's
      layout; here the shorter answer's last value stands for it. Identical answers: their last tokens.

    Ends come from the masks, never from the pad id (with pad = eos the note's lengths are wrong); that one answer has
    ended is a difference. A pair with an empty answer has nothing to compare: it is not counted and not touched.
    ValueError for another form.
    """
    if form not in FORMS:
        raise ValueError(f"token_pairwise: form must be 'strict' or 'note', not {form!r}")
    both, either = chosen_mask & rejected_mask, chosen_mask | rejected_mask
    chosen_last, rejected_last = last_index(chosen_mask), last_index(rejected_mask)
    counted = (chosen_last >= 0) & (rejected_last >= 0)
    differs = either & ((chosen_ids != rejected_ids) | (chosen_mask != rejected_mask))
    compared = (differs.cumsum(dim=1) > 0) & (both if form == "strict" else either)
    columns = torch.arange(both.shape[1], device=both.device)
    # Where the longer answer ends, both sides' last values stand: the shorter one's is held on to there.
    at_the_end = columns == torch.maximum(chosen_last, rejected_last).unsqueeze(1)
    compared = torch.where(compared.any(dim=1, keepdim=True), compared, at_the_end) & counted.unsqueeze(1)
    chosen = _held(chosen_values, chosen_mask, chosen_last)
    rejected = _held(rejected_values, rejected_mask, rejected_last)
    losses = select(-logsigmoid(select(chosen - rejected, compared)), compared)
    return (losses.sum(dim=1) / compared.sum(dim=1).clamp(min=1)).sum(), counted.sum()


def _held(values: Float[Tensor, "B R"], mask: Bool[Tensor, "B R"], last: Int[Tensor, " B"]) -> Float[Tensor, "B R"]:
    """The values, and after each row's last one that one again; zeros in an empty row."""
    columns = torch.arange(values.shape[1], device=values.device)
    own = torch.minimum(columns, last.clamp(min=0).unsqueeze(1))
    return select(at_least_float32(values), mask).gather(1, own)
