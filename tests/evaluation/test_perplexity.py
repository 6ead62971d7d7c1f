"""Held-out loss: of a uniform model log V, of any model what transformers alone says."""

import math

import pytest
import torch

from plaudit.evaluation.perplexity import Perplexity, perplexity
from plaudit.models.load import load_causal
from plaudit.models.options import ModelConfig
from plaudit.models.trunk import Trunk
from tests.training.tiny import CPU, END, hf, hf_logprobs, language, model_folder

ROWS = [([0, 3, 4], [5, 6, END]), ([0, 9], [END]), ([0, 4, 4, 4, 7], [3, 3, 3, 3, 8, END])]


def trunk_of(folder: str) -> Trunk:
    return Trunk(load_causal(ModelConfig(path=folder), language(folder), seed=0).hf)


def test_a_uniform_model_is_perplexed_by_its_whole_vocabulary(tmp_path):
    measured = perplexity(trunk_of(model_folder(tmp_path / "m", spread=0.0)), ROWS, CPU)
    assert measured.perplexity == pytest.approx(11, rel=1e-5)
    assert measured.nll == pytest.approx([3 * math.log(11), math.log(11), 6 * math.log(11)], rel=1e-5)
    assert measured.num_tokens == 10
    assert measured.nll_over_answers.value == pytest.approx(10 / 3 * math.log(11), rel=1e-5)


@pytest.mark.parametrize("budget", [10**6, 10, 1])
def test_each_answer_has_its_own_sum_however_the_rows_are_cut(tmp_path, budget):
    folder = model_folder(tmp_path / "m", spread=0.5)
    measured = perplexity(trunk_of(folder), ROWS, CPU, budget=budget)
    with torch.no_grad():
        expected = [-hf_logprobs(hf(folder), p, r).sum().item() for p, r in ROWS]
    assert measured.nll == pytest.approx(expected, rel=1e-5)
    assert measured.loss == pytest.approx(sum(expected) / 10, rel=1e-5)
    assert measured.perplexity == pytest.approx(math.exp(sum(expected) / 10), rel=1e-5)


def test_nothing_is_left_to_differentiate(tmp_path):
    trunk = trunk_of(model_folder(tmp_path / "m"))
    perplexity(trunk, ROWS, CPU)
    assert all(p.grad is None for p in trunk.parameters())


def test_the_interval_is_that_of_a_mean_of_answers():
    """1, 2, 3, 6: mean 3, sample variance 14/3, so 3 ± 1.96 · √(14/3) / 2."""
    found = Perplexity(nll=(1.0, 2.0, 3.0, 6.0), num_tokens=9).nll_over_answers
    assert found.value == pytest.approx(3.0)
    assert (found.low + found.high) / 2 == pytest.approx(3.0)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * 2.160247 / 2, rel=1e-5)


def test_one_answer_has_no_interval():
    found = Perplexity(nll=(2.5,), num_tokens=3).nll_over_answers
    assert (found.value, found.low, found.high) == (2.5, None, None)


def test_a_hopeless_loss_is_no_overflow():
    assert math.isfinite(Perplexity(nll=(1e6,), num_tokens=1).perplexity)
