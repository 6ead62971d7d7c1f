"""What a rollout file keeps of an iteration: rows of JSON with columns of numbers by token (`plaudit inspect`)."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from plaudit.records.tensors import Experience, Rollout, Scores
from plaudit.tokens.template import Renderer
from plaudit.training.policy.scored import ScoredRollout

DIGITS = 4
"""Significant digits of a number per token: files stay small. Sums over a response are kept whole."""


def rollout_rows(
    scored: ScoredRollout, experience: Experience, renderer: Renderer, *, count: int, kl_coef: float
) -> list[dict[str, Any]]:
    """The first `count` rollouts as rows of rollouts/000012.jsonl.gz.

    Args: `kl_coef`: the β by which the KL stands in the rewards, 0 where it does not. The tokens are the rollout's own:
        an abstained row is shown too, with null for what was never made of it (score, rewards, advantages, returns).
    """
    rollout, scores = scored.rollout, scored.scores
    columns = {
        "logprob": experience.old_logprobs,
        "ref_logprob": experience.ref_logprobs,
        "kl": experience.old_logprobs - experience.ref_logprobs,
        "entropy": scored.outputs.entropy,
        **({} if experience.old_values is None else {"value": experience.old_values}),
        "reward": experience.rewards,
        "advantage": experience.advantages,
        **({} if experience.returns is None else {"return": experience.returns}),
    }
    return [
        _row(rollout, scores, columns, renderer, index=i, kl_coef=kl_coef) for i in range(min(count, len(rollout.rows)))
    ]


LEFT_OUT_WITH_THE_ROW = ("reward", "advantage", "return")
"""Columns that exist for rows with a score only."""


def _row(
    rollout: Rollout, scores: Scores, columns: Mapping[str, Tensor], renderer: Renderer, *, index: int, kl_coef: float
) -> dict[str, Any]:
    prompt, mask = rollout.rows[index].prompt, rollout.response_mask[index]
    valid = bool(scores.valid[index])
    ids = rollout.response_ids[index][mask].tolist()
    chosen = {name: column[index][mask].double() for name, column in columns.items()}
    tokens = {"text": renderer.response_pieces(ids, prompt.form), "id": ids}
    for name, values in chosen.items():
        known = valid or name not in LEFT_OUT_WITH_THE_ROW
        tokens[name] = [_short(value) for value in values.tolist()] if known else [None] * len(ids)
    if scores.token_scores:
        tokens["score"] = [_short(value) for value in scores.token_scores[index]]
    return {
        "prompt": prompt.text,
        "prompt_id": prompt.id,
        "response": rollout.responses[index],
        "score": float(scores.scores[index]) if valid else None,
        "parts": {name: float(part[index]) for name, part in scores.parts.items()},
        "kl": float(chosen["kl"].sum()),
        "reward": float(chosen["reward"].sum()) if valid else None,
        "kl_coef": kl_coef,
        "length": len(ids),
        "finish_reason": rollout.finish_reasons[index].value,
        "tokens": tokens,
    }


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
