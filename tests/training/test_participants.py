"""Whoever takes part in PPO can be handed in, is checked as what the config names is, and trains alike."""

from dataclasses import replace

import pytest
import torch

from plaudit.data.sources import load
from plaudit.errors import UserError
from plaudit.models.load import load_causal, load_language
from plaudit.models.options import LoRA, ModelConfig, SeparateCritic
from plaudit.records.tensors import Scores
from plaudit.records.text import Kind
from plaudit.runs.folder import Run
from plaudit.scoring.build import build_scorer
from plaudit.scoring.protocol import scores_of
from plaudit.training.policy.loop import optimise
from plaudit.training.policy.participants import participants
from tests.kills import kills
from tests.training.scripted import config, run
from tests.training.tiny import CPU, metrics, model_folder, same_weights


def handed_in(folder, chosen, name="handed in", **objects):
    """The config names none of `objects`' files."""
    bare = replace(chosen, prompts=(), rewards=(), model=replace(chosen.model, path="tiny"))
    with Run.create(folder / name, "ppo", bare) as opened:
        optimise(participants(bare, opened, **objects), bare, opened)
    return folder / name


@pytest.fixture
def chosen(tmp_path):
    return config(tmp_path)


def loaded(chosen):
    plain = ModelConfig(path=chosen.model.path)
    return load_causal(plain, load_language(plain), seed=0)


def objects(chosen):
    (prompts,) = [load(source, Kind.PROMPT).rows for source in chosen.prompts]
    return {"policy": loaded(chosen), "prompts": prompts, "scorer": build_scorer(chosen.rewards, CPU)}


@pytest.mark.parametrize("options", [{}, {"critic": SeparateCritic()}, {"train": LoRA(rank=2)}], ids=str)
def test_what_is_handed_in_trains_to_the_same_numbers_as_what_is_named(tmp_path, chosen, options):
    train = options.pop("train", chosen.model.train)
    chosen = replace(chosen, model=replace(chosen.model, train=train), **options)
    given = handed_in(tmp_path, chosen, **objects(chosen))
    named = run(tmp_path, chosen)
    assert metrics(given) == metrics(named)
    assert same_weights(given / "model", named / "model")


def test_another_reference_is_what_the_policy_is_held_to(tmp_path, chosen):
    """At first KL(π ‖ π_ref) is 0 against a copy, and not against another model."""
    other = ModelConfig(path=model_folder(tmp_path / "other", letters="abc", spread=0.3, seed=7))
    reference = load_causal(other, load_language(other), seed=0)
    own, away = (
        metrics(handed_in(tmp_path, chosen, name, **objects(chosen), reference=given))[0]
        for name, given in (("own", None), ("away", reference))
    )
    assert own["ppo/kl_ref_over_responses"] == pytest.approx(0.0, abs=1e-5)
    assert abs(away["ppo/kl_ref_over_responses"]) > 1e-3
    assert not any(p.requires_grad for p in reference.hf.parameters())


class Picky:
    name = "picky"
    required_columns = ("solution",)

    def score(self, groups):
        return scores_of("picky", [0.0 for group in groups for _ in group.responses])


class Broken:
    name = "broken"

    def score(self, groups):
        return Scores.of_all(torch.full((sum(len(group.responses) for group in groups),), torch.nan))


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ({"scorer": Picky()}, {}, "scorer 'picky' needs the column 'solution'"),
        ({"prompts": []}, {}, "prompts: there is none"),
        ({"scorer": None}, {}, "rewards: name at least one"),
        ({"reference": "letters"}, {}, "reference: has another tokenizer"),
        ({"policy": "lora"}, {}, "holds adapters already"),
        ({}, {"max_new_tokens": 30}, "leave no room"),
        ({"reference": "policy"}, {}, "reference: is the policy itself"),
        ({"scorer": Broken()}, {}, "scorer 'broken': the answer .* scores nan"),
    ],
)
def test_what_is_handed_in_is_checked(tmp_path, chosen, given, options, message):
    if given.get("reference") == "letters":
        other = ModelConfig(path=model_folder(tmp_path / "other", letters="abd"))
        given = {"reference": load_causal(other, load_language(other), seed=0)}
    if given.get("policy") == "lora":
        wrapped = replace(chosen.model, train=LoRA(rank=2))
        given = {"policy": load_causal(wrapped, load_language(wrapped), seed=0)}
    chosen = replace(chosen, sampling=replace(chosen.sampling, **options))
    given = {**objects(chosen), **given}
    if given.get("reference") == "policy":
        given["reference"] = given["policy"]
    with pytest.raises(UserError, match=message):
        handed_in(tmp_path, chosen, **given)


def test_a_resumed_run_refuses_other_prompts(tmp_path, chosen):
    given = objects(chosen)
    folder = handed_in(tmp_path, replace(chosen, save_every=1), **given)
    bare = replace(chosen, prompts=(), rewards=(), iterations=3)
    with Run.open(folder) as opened, pytest.raises(UserError, match="prompts: changed since"):
        participants(bare, opened, **{**given, "prompts": given["prompts"][:2]})


@kills(
    "training/policy/participants.py",
    old="            state.check_weights(run, name, model.hf.parameters())\n",
    new="            pass\n",
    why="a resumed run is held to the policy as training left it, not to the one that it began with",
)
def test_a_resumed_run_refuses_another_policy_whose_copy_would_be_its_reference(tmp_path, chosen):
    given = objects(chosen)
    folder = handed_in(tmp_path, replace(chosen, save_every=1), **given)
    bare = replace(chosen, prompts=(), rewards=(), iterations=3)
    with Run.open(folder) as opened, pytest.raises(UserError, match="policy: changed since"):
        participants(bare, opened, **given)  # trained in place by now
    with Run.open(folder) as opened:
        participants(bare, opened, **objects(chosen))
