"""The tiny world's promises, by enumeration wherever the world can be enumerated."""

import doctest
import math
import random
import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.data import tinyworld as world
from plaudit.errors import UserError

HUNGRY_CAT = "Anna asks: My cat is hungry. What can I do?"
SAD_HORSE = "Rosa says: Please help me. The horse looks sad today."
GOOD = "Do not worry, Anna. Gently give the cat some fresh food. Soon all will be well."
WORDS = sorted(set(re.findall(r"\w+", " ".join([*world.answers(HUNGRY_CAT), SAD_HORSE, HUNGRY_CAT]))))
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
    assert len(prompts) == len(set(prompts)) == 20 * 6 * 4 * 8
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
    assert len(listed) == len(set(listed)) == 3 * 6 * 4 * 5 * 3
    slots = world.all_slots(world.read_prompt(prompt))
    assert len(set(slots)) == len(listed)
    assert [world.parse(prompt, text) for text in listed] == slots
    assert [world.render(world.read_prompt(prompt), s) for s in slots] == listed


def test_answers_are_short_sentences_of_few_words() -> None:
    lengths = set()
    for prompt in (HUNGRY_CAT, SAD_HORSE, *ONE_PROMPT_A_TROUBLE):
        for text in world.answers(prompt):
            lengths.add(len(text.split()))
            assert re.fullmatch(r"[A-Z][a-z, A-Z]*[.?]( [A-Z][a-z ]*\.){2}", text), text
    assert (min(lengths), max(lengths)) == (11, 17)


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
    expected = world.Slots(opener="cold", action="song", animal="fox", manner="", closing="plain")
    assert world.parse(HUNGRY_CAT, " Why ask me? Sing the fox a happy song. Come and tell me more.\n") == expected


# --- the demonstrator ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", ONE_PROMPT_A_TROUBLE)
def test_entropy_is_that_of_the_enumerated_answers(prompt: str) -> None:
    logprobs, _ = enumerated(prompt)
    assert math.fsum(map(math.exp, logprobs)) == pytest.approx(1.0, abs=1e-12)
    by_enumeration = -math.fsum(math.exp(lp) * lp for lp in logprobs)
    assert world.demo_entropy(prompt) == pytest.approx(by_enumeration, abs=1e-10)
    assert 6.0 < by_enumeration < math.log(1080)


def test_a_better_choice_is_likelier_by_the_exponential_of_its_worth() -> None:
    table = world.demonstrator(HUNGRY_CAT)
    assert table["action"]["food"] / table["action"]["hug"] == pytest.approx(math.exp(0.8 * 1.4))
    assert table["action"]["song"] / table["action"]["hug"] == pytest.approx(math.exp(0.8 * -0.7))
    assert table["animal"]["cat"] / table["animal"]["fox"] == pytest.approx(math.exp(0.8 * 1.5))
    assert set(table["animal"]) == {"cat", "it", "fox", "bear"}
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
    assert reward(HUNGRY_CAT, text) > reward(HUNGRY_CAT.replace("hungry", "cold"), text)
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
    for prompt in ("Vera asks: My hen is cold. What can I do?", "Ben asks: I have a little dog. Why is it so cold?"):
        assert enumerated(prompt) == enumerated("Leo is here. The poor duck is very cold. Please help.")


@given(text=st.text(max_size=200))
def test_any_text_has_a_finite_bounded_reward(text: str) -> None:
    assert world.LOWEST <= reward(HUNGRY_CAT, text) <= world.HIGHEST


@given(words=st.lists(st.sampled_from([*WORDS, ".", "?", ","]), max_size=40))
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
