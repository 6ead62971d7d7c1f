"""Floors by hand numbers: one block of 2 heads of width 2 and one pair of keys and values, 144 weights."""

import pytest

from benchmarks import flops
from benchmarks.shapes import SHAPES, Shape

ONE = Shape(name="one", hidden=4, intermediate=8, layers=1, heads=2, kv_heads=1, vocabulary=10)


def test_weights_of_a_block():
    assert ONE.block_parameters == 4 * 4 + 2 * 4 * 2 + 4 * 4 + 3 * 4 * 8 == 144
    assert ONE.parameters == 144 + 40
    assert SHAPES["S"].parameters == 4_980_736


def test_blocks_count_each_token_and_what_it_attends_to():
    # Three tokens: 2·3·144 in matrices; 1 + 2 + 3 = 6 pairs, twice 2·6·4 for scores and weighted values.
    assert flops.blocks(ONE, [3]) == 864 + 96
    assert flops.blocks(ONE, [3, 3]) == 2 * flops.blocks(ONE, [3])


def test_sampling_runs_every_token_but_the_last_and_gives_logits_for_each():
    assert flops.output(ONE, 2) == 2 * 2 * 4 * 10
    assert flops.sampling(ONE, [2], [2]) == 960 + 160
    # Two answers: the prompt of two tokens, 2·2·144 + 48, runs once.
    assert flops.sampling_groups(ONE, [2], [[2, 2]]) == 2 * 1120 - 624


@pytest.mark.parametrize(("critic", "score", "update"), [("shared", 2784, 8832), ("separate", 4096, 16704)])
def test_an_iteration_of_ppo(critic, score, update):
    # Blocks of four tokens are 1152 + 160, logits of two 160; update: 2 epochs × 3 forwards.
    needed = flops.ppo_iteration(ONE, [2], [2], epochs=2, critic=critic)
    assert needed == {"sample": 1120, "score": score, "update": update}


def test_fine_tuning_is_three_forwards():
    assert flops.fine_tuning(ONE, [4], 2) == 3 * (1312 + 160)


def test_a_ranking_runs_its_prompt_once():
    # Four tokens; pairs: 3 in the prompt, 2 + 1 for each answer of one token.
    assert flops.reward_training(ONE, [2], [[1, 1]]) == 3 * (4 * 2 * 144 + 4 * 9 * 4)
    assert flops.reward_training(ONE, [2], [[2]]) == 3 * flops.blocks(ONE, [4])
    assert flops.ranking_gain(4, 64, 64) == pytest.approx(12 * 128 / 320)
