"""J* by listing: every answer's probability asked of transformers alone, the rest of the arithmetic by hand."""

import itertools
import math

import pytest
import torch

from plaudit.errors import UserError
from plaudit.evaluation.optimum import listed_optimum
from plaudit.models.load import load_causal
from plaudit.models.options import ModelConfig
from plaudit.models.trunk import Trunk
from plaudit.records.text import Prompt, PromptRow
from plaudit.scoring.functions import FunctionScorer
from tests.training.tiny import CPU, END, hf, hf_logprobs, ids, language, model_folder

LETTERS = "ab"
WORDS = ["".join(word) for n in range(3) for word in itertools.product(LETTERS, repeat=n)]
ROWS = [PromptRow(prompt=Prompt.of_text(p), columns={"bonus": b}, where=f"p:{b}") for p, b in (("a", 0), ("bb", 2))]


def judge(function) -> FunctionScorer:
    return FunctionScorer(function=function, name="judge")


def count_a(completions, **columns):
    return [float(text.count("a")) for text in completions]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return model_folder(tmp_path_factory.mktemp("optimum") / "m", letters=LETTERS, spread=0.4)


def optimum(folder: str, function=count_a, words=WORDS, **options):
    spoken = language(folder)
    trunk = Trunk(load_causal(ModelConfig(path=folder), spoken, seed=0).hf)
    defaults = {"kl_coef": 0.5, "temperature": 0.7, "max_new_tokens": 3, "machine": CPU}
    return listed_optimum(trunk, spoken, judge(function), ROWS, lambda prompt: words, **{**defaults, **options})


@torch.no_grad()
def by_hand(folder: str, worth, words=WORDS, temperature=0.7, beta=0.5) -> tuple[float, float, float]:
    """(lower bound, renormalised J*, mass), means over the two prompts."""
    model = hf(folder)
    bounds, optima, masses = [], [], []
    for row in ROWS:
        x = [0, *ids(row.prompt.text, LETTERS)]
        p = [hf_logprobs(model, x, [*ids(w, LETTERS), END], temperature).double().sum().exp().item() for w in words]
        tilted = sum(q * math.exp(worth(w, row) / beta) for q, w in zip(p, words, strict=True))
        bounds.append(beta * math.log(tilted))
        optima.append(beta * math.log(tilted / sum(p)))
        masses.append(sum(p))
    return tuple(sum(values) / 2 for values in (bounds, optima, masses))


@pytest.mark.parametrize("budget", [10**6, 5])
def test_the_optimum_is_that_of_the_listed_answers(reference, budget):
    found = optimum(reference, budget=budget)
    bound, best, mass = by_hand(reference, lambda word, _: word.count("a"))
    assert found.lower_bound == pytest.approx(bound, abs=1e-5)
    assert found.optimum.objective == pytest.approx(best, abs=1e-5)
    assert found.optimum.mass == pytest.approx(mass, abs=1e-5)
    assert found.lower_bound < found.optimum.objective
    assert found.optimum.reference < found.optimum.objective


def test_the_temperature_is_the_policys(reference):
    bound, _, _ = by_hand(reference, lambda word, _: word.count("a"), temperature=1.5)
    assert optimum(reference, temperature=1.5).lower_bound == pytest.approx(bound, abs=1e-5)


def test_answers_that_cannot_be_finished_do_not_count(reference):
    """Two letters and the end need three tokens: with two only the shorter answers can be written."""
    short = [word for word in WORDS if len(word) < 2]
    bound, _, _ = by_hand(reference, lambda word, _: word.count("a"), words=short)
    assert optimum(reference, max_new_tokens=2).lower_bound == pytest.approx(bound, abs=1e-5)
    with pytest.raises(UserError, match="p:0: none of its 4 listed answers has at most 2 tokens"):
        optimum(reference, words=["aa", "ab", "ba", "bb"], max_new_tokens=2)


def test_the_judge_sees_the_rows_columns(reference):
    def with_bonus(completions, bonus, **columns):
        return [text.count("a") + b for text, b in zip(completions, bonus, strict=True)]

    bound, _, _ = by_hand(reference, lambda word, row: word.count("a") + row.columns["bonus"])
    assert optimum(reference, with_bonus).lower_bound == pytest.approx(bound, abs=1e-5)


def test_a_judge_that_abstains_leaves_no_optimum(reference):
    with pytest.raises(UserError, match="p:0: the judge abstained on a listed answer"):
        optimum(reference, lambda completions, **columns: [None if text == "ab" else 1.0 for text in completions])
