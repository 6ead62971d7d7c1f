"""A reward head on the trunk that PPO runs anyway: no pass of its own (N3.13)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.errors import UserError
from plaudit.models.checkpoint import read_facts
from plaudit.models.load import Loaded, check_model_path
from plaudit.models.options import ModelConfig
from plaudit.models.policy import ActorCritic, Reference
from plaudit.models.reward import shared_trunk
from plaudit.models.reward.normalisation import of_facts
from plaudit.records.tensors import Scores
from plaudit.records.text import Group
from plaudit.training.policy.options import TrunkReward


@dataclass(frozen=True, slots=True, kw_only=True)
class Silent:
    """The scorer where the head on the trunk is the only judge."""

    name: str = "silent"

    def score(self, groups: Sequence[Group]) -> Scores:
        """Zeros, [B], all valid."""
        num = sum(len(group.responses) for group in groups)
        return Scores.of_all(torch.zeros(num))


def check_trunk(reward: TrunkReward, model: ModelConfig) -> None:
    """Before any model loads. UserError for a folder without such a head."""
    path = reward.path or model.path
    check_model_path(path, option="rewards.path")
    if path == "tiny" or read_facts(path).get("kind") != shared_trunk.KIND:
        raise UserError(f"rewards: {path!r} has no reward head on its trunk; train one by `objective: shared_trunk`")


def attach(reward: TrunkReward, model: ModelConfig, loaded: Loaded, actor: ActorCritic, reference: Reference) -> None:
    """Put the frozen head on the trunk that the option names."""
    head = shared_trunk.load_head(reward.path or model.path, loaded).requires_grad_(False)
    trunk = actor.policy if reward.on == "policy" else reference.trunk
    trunk.score_head = head.to(trunk.device)


def with_trunk(scores: Scores, raw: Float[Tensor, " B"], reward: TrunkReward, model: ModelConfig) -> Scores:
    """The judges' weighted sum and the head's share of it, of a judge of tokens on the last token. Rows on which the
    others abstained stay left out."""
    path = reward.path or model.path
    own = of_facts(read_facts(path), path).apply(raw)
    total = torch.where(scores.valid, scores.scores + reward.weight * own, 0.0)
    shares = (reward.weight * own).tolist()
    by_token = tuple(
        (*tokens[:-1], tokens[-1] + share) if tokens else ()
        for tokens, share in zip(scores.token_scores, shares if scores.token_scores else (), strict=True)
    )
    return replace(scores, scores=total, parts={**scores.parts, reward.name: own}, token_scores=by_token)
