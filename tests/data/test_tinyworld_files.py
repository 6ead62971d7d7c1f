"""The tiny world's ceilings against its enumerated answers, and its files byte by byte."""

import itertools
import json
import math
import random
from collections import Counter
from pathlib import Path

import pytest

from plaudit.data import tinyworld as world
from plaudit.data import tinyworld_files as files
from plaudit.errors import UserError
from plaudit.formulas.optimum import kl_regularised_optimum
from tests.kills import kills

HUNGRY_CAT = "Anna asks: My cat is hungry. What can I do?"
SAD_HORSE = "Rosa says: Please help me. The horse looks sad today."
ONE_PROMPT_A_TROUBLE = [f"Leo is here. The poor duck is very {trouble}. Please help." for trouble in world.TROUBLES]

# --- calibration -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", ONE_PROMPT_A_TROUBLE)
def test_the_ceilings_are_those_of_the_enumerated_answers(prompt: str) -> None:
    listed = world.answers(prompt)
    logprobs = [world.demo_logprob(prompt, a) for a in listed]
    rewards = world.true_reward([prompt] * len(listed), listed)
    facts = files.ceilings([prompt], kl_coefs=[0.4])
    probabilities = [math.exp(lp) for lp in logprobs]
    mean = math.fsum(p * r for p, r in zip(probabilities, rewards, strict=True))
    variance = math.fsum(p * (r - mean) ** 2 for p, r in zip(probabilities, rewards, strict=True))
    assert facts["score_mean"] == pytest.approx(mean, abs=1e-9)
    assert facts["score_std"] == pytest.approx(math.sqrt(variance), abs=1e-9)
    assert facts["score_best"] == pytest.approx(max(rewards), abs=1e-9)
    exact = kl_regularised_optimum(logprobs, rewards, 0.4)
    assert facts["optimum"]["0.4"]["objective"] == pytest.approx(exact.objective, abs=1e-8)
    assert facts["optimum"]["0.4"]["kl"] == pytest.approx(exact.kl, abs=1e-8)
    assert math.fsum(files._score_distribution(world.read_prompt(prompt).trouble).values()) == pytest.approx(1.0)


@pytest.mark.parametrize("prompt", [*ONE_PROMPT_A_TROUBLE, None])
def test_the_world_is_hard_enough_to_mean_something(prompt: str | None) -> None:
    facts = files.ceilings(world.all_prompts() if prompt is None else [prompt])
    assert 1.2 < facts["score_std"] < 1.5
    assert 0.72 < facts["bayes_accuracy"] < 0.80
    assert facts["optimum"]["0.4"]["gain"] > facts["score_std"]
    gains = [facts["optimum"][beta]["gain"] for beta in ("0.3", "0.4", "0.5")]
    assert gains == sorted(gains, reverse=True)


def test_bayes_accuracy_of_the_demonstrators_agrees_with_sampled_pairs() -> None:
    rng = random.Random(8)
    drawn = world.true_reward([SAD_HORSE] * 3000, [world.demonstrate(SAD_HORSE, rng) for _ in range(3000)])
    sampled = math.fsum(world.pair_probability(max(p), min(p)) for p in itertools.pairwise(drawn)) / (len(drawn) - 1)
    assert sampled == pytest.approx(files.ceilings([SAD_HORSE])["bayes_accuracy"], abs=0.015)  # std. error 0.003


def test_ceilings_weigh_troubles_by_their_prompts() -> None:
    sad, dirty = (files.ceilings([p])["score_mean"] for p in (SAD_HORSE, "Tom asks: My cow is dirty. What can I do?"))
    mixed = files.ceilings([SAD_HORSE, SAD_HORSE, "Tom asks: My cow is dirty. What can I do?"], kl_coefs=[0.4])
    assert mixed["score_mean"] == pytest.approx((2 * sad + dirty) / 3)
    assert mixed["optimum"]["0.4"]["reference"] == pytest.approx((2 * sad + dirty) / 3)
    with pytest.raises(UserError, match="at least one prompt"):
        files.ceilings([])


# --- files -----------------------------------------------------------------------------------------------------------

SMALL = {"demonstrations": 200, "preference_prompts": 80, "ppo_prompts": 40, "held_out": 30}


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    lines = (folder / files.FILES[name]).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_the_default_world(tmp_path: Path) -> None:
    said = files.write_world(tmp_path / "new" / "world", seed=3)
    folder = tmp_path / "new" / "world"
    assert json.loads((folder / "world.json").read_text(encoding="utf-8")) == said
    assert {p.name for p in folder.iterdir()} == {*files.FILES.values(), "world.json"}
    demonstrations = rows(folder, "demonstrations")
    preference, ppo, held_out = (
        [row["prompt"] for row in rows(folder, name)]
        for name in ("preference_prompts", "ppo_prompts", "held_out_prompts")
    )
    demonstrated = [row["prompt"] for row in demonstrations]
    assert [len(x) for x in (demonstrated, preference, ppo, held_out)] == [6000, 2400, 900, 300]
    for name in ("preference_prompts", "ppo_prompts", "held_out_prompts"):
        assert all(set(row) == {"prompt"} for row in rows(folder, name))
    together = [*preference, *ppo, *held_out]
    assert len(set(together)) == len(together)
    assert set(held_out).isdisjoint(demonstrated)
    assert len(set(demonstrated)) == len(set(demonstrated[:3540])) == 3540  # none again before all came once
    assert all(world.parse(row["prompt"], row["completion"]) for row in demonstrations)
    assert {world.read_prompt(p).trouble for p in held_out} == set(world.TROUBLES)


def test_held_out_references_and_their_floor(tmp_path: Path) -> None:
    said = files.write_world(tmp_path, seed=3, **SMALL)
    references = rows(tmp_path, "held_out_demonstrations")
    assert [row["prompt"] for row in references] == [row["prompt"] for row in rows(tmp_path, "held_out_prompts")]
    logprobs = [world.demo_logprob(row["prompt"], row["completion"]) for row in references]
    assert said["demonstrator_nll"] == pytest.approx(-sum(logprobs) / 30)
    assert said["demonstrator_nll"] == pytest.approx(said["entropy_per_answer"], abs=1.0)
    assert said["sizes"] == SMALL
    assert said["answers_per_prompt"] == 1080
    assert said["reward"] == f"{world.true_reward.__module__}:{world.true_reward.__name__}"


def test_same_seed_same_bytes_and_another_seed_another_world(tmp_path: Path) -> None:
    for name, seed in {"a": 5, "b": 5, "c": 6}.items():
        random.seed(seed + len(name))
        files.write_world(tmp_path / name, seed=seed, **SMALL)
    for file in [*files.FILES.values(), "world.json"]:
        a, b, c = ((tmp_path / name / file).read_bytes() for name in "abc")
        assert a == b
        assert a != c
        assert b"\r" not in a


def test_the_size_of_one_file_leaves_the_others_alone(tmp_path: Path) -> None:
    files.write_world(tmp_path / "a", seed=5, **SMALL)
    files.write_world(tmp_path / "b", seed=5, **SMALL | {"demonstrations": 20})
    for name in ("preference_prompts", "ppo_prompts", "held_out_prompts", "held_out_demonstrations"):
        assert rows(tmp_path / "a", name) == rows(tmp_path / "b", name)
    assert rows(tmp_path / "a", "demonstrations")[:20] == rows(tmp_path / "b", "demonstrations")


def test_demonstrations_come_round_again(tmp_path: Path) -> None:
    files.write_world(tmp_path, seed=1, **SMALL | {"held_out": 3690, "demonstrations": 400})
    counts = Counter(row["prompt"] for row in rows(tmp_path, "demonstrations"))
    assert sorted(set(counts.values())) == [2, 3]
    assert len(counts) == 150


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ({"held_out": 0}, "at least 1 held-out prompt"),
        ({"held_out": 3800}, "has 3840 prompts"),
        ({"held_out": 3840, "preference_prompts": 0, "ppo_prompts": 0}, "leave some for training"),
        ({"demonstrations": -1}, "demonstrations is -1"),
    ],
)
def test_sizes_that_the_world_has_not(tmp_path: Path, size: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        files.write_world(tmp_path / "w", seed=1, **SMALL | size)
    assert not (tmp_path / "w").exists()


# --- running text ----------------------------------------------------------------------------------------------------


@kills("data/tinyworld_text.py", old="    return own if own in questions else rng.choice(list(questions))",
       new="    return own", why="held-out prompts stand in the text that models are pre-trained on")  # fmt: skip
def test_running_text_has_its_share_of_answers_and_no_held_out_prompt(tmp_path: Path) -> None:
    sizes = {"demonstrations": 5, "preference_prompts": 5, "ppo_prompts": 5, "held_out": 400}
    files.write_world(tmp_path / "plain", seed=1, **sizes)
    facts = files.write_world(tmp_path / "world", seed=1, **sizes, texts=400, answered_share=0.1)
    for file in files.FILES.values():
        assert (tmp_path / "world" / file).read_bytes() == (tmp_path / "plain" / file).read_bytes()
    texts = [
        json.loads(x)["text"] for x in (tmp_path / "world" / "texts.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    held_out = (tmp_path / "world" / "held_out_prompts.jsonl").read_text(encoding="utf-8").splitlines()
    assert (len(texts), facts["sizes"]["texts"]) == (400, 400)
    assert not [
        prompt for prompt in (json.loads(line)["prompt"] for line in held_out) if any(prompt in t for t in texts)
    ]
    answered = [text for text in texts if "\n" in text]
    assert len(answered) == 40
    for text in answered:
        for question, answer in (part.split("\n") for part in text.split("\n\n")):
            assert world.parse(question, answer) is not None
    assert "texts" not in files.write_world(tmp_path / "again", seed=1, **sizes)["sizes"]
