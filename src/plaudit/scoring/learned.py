"""A reward model as a scorer: text re-rendered with the reward model's own template (docs/reward-models.md)."""

from collections.abc import Sequence

import torch

from plaudit.engines.device import Machine
from plaudit.models.reward.scalar import ScalarRewardModel
from plaudit.records.tensors import Scores
from plaudit.records.text import Group


class RewardModelScorer:
    """Scores by a learned model, in its own units (nats of preference for the logistic losses)."""

    def __init__(self, model: ScalarRewardModel, machine: Machine, *, name: str = "reward_model", budget: int = 16384):
        self.name, self.model, self.machine, self.budget = name, model, machine, budget

    def score(self, groups: Sequence[Group]) -> Scores:
        """Flat [B] over all groups' responses, in order."""
        prompts = [group.prompt for group in groups for _ in group.responses]
        responses = [response for group in groups for response in group.responses]
        with self.machine.autocast():
            scores = self.model.score_texts(prompts, responses, self.budget)
        return Scores(scores=scores, valid=torch.ones(len(scores), dtype=torch.bool), parts={self.name: scores})
