"""A reward model as a scorer: text re-rendered with the reward model's own template (docs/reward-models.md)."""

from collections.abc import Sequence
from dataclasses import replace

from plaudit.hardware.machine import Machine
from plaudit.models.reward.protocol import RewardModel
from plaudit.records.tensors import Scores
from plaudit.records.text import Group
from plaudit.scoring.shares import score_shares


class RewardModelScorer:
    """Scores by a learned model, in its own units (nats of preference for the logistic losses)."""

    def __init__(self, model: RewardModel, machine: Machine, *, name: str = "reward_model", budget: int = 16384):
        self.name, self.model, self.machine, self.budget = name, model, machine, budget

    def score(self, groups: Sequence[Group]) -> Scores:
        """Flat [B] over all groups' responses, in order; the model's own parts beside its score."""
        scores = score_shares(self._judge, groups, self.machine.ranks)
        return replace(scores, parts={self.name: scores.scores, **scores.parts})

    def _judge(self, groups: Sequence[Group]) -> Scores:
        with self.machine.autocast():
            return self.model.score(groups, self.budget)
