"""The gate's arithmetic on one model: what is mixed, and by how much."""

import pytest
import torch

from plaudit.models.load import load_language
from plaudit.models.options import GateShape, ModelConfig
from plaudit.models.reward.aspects import Aspect, AspectsRewardModel
from plaudit.models.reward.gated import GatedRewardModel
from plaudit.models.reward.loading import load_reward_model
from plaudit.models.reward.normalisation import Normalisation
from plaudit.models.reward.reader import encoded, load_packed_reader
from plaudit.records.text import Group, Prompt
from plaudit.tokens.batches import sharing
from tests.kills import kills
from tests.models.test_token_level import TINY
from tests.models.tiny import spread_out


@pytest.fixture
def model() -> GatedRewardModel:
    reader = load_packed_reader(TINY, load_language(TINY, ["the cat sat on the mat"] * 3), seed=3, width=2)
    spread_out(reader.trunk.hf)
    aspects = AspectsRewardModel(reader, [Aspect(name="good", offset=0.75), Aspect(name="long", offset=-1.5)])
    made = GatedRewardModel(aspects, GateShape(hidden_size=8, layers=1, scale=3.0, temperature=0.5), seed=1)
    made.correct(1, torch.tensor([0.5, 1.0]))
    return made


@torch.no_grad()
def test_the_score_is_the_gates_mix_of_the_aspects_with_their_offsets(model):
    groups = [Group(prompt=Prompt.of_text(p), responses=("sat on the mat", "on")) for p in ("the cat", "a mat")]
    rows = encoded(model.language, groups)
    good, long = (model.reader(sharing(rows)) + torch.tensor([0.75, -1.5])).unbind(1)
    weights = []
    for prompt, _ in rows:
        hidden = model.reader.trunk.hf.model(input_ids=torch.tensor([prompt])).last_hidden_state[0, -1]
        weights.append(3.0 * torch.softmax(model.gate(hidden) / 0.5, dim=0))
    mixed = torch.stack(weights)
    assert (mixed[0] - mixed[2]).abs().max() > 1e-3  # prompts differ
    wanted = mixed[:, 0] * (good - 0.5 * long)
    torch.testing.assert_close(model(sharing(rows)), wanted, atol=1e-4, rtol=1e-4)
    said = model.score(groups, 20)
    torch.testing.assert_close(said.scores, wanted, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(said.parts["gate/good"], mixed[:, 0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(said.parts["aspect/long"], long, atol=1e-4, rtol=1e-4)


@kills(
    "models/reward/gated.py",
    old="Scores.of_all(self.normalisation.apply(scores), {**self",
    new="Scores.of_all(scores, {**self",
    why="a zero point that is stored and not applied",
)
@kills(
    "models/reward/gated.py",
    old='model.correct(int(facts["verbosity"]), tensors.pop("penalties"))',
    new='tensors.pop("penalties")',
    why="a loaded gate scores without the correction that it was trained with",
)
def test_it_is_normalised_and_saved_with_its_penalties(model, tmp_path):
    groups = [Group(prompt=Prompt.of_text("the cat"), responses=("sat on the mat", "on"))]
    raw = model.score(groups, 20).scores
    model.normalisation = Normalisation(bias=0.25, gain=2.0)
    torch.testing.assert_close(model.score(groups, 20).scores, 2.0 * (raw - 0.25))
    model.save(tmp_path / "gated", {})
    saved = load_reward_model(ModelConfig(path=str(tmp_path / "gated")))
    torch.testing.assert_close(saved.score(groups, 20).scores, 2.0 * (raw - 0.25), atol=1e-5, rtol=1e-5)
