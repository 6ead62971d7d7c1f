"""The tiny world's running text, to pre-train models on: little stories, and a few questions with answers.

In a story somebody has an animal, the animal has a trouble, somebody does something about it, and it helps or not. Now
and then a prompt of the world stands in one, and nobody answers it: what follows a question is mostly just more text.

    It is a cold day. Anna has a cat. The cat is hungry. Anna asks: My cat is hungry. What can I do? Ben looks at the
    road. Ben wants to gently give the cat some fresh food. Now the cat is happy. Anna goes home.

The other documents are questions, each with an answer on the next line and an empty line behind it. All answers of a
document are one writer's, who knows as much as a demonstrator, half as much, or nothing (`WRITERS`): a model that has
seen a few can tell what sort of answer comes next. Without such documents few-shot prompting could find nothing.
"""

import math
import random
from collections.abc import Sequence

from plaudit.data.tinyworld import (
    ACTION_FIT,
    ACTIONS,
    ANIMALS,
    COMPETENCE,
    CURE,
    MANNERS,
    NAMES,
    PHRASINGS,
    RELIEF,
    TROUBLES,
    USELESS,
    WILD,
    Case,
    demonstrate,
)

WRITERS = (0.0, COMPETENCE / 2, COMPETENCE)
"""Competence of those who write questions and answers, per unit of worth; each as often as the others."""
QUESTIONS = (3, 6)
"""Fewest and most questions in a document."""

_SCENES = (
    "It is a cold day.",
    "It rains.",
    "The sun is warm.",
    "It is late.",
    "Snow lies on the road.",
    "It is early.",
)
_MEETINGS = ("{other} lives near {name}.", "{other} comes along the road.", "{other} and {name} are good friends.")
_AFTER_QUESTION = (
    "{other} looks at the road.",
    "Nobody knows.",
    "{other} thinks for a long time.",
    "It is very quiet.",
)
_SIGHTS = (
    "A {wild} runs across the road.",
    "The {animal} sleeps.",
    "{other} sings a happy song.",
    "{name} drinks some water.",
)
_ENDS = ("{name} goes home.", "Soon it will be night.", "They laugh.", "{other} says: Come again.", "That was the day.")
_OUTCOMES = {CURE: "Now the {animal} is happy.", RELIEF: "That is a little better.", USELESS: "Nothing is different."}
_HARMED = "Now the {animal} is unhappy."


def texts(count: int, questions: Sequence[str], answered_share: float, rng: random.Random) -> list[str]:
    """So many documents; `answered_share` of them are questions out of `questions` with their answers."""
    written = round(count * answered_share)
    documents = [_answers(questions, rng) for _ in range(written)] + [
        _story(questions, rng) for _ in range(count - written)
    ]
    rng.shuffle(documents)
    return documents


def _answers(questions: Sequence[str], rng: random.Random) -> str:
    competence = rng.choice(WRITERS)
    chosen = rng.sample(list(questions), rng.randint(*QUESTIONS))
    return "\n\n".join(f"{prompt}\n{demonstrate(prompt, rng, competence)}" for prompt in chosen)


def _story(questions: Sequence[str], rng: random.Random) -> str:
    name, other = rng.sample(NAMES, 2)
    animal, trouble, wild = rng.choice(ANIMALS), rng.choice(TROUBLES), rng.choice(WILD)
    action = rng.choices(list(ACTIONS), [math.exp(ACTION_FIT[trouble].get(a, USELESS)) for a in ACTIONS])[0]
    fit = ACTION_FIT[trouble].get(action, USELESS)
    manner = rng.choice(MANNERS)
    does = ACTIONS[action].format(animal=rng.choice(("it", f"the {animal}")))
    sentences = [
        *rng.sample(_SCENES, rng.randint(0, 1)),
        f"{name} has {rng.choice(('a', 'a little', 'a poor'))} {animal}.",
        rng.choice(("The {animal} is {trouble}.", "It looks {trouble} today.")),
        rng.choice(_MEETINGS),
    ]
    if rng.random() < 0.5:
        sentences += [_question(name, animal, trouble, questions, rng), rng.choice(_AFTER_QUESTION)]
    sentences += rng.sample(_SIGHTS, rng.randint(0, 2))
    sentences += [f"{{other}} wants to {f'{manner} ' if manner else ''}{does}.", _OUTCOMES.get(fit, _HARMED)]
    sentences += rng.sample(_ENDS, rng.randint(1, 2))
    return " ".join(sentences).format(name=name, other=other, animal=animal, trouble=trouble, wild=wild)


def _question(name: str, animal: str, trouble: str, questions: Sequence[str], rng: random.Random) -> str:
    """About this story, in one of the world's phrasings; any other one where that is held out."""
    own = Case(name=name, animal=animal, trouble=trouble, phrasing=rng.randrange(len(PHRASINGS))).prompt
    return own if own in questions else rng.choice(list(questions))
