"""A zero point, a unit and a limit hold for every kind of reward model, before and after a folder."""

import pytest
import torch

from plaudit.models.load import load_language
from plaudit.models.options import ModelConfig
from plaudit.models.reward import aspects, scalar, shared_trunk, token_level, two_class
from plaudit.models.reward.aspects import Aspect
from plaudit.models.reward.loading import load_reward_model
from plaudit.models.reward.normalisation import Normalisation
from plaudit.models.reward.reader import encoded
from plaudit.records.text import Group, Prompt
from plaudit.tokens.batches import sharing
from tests.kills import kills
from tests.models.test_token_level import TINY
from tests.models.tiny import spread_out

TWO = (Aspect(name="good", mean=5.0, std=2.0, offset=0.5, weight=0.75), Aspect(name="long", weight=-0.5))
KINDS = {
    "scalar": lambda spoken: scalar.load(TINY, spoken, seed=3),
    "two_class": lambda spoken: two_class.load(TINY, spoken, seed=3),
    "token_level": lambda spoken: token_level.load(TINY, spoken, seed=3),
    "aspects": lambda spoken: aspects.new(TINY, spoken, TWO, seed=3),
    "shared_trunk": lambda spoken: shared_trunk.new(TINY, spoken, seed=3),
}
GROUPS = [
    Group(prompt=Prompt.of_text("the cat"), responses=("sat on the mat", "on", "cat")),
    Group(prompt=Prompt.of_text("a mat"), responses=("the",)),
]


@kills(
    "models/reward/two_class.py",
    old="self.normalisation.apply(log_odds(self.read(groups, budget)))",
    new="log_odds(self.read(groups, budget))",
    why="a zero point that is stored and not applied",
)
@kills(
    "models/reward/aspects.py",
    old="self.normalisation.apply(weighed.sum(dim=1))",
    new="weighed.sum(dim=1)",
    why="a zero point that is stored and not applied",
)
@kills(
    "models/reward/shared_trunk.py",
    old="Scores.of_all(self.normalisation.apply(raw))",
    new="Scores.of_all(raw)",
    why="a zero point that is stored and not applied",
)
@pytest.mark.parametrize("kind", list(KINDS))
def test_scores_are_raw_ones_less_the_bias_times_the_gain_within_the_limit(tmp_path, kind):
    model = KINDS[kind](load_language(TINY, ["the cat sat on the mat"] * 3))
    spread_out(model, spread=0.3)
    raw = sorted((told := model.score(GROUPS, 20)).scores.tolist())
    assert raw[0] < raw[1] < raw[2] < raw[3]
    bias, limit = raw[1], 1.5 * (raw[2] - raw[1])
    model.normalisation = Normalisation(bias=bias, gain=2.0, clip=limit)
    wanted = [min(max(2 * (score - bias), -limit), limit) for score in told.scores.tolist()]
    assert sorted(wanted)[1] == 0.0 and sorted(wanted)[2:] == [pytest.approx(limit)] * 2
    model.save(tmp_path / kind, {})
    for judge in (model, load_reward_model(ModelConfig(path=str(tmp_path / kind)))):
        said = judge.score(GROUPS, 20)
        assert said.scores.tolist() == pytest.approx(wanted, abs=1e-5)
        for name, part in told.parts.items():  # ratings keep their own unit
            torch.testing.assert_close(said.parts[name], part, atol=1e-4, rtol=1e-4)


@kills(
    "models/reward/aspects.py",
    old='budget) + self.table("offset").cpu()',
    new="budget)",
    why="a ridge fit's intercept left out of the score",
)
@torch.no_grad()
def test_an_aspects_offset_is_in_its_rating_and_in_the_score():
    """good = 2 (h + ½) + 5, long = h; the score ¾ (h_good + ½) − ½ h_long."""
    model = spread_out(KINDS["aspects"](load_language(TINY, ["the cat sat on the mat"] * 3)), spread=0.3)
    good, long = model.reader(sharing(encoded(model.language, GROUPS))).unbind(1)
    said = model.score(GROUPS, 20)
    for found, wanted in (
        (said.scores, 0.75 * (good + 0.5) - 0.5 * long),
        (said.parts["aspect/good"], 2.0 * (good + 0.5) + 5.0),
        (said.parts["aspect/long"], long),
    ):
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
