"""The tiny world: plain English questions and answers whose true reward is known, so that every stage has a ceiling.

docs/tiny-world.md says what it is for. The tables can be read, and summed over every answer.

**The prompts.** Somebody has an animal, and the animal has a trouble: 20 names x 6 animals x 4 troubles x 8 ways of
saying it = 3840 prompts, such as

    Anna asks: My cat is hungry. What can I do?

**The answers.** Three short sentences, made of five choices (`Slots`): an opener (kind, plain or cold), an action,
whom to do it to (the right animal, `it`, or one of two wrong animals), a manner (one of four adverbs, or none), and a
closing (warm, plain or cold): 3 x 6 x 4 x 5 x 3 = 1080 answers to each prompt, 11 to 17 words each:

    Do not worry, Anna. Gently give the cat some fresh food. Soon all will be well.

**The demonstrator** writes the answers that SFT learns from. Given the prompt it makes the five choices independently,
each by a softmax of what the choice is worth times `COMPETENCE`: good choices more often than bad ones, and never
surely. So the entropy of its answers is known: the floor of any model's held-out negative log-likelihood (N1.1).

**The true reward** of any text is the sum of a few terms that `reward_terms` names one by one. Help counts only if it
is done to the animal that needs it, and not roughly: those are the terms that no sum over single choices can express.
A sentence that isn't one of this world's costs, and so does a missing, repeated or misplaced one.

**The labeller** (`labeller` of `plaudit collect`, noise 1) adds Gumbel noise of scale 1 to each true reward and sorts.
Its rankings are Plackett-Luce (N3.4), and each pair in them is Bradley-Terry: P(i before j) = sigmoid(r_i - r_j)
(N3.1). The best reward model agrees with a labelled pair with probability max(P, 1 - P): the ceiling of its accuracy.

**The optimum** of KL-regularised policy search (N4.2) over answers that can be listed is known in closed form:
pi*(y|x) is proportional to pi_ref(y|x) exp(r(x,y) / beta), with J* = beta log E_ref exp(r / beta).

A worked example:

    >>> prompt = "Anna asks: My cat is hungry. What can I do?"
    >>> good = "Do not worry, Anna. Gently give the cat some fresh food. Soon all will be well."
    >>> reward_terms(prompt, good)
    {'opener': 0.4, 'action': 1.4, 'animal': 0.6, 'manner': 0.2, 'closing': 0.4}
    >>> round(true_reward([prompt], [good])[0], 3)
    3.0
    >>> rough = "Do not worry, Anna. Roughly give the cat some fresh food. Soon all will be well."
    >>> reward_terms(prompt, rough)
    {'opener': 0.4, 'action': 1.4, 'animal': 0.6, 'manner': -0.8, 'closing': 0.4, 'spoiled': -1.4}
    >>> round(true_reward([prompt], [rough])[0], 3)
    0.6
    >>> round(pair_probability(3.0, 0.6), 3)  # how often the labeller puts the gentle answer first
    0.917
    >>> len(answers(prompt)), round(demo_entropy(prompt), 3)  # how many answers; nats per answer
    (1080, 6.499)
"""

from __future__ import annotations

import itertools
import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from plaudit.errors import UserError

# --- the words -------------------------------------------------------------------------------------------------------

NAMES = (
    "Anna", "Ben", "Clara", "David", "Emma", "Fred", "Grace", "Henry", "Ida", "Jack",
    "Kate", "Leo", "Mary", "Nick", "Olga", "Paul", "Rosa", "Sam", "Tom", "Vera",
)  # fmt: skip

ANIMALS = ("cat", "dog", "horse", "cow", "hen", "duck")

WILD = ("fox", "bear")
"""Whom a careless answer helps instead of the animal that was asked about."""

TROUBLES = ("hungry", "dirty", "cold", "sad")

PHRASINGS = (
    "{name} asks: My {animal} is {trouble}. What can I do?",
    "{name} says: Please help me. The {animal} looks {trouble} today.",
    "{name} asks: I have a little {animal}. Why is it so {trouble}?",
    "{name} is here. The poor {animal} is very {trouble}. Please help.",
    "{name} asks: What is good for a {trouble} {animal}?",
    "{name} says: I met a {trouble} {animal} on the road. Help me, please.",
    "{name} asks: How can I help my {animal}? It is so {trouble}.",
    "{name} has a {trouble} {animal} at home. What is there to do?",
)

OPENERS = {"kind": "Do not worry, {name}.", "plain": "Let me think.", "cold": "Why ask me?"}

ACTIONS = {
    "food": "give {animal} some fresh food",
    "water": "bring {animal} a bowl of water",
    "bath": "wash {animal} in a warm bath",
    "blanket": "wrap {animal} in a thick blanket",
    "song": "sing {animal} a happy song",
    "hug": "hold {animal} close to you",
}

MANNERS = ("", "gently", "quickly", "quietly", "roughly")

CLOSINGS = {"warm": "Soon all will be well.", "plain": "Come and tell me more.", "cold": "Now go away."}

# --- what things are worth, in units of the labeller's noise ---------------------------------------------------------

TONE = {"kind": 0.4, "warm": 0.4, "plain": 0.0, "cold": -0.7}
"""Worth of an opener or a closing."""

CURE, RELIEF, USELESS, HARM = 1.4, 0.7, 0.0, -0.7

ACTION_FIT: Mapping[str, Mapping[str, float]] = {
    "hungry": {"food": CURE, "water": RELIEF, "bath": HARM, "song": HARM},
    "dirty": {"bath": CURE, "water": RELIEF, "food": HARM, "blanket": HARM},
    "cold": {"blanket": CURE, "hug": RELIEF, "water": HARM, "bath": HARM},
    "sad": {"song": CURE, "hug": RELIEF, "bath": HARM, "water": HARM},
}
"""What each action does for each trouble; an action that isn't listed is of no use."""

RIGHT_ANIMAL, IT, WRONG_ANIMAL = 0.6, 0.0, -0.9

GENTLE, TIMELY, HASTY, ROUGH = 0.2, 0.5, -0.5, -0.8

MANNER_FIT: Mapping[str, Mapping[str, float]] = {
    "hungry": {"quickly": TIMELY},
    "dirty": {},
    "cold": {"quickly": TIMELY},
    "sad": {"quickly": HASTY, "quietly": TIMELY},
}
"""What haste and quiet do for each trouble, where they do anything."""

WRONG_NAME = -0.5
"""Worth of a kind opener that speaks to somebody else."""
MISSING = {"opener": -1.0, "advice": -3.0, "closing": -1.0}
EXTRA = -1.0
"""Each sentence beyond the first opener, advice and closing: a repetition, or nothing of this world."""
MISPLACED = -0.5
LOWEST, HIGHEST = -6.0, 3.3
"""Bounds of the true reward: nothing counts below LOWEST, and no text is worth more than HIGHEST."""


_PARTS = ("opener", "advice", "closing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What a prompt says: `phrasing` is an index into PHRASINGS."""

    name: str
    animal: str
    trouble: str
    phrasing: int

    @property
    def prompt(self) -> str:
        return PHRASINGS[self.phrasing].format(name=self.name, animal=self.animal, trouble=self.trouble)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slots:
    """The five choices that make an answer; `animal` is the word said, one of ANIMALS, WILD or "it"."""

    opener: str
    action: str
    animal: str
    manner: str
    closing: str


Question = str | Sequence[Mapping[str, str]]
"""A prompt as people write it: a string that contains one of this world's prompts, or messages with role and content.
The last question of the last message of the user counts."""


# --- prompts and answers ---------------------------------------------------------------------------------------------


def _prompt_pattern() -> re.Pattern[str]:
    either = {"name": "|".join(NAMES), "animal": "|".join(ANIMALS), "trouble": "|".join(TROUBLES)}
    ways = []
    for i, phrasing in enumerate(PHRASINGS):
        way = re.escape(phrasing)
        for slot, words in either.items():
            way = way.replace(re.escape("{" + slot + "}"), f"(?P<{slot}{i}>{words})")
        ways.append(way)
    return re.compile("|".join(ways))


_PROMPT = _prompt_pattern()


def read_prompt(prompt: Question) -> Case:
    """The case that a prompt asks about. UserError for a text without a prompt of this world."""
    text = _last_text(prompt, role="user")
    matches = list(_PROMPT.finditer(text))
    if not matches:
        raise UserError(
            f"not a prompt of the tiny world: {text[:80]!r}. plaudit.data.tinyworld only knows the rewards of its own "
            f"prompts, such as {all_prompts()[0]!r}; give another reward function for other data."
        )
    words = matches[-1].groupdict()
    phrasing = next(number for number in range(len(PHRASINGS)) if words[f"name{number}"])
    slots = {slot: words[f"{slot}{phrasing}"] for slot in ("name", "animal", "trouble")}
    return Case(**slots, phrasing=phrasing)


@lru_cache(maxsize=1)
def all_prompts() -> tuple[str, ...]:
    """Every prompt of the world (3840), in a fixed order, all different."""
    cases = itertools.product(NAMES, ANIMALS, TROUBLES, range(len(PHRASINGS)))
    return tuple(Case(name=n, animal=a, trouble=t, phrasing=i).prompt for n, a, t, i in cases)


def choices(case: Case) -> dict[str, tuple[str, ...]]:
    """What each slot of an answer to `case` may be, in the order in which answers are listed."""
    return {
        "opener": tuple(OPENERS),
        "action": tuple(ACTIONS),
        "animal": (case.animal, "it", *WILD),
        "manner": MANNERS,
        "closing": tuple(CLOSINGS),
    }


def all_slots(case: Case) -> list[Slots]:
    """Every slot assignment of an answer to `case` (1080)."""
    options = choices(case)
    return [Slots(**dict(zip(options, picked, strict=True))) for picked in itertools.product(*options.values())]


def render(case: Case, slots: Slots) -> str:
    """The answer's text."""
    middle = advice(slots.action, slots.animal, slots.manner)
    return f"{OPENERS[slots.opener].format(name=case.name)} {middle} {CLOSINGS[slots.closing]}"


def advice(action: str, animal: str, manner: str) -> str:
    """The middle sentence of an answer; `animal` is one of ANIMALS, WILD or "it", `manner` may be empty."""
    whom = animal if animal == "it" else f"the {animal}"
    words = f"{manner} {ACTIONS[action].format(animal=whom)}.".strip()
    return words[0].upper() + words[1:]


def answers(prompt: Question) -> list[str]:
    """Every answer that the demonstrator could write to `prompt` (1080, all different), in the order of `all_slots`."""
    case = read_prompt(prompt)
    return [render(case, slots) for slots in all_slots(case)]


def parse(prompt: Question, text: str) -> Slots | None:
    """The only slots that render to `text` (white space around it aside), or None if no answer to `prompt` does."""
    case = read_prompt(prompt)
    text = text.strip()
    first: dict[str, tuple[str, ...]] = {}
    for part, content in map(_understand, _sentences(text)):
        first.setdefault(part, content)
    if set(first) != set(_PARTS):
        return None
    action, animal, manner = first["advice"]
    slots = Slots(opener=first["opener"][0], action=action, animal=animal, manner=manner, closing=first["closing"][0])
    in_grammar = animal in choices(case)["animal"]
    return slots if in_grammar and render(case, slots) == text else None


# --- the true reward -------------------------------------------------------------------------------------------------


def worth(case: Case, slot: str, choice: str) -> float:
    """What one choice is worth by itself, whatever the other choices are."""
    if slot in ("opener", "closing"):
        return TONE[choice]
    if slot == "action":
        return ACTION_FIT[case.trouble].get(choice, USELESS)
    if slot == "animal":
        return {case.animal: RIGHT_ANIMAL, "it": IT}.get(choice, WRONG_ANIMAL)
    return {"gently": GENTLE, "roughly": ROUGH, **MANNER_FIT[case.trouble]}.get(choice, 0.0)


def _sentences(text: str) -> list[str]:
    return [s for s in re.split(r"(?<=[.!?])\s+", text.strip()) if s]


def _bare(sentence: str) -> str:
    """The words alone: case, punctuation and spacing don't change what a sentence says."""
    return " ".join(re.findall(r"[\w']+", sentence.lower()))


@lru_cache(maxsize=1)
def _known_sentences() -> dict[str, tuple[str, tuple[str, ...]]]:
    """The words of each sentence of this world -> (part, what it says)."""
    known: dict[str, tuple[str, tuple[str, ...]]] = {}
    for tone, sentence in OPENERS.items():
        for name in NAMES:
            known[_bare(sentence.format(name=name))] = ("opener", (tone, name))
    for action, animal, manner in itertools.product(ACTIONS, (*ANIMALS, *WILD, "it"), MANNERS):
        known[_bare(advice(action, animal, manner))] = ("advice", (action, animal, manner))
    for tone, sentence in CLOSINGS.items():
        known[_bare(sentence)] = ("closing", (tone,))
    return known


def _understand(sentence: str) -> tuple[str, tuple[str, ...]]:
    return _known_sentences().get(_bare(sentence), ("nonsense", ()))


def reward_terms(prompt: Question, text: str) -> dict[str, float]:
    """Why a text is worth what it is worth: named terms whose sum, not below LOWEST, is the true reward.

    The first opener, advice and closing are judged. `spoiled` takes back the good of an action that is done roughly
    or to the wrong animal; its harm stays. `missing <part>`, `extra` and `misplaced` judge the form of any text.
    """
    case = read_prompt(prompt)
    understood = [_understand(sentence) for sentence in _sentences(text)]
    first: dict[str, tuple[str, ...]] = {}
    for part, content in understood:
        if part in _PARTS:
            first.setdefault(part, content)
    terms: dict[str, float] = {}
    if "opener" in first:
        tone, name = first["opener"]
        terms["opener"] = WRONG_NAME if tone == "kind" and name != case.name else worth(case, "opener", tone)
    if "advice" in first:
        words = zip(("action", "animal", "manner"), first["advice"], strict=True)
        terms |= {slot: worth(case, slot, word) for slot, word in words}
    if "closing" in first:
        terms["closing"] = worth(case, "closing", first["closing"][0])
    if "advice" in first and terms["action"] > 0 and (terms["animal"] < 0 or terms["manner"] == ROUGH):
        terms["spoiled"] = -terms["action"]
    terms |= {f"missing {part}": MISSING[part] for part in _PARTS if part not in first}
    if extra := len(understood) - len(first):
        terms["extra"] = EXTRA * extra
    if list(first) != [part for part in _PARTS if part in first]:
        terms["misplaced"] = MISPLACED
    return terms


def true_reward(prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float]:
    """The true reward of each completion, between LOWEST and HIGHEST, in the ecosystem's form of a reward function.

    Give it as `plaudit.data.tinyworld:true_reward`. Prompts and completions are strings or message lists; further
    columns are ignored. UserError for a prompt that isn't of this world.
    """
    texts = [_last_text(text, role="assistant") for text in completions]
    terms = [reward_terms(prompt, text) for prompt, text in zip(prompts, texts, strict=True)]
    return [max(LOWEST, math.fsum(worths.values())) for worths in terms]


def _last_text(value: Any, *, role: str) -> str:
    """A string itself; of messages, the content of the last one of `role` (of the last one, if there is none)."""
    if isinstance(value, str):
        return value
    if not value:
        return ""
    contents = [message["content"] for message in value if message["role"] == role]
    return contents[-1] if contents else value[-1]["content"]


# --- the demonstrator and the labeller -------------------------------------------------------------------------------

COMPETENCE = 0.8
"""The demonstrator's inverse temperature, per unit of worth: 0 picks at random, infinity picks the best."""


def demonstrator(prompt: Question, competence: float = COMPETENCE) -> dict[str, dict[str, float]]:
    """The demonstrator's probability of each choice of each slot; the slots are independent given the prompt."""
    case = read_prompt(prompt)
    table: dict[str, dict[str, float]] = {}
    for slot, options in choices(case).items():
        weights = [math.exp(competence * worth(case, slot, option)) for option in options]
        table[slot] = {option: weight / sum(weights) for option, weight in zip(options, weights, strict=True)}
    return table


def demonstrate(prompt: Question, rng: random.Random, competence: float = COMPETENCE) -> str:
    """One answer of the demonstrator."""
    table = demonstrator(prompt, competence)
    picked = {slot: rng.choices(list(p), weights=list(p.values()))[0] for slot, p in table.items()}
    return render(read_prompt(prompt), Slots(**picked))


def demo_logprob(prompt: Question, text: str) -> float:
    """The demonstrator's log-probability of a whole answer, in nats; -inf for what it never writes."""
    slots = parse(prompt, text)
    if slots is None:
        return -math.inf
    return math.fsum(math.log(p[getattr(slots, slot)]) for slot, p in demonstrator(prompt).items())


def demo_entropy(prompt: Question) -> float:
    """Entropy of the demonstrator's answer to `prompt`, in nats per answer: no model's expected negative
    log-likelihood of a demonstration (its end included) is below this (N1.1)."""
    return -math.fsum(p * math.log(p) for table in demonstrator(prompt).values() for p in table.values())


def pair_probability(reward_i: float, reward_j: float) -> float:
    """How often the labeller puts i before j: sigmoid(r_i - r_j), whatever else it ranks with them (N3.1)."""
    difference = reward_i - reward_j
    if difference >= 0:
        return 1.0 / (1.0 + math.exp(-difference))
    return math.exp(difference) / (1.0 + math.exp(difference))
