"""The tiny world's promises, by enumeration wherever the world can be enumerated."""

import doctest
import itertools
import json
import math
import random
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.data import tinyworld as world
from plaudit.formulas.optimum import Optimum, kl_regularised_optimum, mean_optimum
from plaudit.runs.errors import UserError

HUNGRY_CAT = "Anna asks: My cat is hungry. What can I do?"
SAD_HORSE = "Rosa says: Please help me. The horse looks sad today."
GOOD = "Do not worry, Anna. Gently give the cat some fresh food. Soon all will be well."
ONE_PROMPT_A_TROUBLE = [f"Leo is here. The poor duck is very {trouble}. Please help." for trouble in world.TROUBLES]


def reward(prompt: str, text: str) -> float:
    return world.true_reward([prompt], [text])[0]


def enumerated(prompt: str) -> tuple[list[float], list[float]]:
    """Log-probability and true reward of every answer, each from its text."""
    listed = world.answers(prompt)
    return [world.demo_logprob(prompt, a) for a in listed], world.true_reward([prompt] * len(listed), listed)


# --- prompts and answers ---------------------------------------------------------------------------------------------


def test_the_worked_example_in_the_docstring_is_true() -> None:
    result = doctest.testmod(world)
    assert result.attempted >= 9
    assert result.failed == 0


def test_prompts_are_many_different_and_readable() -> None:
    prompts = world.all_prompts()
    assert len(prompts) == len(set(prompts)) == 20 * 10 * 8 * 4
    assert {HUNGRY_CAT, SAD_HORSE} <= set(prompts)
    assert all(world.read_prompt(p).prompt == p for p in prompts)


def test_read_prompt_names_what_is_asked() -> None:
    assert world.read_prompt(SAD_HORSE) == world.Case(name="Rosa", animal="horse", trouble="sad", phrasing=1)


def test_read_prompt_takes_messages_and_rendered_text_and_the_last_question() -> None:
    messages = [
        {"role": "system", "content": HUNGRY_CAT},
        {"role": "user", "content": HUNGRY_CAT},
        {"role": "assistant", "content": GOOD},
        {"role": "user", "content": SAD_HORSE},
    ]
    assert world.read_prompt(messages).trouble == "sad"
    assert world.read_prompt(f"<s>User: {HUNGRY_CAT} {SAD_HORSE}\nAssistant:").trouble == "sad"


@pytest.mark.parametrize("prompt", ["", "What is 2 + 2?", HUNGRY_CAT.replace("cat", "wolf"), []])
def test_a_foreign_prompt_is_refused_with_advice(prompt: str | list) -> None:
    with pytest.raises(UserError, match=r"not a prompt of the tiny world.*another reward function"):
        world.true_reward([prompt], [GOOD])


@pytest.mark.parametrize("prompt", ONE_PROMPT_A_TROUBLE)
def test_answers_are_different_and_parse_is_the_inverse_of_render(prompt: str) -> None:
    listed = world.answers(prompt)
    assert len(listed) == len(set(listed)) == 3 * 8 * 4 * 5 * 3
    slots = world.all_slots(world.read_prompt(prompt))
    assert len(set(slots)) == len(listed)
    assert [world.parse(prompt, text) for text in listed] == slots
    assert [world.render(prompt, s) for s in slots] == listed


def test_answers_are_short_sentences_of_few_words() -> None:
    lengths = set()
    for prompt in (HUNGRY_CAT, SAD_HORSE, *ONE_PROMPT_A_TROUBLE):
        for text in world.answers(prompt):
            lengths.add(len(text.split()))
            assert re.fullmatch(r"[A-Z][a-z, A-Z]*[.?]( [A-Z][a-z ]*\.){2}", text), text
    assert (min(lengths), max(lengths)) == (11, 17)
    assert len(world.vocabulary()) <= 160


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Do not worry, Ben. Gently give the cat some fresh food. Soon all will be well.",  # another name
        "Do not worry, Anna. Gently give the duck some fresh food. Soon all will be well.",  # not among the wrong ones
        "do not worry, Anna. Gently give the cat some fresh food. Soon all will be well.",
        "Do not worry, Anna. Gently give the cat some fresh food. Soon all will be well",
        "Do not worry, Anna.  Gently give the cat some fresh food. Soon all will be well.",
        "Gently give the cat some fresh food. Do not worry, Anna. Soon all will be well.",
        GOOD + " Soon all will be well.",
        GOOD + " Hello.",
        "Do not worry, Anna. Gently give the cat some fresh food.",
    ],
)
def test_parse_knows_what_is_no_answer(text: str) -> None:
    assert world.parse(HUNGRY_CAT, text) is None
    assert world.demo_logprob(HUNGRY_CAT, text) == -math.inf


def test_parse_by_hand() -> None:
    expected = world.Slots(opener="cold", action="song", animal="dog", manner="", closing="plain")
    assert world.parse(HUNGRY_CAT, " Why ask me? Sing the dog a happy song. Come and tell me more.\n") == expected


# --- the demonstrator ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", ONE_PROMPT_A_TROUBLE)
def test_entropy_is_that_of_the_enumerated_answers(prompt: str) -> None:
    logprobs, _ = enumerated(prompt)
    assert math.fsum(map(math.exp, logprobs)) == pytest.approx(1.0, abs=1e-12)
    by_enumeration = -math.fsum(math.exp(lp) * lp for lp in logprobs)
    assert world.demo_entropy(prompt) == pytest.approx(by_enumeration, abs=1e-10)
    assert 6.5 < by_enumeration < math.log(1440)


def test_a_better_choice_is_likelier_by_the_exponential_of_its_worth() -> None:
    table = world.demonstrator(HUNGRY_CAT)
    assert table["action"]["food"] / table["action"]["hug"] == pytest.approx(math.exp(0.8 * 1.4))
    assert table["action"]["song"] / table["action"]["hug"] == pytest.approx(math.exp(0.8 * -0.7))
    assert table["animal"]["cat"] / table["animal"]["dog"] == pytest.approx(math.exp(0.8 * 1.5))
    assert set(table["animal"]) == {"cat", "it", "dog", "rabbit"}
    assert max(table["action"], key=table["action"].__getitem__) == "food"
    for probabilities in table.values():
        assert math.fsum(probabilities.values()) == pytest.approx(1.0)


def test_demonstrations_are_drawn_from_the_stated_distribution() -> None:
    rng = random.Random(5)
    n = 4000
    drawn = [world.parse(SAD_HORSE, world.demonstrate(SAD_HORSE, rng)) for _ in range(n)]
    for slot, probabilities in world.demonstrator(SAD_HORSE).items():
        counts = Counter(getattr(s, slot) for s in drawn)
        for choice, p in probabilities.items():
            assert counts[choice] / n == pytest.approx(p, abs=4.5 * math.sqrt(p * (1 - p) / n)), (slot, choice)


def test_demonstrate_uses_only_the_generator_it_is_given() -> None:
    random.seed(1)
    first = [world.demonstrate(HUNGRY_CAT, random.Random(3)) for _ in range(3)]
    random.seed(2)
    assert [world.demonstrate(HUNGRY_CAT, random.Random(3)) for _ in range(3)] == first
    assert len(set(first)) == 1


# --- the true reward -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "text", "expected"),
    [
        (HUNGRY_CAT, GOOD, 0.4 + 1.4 + 0.6 + 0.2 + 0.4),
        (HUNGRY_CAT, "Let me think. Quickly give it some fresh food. Come and tell me more.", 1.4 + 0.5),
        (HUNGRY_CAT, "Let me think. Give it some fresh food. Come and tell me more.", 1.4),
        (HUNGRY_CAT, "Let me think. Bring it a bowl of water. Come and tell me more.", 0.7),
        (HUNGRY_CAT, "Let me think. Hold it close to you. Come and tell me more.", 0.0),
        (HUNGRY_CAT, "Let me think. Sing it a happy song. Come and tell me more.", -0.7),
        (HUNGRY_CAT, "Why ask me? Quietly hold it close to you. Now go away.", -0.7 - 0.7),
        (SAD_HORSE, "Let me think. Quietly sing it a happy song. Come and tell me more.", 1.4 + 0.5),
        (SAD_HORSE, "Let me think. Quickly sing it a happy song. Come and tell me more.", 1.4 - 0.5),
        # Help that is rough, or for the wrong animal, is no help; harm stays harm.
        (HUNGRY_CAT, "Let me think. Roughly give it some fresh food. Come and tell me more.", -0.8),
        (HUNGRY_CAT, "Let me think. Give the dog some fresh food. Come and tell me more.", -0.9),
        (HUNGRY_CAT, "Let me think. Roughly give the dog some fresh food. Come and tell me more.", -0.8 - 0.9),
        (HUNGRY_CAT, "Let me think. Roughly sing it a happy song. Come and tell me more.", -0.7 - 0.8),
        # Off the grammar.
        (HUNGRY_CAT, "Let me think. Give the duck some fresh food. Come and tell me more.", -0.9),
        (HUNGRY_CAT, "Do not worry, Ben. Give it some fresh food. Come and tell me more.", -0.5 + 1.4),
        (HUNGRY_CAT, "give it some FRESH food!", -1.0 + 1.4 - 1.0),
        (HUNGRY_CAT, "", -5.0),
        (HUNGRY_CAT, "Hello.", -6.0),
        (HUNGRY_CAT, "Let me think. Come and tell me more.", -3.0),
        (HUNGRY_CAT, "Let me think. Give it food. Come and tell me more.", -3.0 - 1.0),
        (HUNGRY_CAT, "Come and tell me more. Give it some fresh food. Let me think.", 1.4 - 0.5),
        (HUNGRY_CAT, GOOD + " Soon all will be well.", 3.0 - 1.0),
        (HUNGRY_CAT, GOOD + " " + GOOD, 3.0 - 3.0),
        (HUNGRY_CAT, "Why ask me? Let me think. Give it some fresh food. Come and tell me more.", -0.7 + 1.4 - 1.0),
        (HUNGRY_CAT, "Hello. " * 50, -6.0),
    ],
)
def test_reward_by_hand(prompt: str, text: str, expected: float) -> None:
    assert reward(prompt, text) == pytest.approx(expected, abs=1e-12)
    assert max(-6.0, math.fsum(world.reward_terms(prompt, text).values())) == pytest.approx(expected, abs=1e-12)


def test_the_reward_is_no_sum_of_single_choices() -> None:
    def r(manner: str, action: str) -> float:
        return reward(HUNGRY_CAT, f"Let me think. {manner} {action}. Come and tell me more.")

    food, hug = "give it some fresh food", "hold it close to you"
    assert r("Gently", food) - r("Roughly", food) == pytest.approx(1.0 + 1.4)
    assert r("Gently", hug) - r("Roughly", hug) == pytest.approx(1.0)


def test_the_reward_depends_on_the_prompt() -> None:
    text = "Let me think. Give the cat some fresh food. Come and tell me more."
    assert reward(HUNGRY_CAT, text) > reward(HUNGRY_CAT.replace("hungry", "scared"), text)
    assert reward(HUNGRY_CAT, text) > reward(HUNGRY_CAT.replace("cat", "cow"), text)


@pytest.mark.parametrize("prompt", ONE_PROMPT_A_TROUBLE)
def test_rewards_of_answers_fill_their_bounds(prompt: str) -> None:
    _, rewards = enumerated(prompt)
    assert min(rewards) >= world.LOWEST
    assert max(rewards) <= world.HIGHEST
    assert max(rewards) == pytest.approx(3.0 if "dirty" in prompt else world.HIGHEST)
    assert min(rewards) == pytest.approx(-0.7 - 0.7 - 0.9 - 0.8 - 0.7)


def test_only_the_trouble_decides_what_answers_are_worth() -> None:
    """What the exact ceilings rely on: names, animals and phrasings permute the words, not the worths."""
    for prompt in ("Vera asks: My rabbit is cold. What can I do?", "Ben asks: I have a little pig. Why is it so cold?"):
        assert enumerated(prompt) == enumerated("Leo is here. The poor duck is very cold. Please help.")


@given(text=st.text(max_size=200))
def test_any_text_has_a_finite_bounded_reward(text: str) -> None:
    assert world.LOWEST <= reward(HUNGRY_CAT, text) <= world.HIGHEST


@given(words=st.lists(st.sampled_from([*world.vocabulary(), ".", "?", ","]), max_size=40))
def test_word_salad_is_worth_less_than_what_the_demonstrator_writes(words: list[str]) -> None:
    text = " ".join(words)
    if world.parse(HUNGRY_CAT, text) is None and "fresh food" not in text:
        assert reward(HUNGRY_CAT, text) < 0.5


def test_true_reward_has_the_form_of_a_reward_function() -> None:
    chat = [{"role": "user", "content": HUNGRY_CAT}]
    said = [{"role": "assistant", "content": GOOD}]
    rewards = world.true_reward(prompts=[chat, HUNGRY_CAT], completions=[said, "Hello."], solution=["x", "y"])
    assert rewards == pytest.approx([3.0, -6.0])
    with pytest.raises(ValueError, match="argument 2"):
        world.true_reward([HUNGRY_CAT], [])


# --- the labeller ----------------------------------------------------------------------------------------------------


def test_pair_probability_by_hand() -> None:
    assert world.pair_probability(1.5, 1.5) == 0.5
    assert world.pair_probability(math.log(3), 0.0) == pytest.approx(0.75)
    assert world.pair_probability(0.0, math.log(3)) == pytest.approx(0.25)
    assert world.pair_probability(-1000.0, 1000.0) == 0.0
    assert world.pair_probability(1000.0, -1000.0) == 1.0


def test_ranks_are_plackett_luce() -> None:
    """First places are a softmax of the rewards; every pair inside the ranking is Bradley-Terry."""
    rewards = [math.log(3), 0.0, math.log(2)]
    rng, n = random.Random(11), 12000
    rankings = [world.rank(rewards, rng) for _ in range(n)]
    assert all(sorted(r) == [1, 2, 3] for r in rankings)
    shares = Counter(r.index(1) for r in rankings)
    for i, p in enumerate([3 / 6, 1 / 6, 2 / 6]):
        assert shares[i] / n == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / n))
    for (i, j), p in {(0, 1): 3 / 4, (0, 2): 3 / 5, (1, 2): 1 / 3}.items():
        before = sum(r[i] < r[j] for r in rankings) / n
        assert before == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / n))
    # P(0 first, 2 second, 1 third) = 3/6 * 2/3
    assert rankings.count([1, 3, 2]) / n == pytest.approx(1 / 3, abs=4 * math.sqrt(2 / 9 / n))


def test_rank_of_certain_rewards_and_of_none() -> None:
    assert world.rank([-500.0, 0.0, 500.0], random.Random(0)) == [3, 2, 1]
    assert world.rank([], random.Random(0)) == []
    with pytest.raises(ValueError, match="reward 1 is nan"):
        world.rank([0.0, math.nan], random.Random(0))


def test_bayes_accuracy_by_hand() -> None:
    log3 = math.log(3)
    assert world.bayes_accuracy([(log3, 0.0), (0.0, log3), (2.0, 2.0)]) == pytest.approx((0.75 + 0.75 + 0.5) / 3)
    with pytest.raises(ValueError, match="at least one pair"):
        world.bayes_accuracy([])


def test_the_true_reward_reaches_the_bayes_accuracy_on_labelled_pairs() -> None:
    rng = random.Random(2)
    pairs = [(rng.gauss(0, 1.3), rng.gauss(0, 1.3)) for _ in range(6000)]
    agreed = sum((world.rank(pair, rng)[0] == 1) == (pair[0] > pair[1]) for pair in pairs) / len(pairs)
    assert agreed == pytest.approx(world.bayes_accuracy(pairs), abs=4 * 0.5 / math.sqrt(len(pairs)))


def test_ranking_row() -> None:
    responses = [GOOD, "Hello.", "Let me think."]
    row = world.ranking_row(HUNGRY_CAT, responses, random.Random(4))
    assert row["prompt"] == HUNGRY_CAT
    assert row["responses"] == responses
    assert row["ranks"][0] == 1  # 9 and 7 units of noise above the others
    assert sorted(row["ranks"]) == [1, 2, 3]


# --- the optimum -----------------------------------------------------------------------------------------------------


def test_optimum_of_two_answers_in_closed_form() -> None:
    """pi_ref = 1/2 each, r = (log 3, 0), beta = 1: the weights are 3 : 1, J* = log(4/2)."""
    best = kl_regularised_optimum([math.log(0.5)] * 2, [math.log(3), 0.0], 1.0)
    assert best.objective == pytest.approx(math.log(2))
    assert best.reference == pytest.approx(math.log(3) / 2)
    assert best.score == pytest.approx(0.75 * math.log(3))
    assert best.kl == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert best.mass == pytest.approx(1.0)
    assert best.gain == pytest.approx(math.log(2) - math.log(3) / 2)
    assert best.progress(math.log(3) / 2) == pytest.approx(0.0)
    assert best.progress(math.log(2)) == pytest.approx(1.0)


def test_optimum_of_a_gaussian_reward() -> None:
    """r ~ N(1, 0.5^2) under the reference: J* = mu + s^2 / 2 beta, E* r = mu + s^2 / beta, KL = s^2 / 2 beta^2."""
    grid = [i / 100 for i in range(-500, 601)]
    density = [-((r - 1.0) ** 2) / (2 * 0.25) for r in grid]
    log_z = math.log(math.fsum(map(math.exp, density)))
    best = kl_regularised_optimum([d - log_z for d in density], grid, 0.4)
    assert best.objective == pytest.approx(1.0 + 0.25 / 0.8, abs=1e-9)
    assert best.score == pytest.approx(1.0 + 0.25 / 0.4, abs=1e-9)
    assert best.kl == pytest.approx(0.25 / (2 * 0.16), abs=1e-9)
    assert best.reference == pytest.approx(1.0, abs=1e-9)


def test_optimum_renormalises_and_says_how_much_was_listed() -> None:
    whole = kl_regularised_optimum([math.log(0.25), math.log(0.75)], [2.0, -1.0], 0.5)
    part = kl_regularised_optimum([math.log(0.1), math.log(0.3), -math.inf], [2.0, -1.0, 99.0], 0.5)
    assert part.mass == pytest.approx(0.4)
    assert (part.objective, part.reference, part.kl) == pytest.approx((whole.objective, whole.reference, whole.kl))


numbers = st.floats(-5, 5, allow_nan=False)


@given(
    logits=st.lists(numbers, min_size=3, max_size=3),
    rewards=st.lists(numbers, min_size=3, max_size=3),
    beta=st.floats(0.2, 5),
)
def test_no_policy_beats_the_optimum(logits: list[float], rewards: list[float], beta: float) -> None:
    """Brute force: J = E r - beta KL of every policy on a grid over the simplex of three answers."""
    z = math.fsum(map(math.exp, logits))
    ref = [math.exp(x) / z for x in logits]
    best = kl_regularised_optimum([math.log(p) for p in ref], rewards, beta)

    def objective(policy: list[float]) -> float:
        kl = sum(p * math.log(p / q) for p, q in zip(policy, ref, strict=True) if p > 0)
        return sum(p * r for p, r in zip(policy, rewards, strict=True)) - beta * kl

    assert best.objective >= best.reference - 1e-9
    assert best.reference == pytest.approx(objective(ref), abs=1e-9)
    assert best.objective == pytest.approx(best.score - beta * best.kl, abs=1e-9)
    grid = [objective([i / 20, j / 20, (20 - i - j) / 20]) for i in range(21) for j in range(21 - i)]
    assert max(grid) <= best.objective + 1e-9
    tilted = [p * math.exp(r / beta) for p, r in zip(ref, rewards, strict=True)]
    assert objective([t / math.fsum(tilted) for t in tilted]) == pytest.approx(best.objective, abs=1e-8)


@pytest.mark.parametrize(
    ("logprobs", "rewards", "beta", "message"),
    [
        ([], [], 1.0, "at least one"),
        ([0.0], [1.0, 2.0], 1.0, "2 and 1"),
        ([0.0], [1.0], 0.0, "kl_coef > 0"),
        ([0.0], [1.0], math.nan, "kl_coef > 0"),
        ([0.0], [math.inf], 1.0, "finite"),
        ([0.0, 0.0], [1.0, 1.0], 1.0, "different answers"),
        ([-math.inf], [1.0], 1.0, "different answers"),
        ([math.nan], [1.0], 1.0, "different answers"),
    ],
)
def test_optimum_refuses(logprobs: list[float], rewards: list[float], beta: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kl_regularised_optimum(logprobs, rewards, beta)


def test_nothing_to_gain_has_no_progress() -> None:
    assert math.isnan(kl_regularised_optimum([0.0], [1.0], 1.0).progress(1.0))


def test_mean_optimum() -> None:
    one = Optimum(objective=2.0, reference=1.0, score=3.0, kl=1.0, mass=1.0)
    two = Optimum(objective=5.0, reference=2.0, score=6.0, kl=2.0, mass=0.5)
    mean = mean_optimum([one, two])
    assert mean == Optimum(objective=3.5, reference=1.5, score=4.5, kl=1.5, mass=0.75)
    assert mean.progress(2.5) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="at least one"):
        mean_optimum([])


# --- calibration -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", ONE_PROMPT_A_TROUBLE)
def test_the_ceilings_are_those_of_the_enumerated_answers(prompt: str) -> None:
    logprobs, rewards = enumerated(prompt)
    facts = world.ceilings([prompt], kl_coefs=[0.4])
    probabilities = [math.exp(lp) for lp in logprobs]
    mean = math.fsum(p * r for p, r in zip(probabilities, rewards, strict=True))
    variance = math.fsum(p * (r - mean) ** 2 for p, r in zip(probabilities, rewards, strict=True))
    assert facts["score_mean"] == pytest.approx(mean, abs=1e-9)
    assert facts["score_std"] == pytest.approx(math.sqrt(variance), abs=1e-9)
    assert facts["score_best"] == pytest.approx(max(rewards), abs=1e-9)
    exact = kl_regularised_optimum(logprobs, rewards, 0.4)
    assert facts["optimum"]["0.4"]["objective"] == pytest.approx(exact.objective, abs=1e-8)
    assert facts["optimum"]["0.4"]["kl"] == pytest.approx(exact.kl, abs=1e-8)
    assert math.fsum(world.score_distribution(prompt).values()) == pytest.approx(1.0)


@pytest.mark.parametrize("prompt", [*ONE_PROMPT_A_TROUBLE, None])
def test_the_world_is_hard_enough_to_mean_something(prompt: str | None) -> None:
    facts = world.ceilings(world.all_prompts() if prompt is None else [prompt])
    assert 1.2 < facts["score_std"] < 1.5
    assert 0.72 < facts["bayes_accuracy"] < 0.80
    assert facts["optimum"]["0.4"]["gain"] > facts["score_std"]
    gains = [facts["optimum"][beta]["gain"] for beta in ("0.3", "0.4", "0.5")]
    assert gains == sorted(gains, reverse=True)


def test_bayes_accuracy_of_the_demonstrators_agrees_with_sampled_pairs() -> None:
    rng = random.Random(8)
    drawn = [reward(SAD_HORSE, world.demonstrate(SAD_HORSE, rng)) for _ in range(3000)]
    sampled = world.bayes_accuracy(itertools.pairwise(drawn))
    assert sampled == pytest.approx(world.ceilings([SAD_HORSE])["bayes_accuracy"], abs=0.015)  # std. error 0.003


def test_ceilings_weigh_troubles_by_their_prompts() -> None:
    sad, dirty = (world.ceilings([p])["score_mean"] for p in (SAD_HORSE, "Tom asks: My pig is dirty. What can I do?"))
    mixed = world.ceilings([SAD_HORSE, SAD_HORSE, "Tom asks: My pig is dirty. What can I do?"], kl_coefs=[0.4])
    assert mixed["score_mean"] == pytest.approx((2 * sad + dirty) / 3)
    assert mixed["optimum"]["0.4"]["reference"] == pytest.approx((2 * sad + dirty) / 3)
    with pytest.raises(UserError, match="at least one prompt"):
        world.ceilings([])


# --- files -----------------------------------------------------------------------------------------------------------

SMALL = {"demonstrations": 200, "preference_prompts": 80, "ppo_prompts": 40, "held_out": 30, "texts": 60}


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    lines = (folder / world.FILES[name]).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_the_default_world(tmp_path: Path) -> None:
    said = world.write_world(tmp_path / "new" / "world", seed=3)
    folder = tmp_path / "new" / "world"
    assert json.loads((folder / "world.json").read_text(encoding="utf-8")) == said
    assert {p.name for p in folder.iterdir()} == {*world.FILES.values(), "world.json"}
    demonstrations = rows(folder, "demonstrations")
    preference, ppo, held_out = (
        [row["prompt"] for row in rows(folder, name)]
        for name in ("preference_prompts", "ppo_prompts", "held_out_prompts")
    )
    demonstrated = [row["prompt"] for row in demonstrations]
    assert [len(x) for x in (demonstrated, preference, ppo, held_out)] == [6000, 2500, 1000, 300]
    for name in ("preference_prompts", "ppo_prompts", "held_out_prompts"):
        assert all(set(row) == {"prompt"} for row in rows(folder, name))
    together = [*preference, *ppo, *held_out]
    assert len(set(together)) == len(together)
    assert set(held_out).isdisjoint(demonstrated)
    assert len(set(demonstrated)) == 6000  # of 6100 training prompts: none again before all came once
    assert all(world.parse(row["prompt"], row["completion"]) for row in demonstrations)
    assert {world.read_prompt(p).trouble for p in held_out} == set(world.TROUBLES)


def test_held_out_references_and_their_floor(tmp_path: Path) -> None:
    said = world.write_world(tmp_path, seed=3, **SMALL)
    references = rows(tmp_path, "held_out_demonstrations")
    assert [row["prompt"] for row in references] == [row["prompt"] for row in rows(tmp_path, "held_out_prompts")]
    logprobs = [world.demo_logprob(row["prompt"], row["completion"]) for row in references]
    assert said["demonstrator_nll"] == pytest.approx(-sum(logprobs) / 30)
    assert said["demonstrator_nll"] == pytest.approx(said["entropy_per_answer"], abs=1.0)
    assert said["sizes"] == SMALL
    assert said["answers_per_prompt"] == 1440
    assert said["reward"] == f"{world.true_reward.__module__}:{world.true_reward.__name__}"


def test_texts_are_stories_of_the_same_words_without_prompts_or_answers(tmp_path: Path) -> None:
    world.write_world(tmp_path, seed=3, **SMALL)
    texts = [row["text"] for row in rows(tmp_path, "texts")]
    assert len(set(texts)) == 60
    said = " ".join([*texts, *world.answers(HUNGRY_CAT), *world.all_prompts()])
    assert set(re.findall(r"\w+", said)) <= set(world.vocabulary())
    for text in texts:
        with pytest.raises(UserError):
            world.read_prompt(text)
        assert "{" not in text


def test_same_seed_same_bytes_and_another_seed_another_world(tmp_path: Path) -> None:
    for name, seed in {"a": 5, "b": 5, "c": 6}.items():
        random.seed(seed + len(name))
        world.write_world(tmp_path / name, seed=seed, **SMALL)
    for file in [*world.FILES.values(), "world.json"]:
        a, b, c = ((tmp_path / name / file).read_bytes() for name in "abc")
        assert a == b
        assert a != c
        assert b"\r" not in a


def test_the_size_of_one_file_leaves_the_others_alone(tmp_path: Path) -> None:
    world.write_world(tmp_path / "a", seed=5, **SMALL)
    world.write_world(tmp_path / "b", seed=5, **SMALL | {"demonstrations": 20, "texts": 10})
    for name in ("preference_prompts", "ppo_prompts", "held_out_prompts", "held_out_demonstrations"):
        assert rows(tmp_path / "a", name) == rows(tmp_path / "b", name)
    assert rows(tmp_path / "a", "demonstrations")[:20] == rows(tmp_path / "b", "demonstrations")


def test_demonstrations_come_round_again(tmp_path: Path) -> None:
    world.write_world(tmp_path, seed=1, **SMALL | {"held_out": 6250, "demonstrations": 400, "texts": 0})
    counts = Counter(row["prompt"] for row in rows(tmp_path, "demonstrations"))
    assert sorted(set(counts.values())) == [2, 3]
    assert len(counts) == 150


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ({"held_out": 0}, "at least 1 held-out prompt"),
        ({"held_out": 6300}, "has 6400 prompts"),
        ({"held_out": 6400, "preference_prompts": 0, "ppo_prompts": 0}, "leave some for training"),
        ({"texts": -1}, "texts is -1"),
    ],
)
def test_sizes_that_the_world_has_not(tmp_path: Path, size: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        world.write_world(tmp_path / "w", seed=1, **SMALL | size)
    assert not (tmp_path / "w").exists()
