"""The last block's feed-forward layer computes what is read, and nobody notices."""

import pytest
import torch

from plaudit.models.last_block import feed_forward
from plaudit.models.load import checkpoint_activations
from plaudit.models.trunk import Trunk
from tests.kills import kills
from tests.models.tiny import CONFIGS, PADDED, ROWS, build, gradients, linear, packed, relative_difference

READ = {
    ("logprobs", "values"): [4, 5, 6, 8, 9, *range(21, 28), 30, 35, 36, 37],  # where a response's token is predicted
    ("scores",): [7, 10, 12, 28, 31, 38],  # a row's last token
    ("prompt_hidden",): [4, 8, 12, 21, 30, 35],
    ("last_hidden", "prompt_hidden"): [4, 7, 8, 10, 12, 21, 28, 30, 31, 35, 38],
    ("token_scores",): [5, 6, 7, 9, 10, *range(22, 29), 31, 36, 37, 38],
}


def trunk_of(name: str) -> Trunk:
    return Trunk(build(name), value_head=linear(16, seed=5), score_head=linear(16, seed=6))


@kills(
    "models/trunk.py",
    old="[read.get(name, index) for name in want]",
    new="[index for name in want]",
    why="scores are read where nothing was computed",
)
@kills(
    "models/last_block.py",
    old="new_zeros(1, num_tokens, output.shape[-1]).index_copy(1, positions, chosen)",
    new="new_zeros(1, num_tokens, output.shape[-1]).index_copy(1, positions.flip(0), chosen)",
    why="outputs of other positions",
)
@pytest.mark.parametrize("name", [name for name in CONFIGS if name not in PADDED])
def test_values_and_gradients_are_those_of_the_whole_block(name):
    trunk = trunk_of(name)
    assert trunk.cuts
    for want in READ:
        seen = []
        for trunk.cuts in (True, False):
            trunk.zero_grad()
            out = trunk(packed(), want)
            sum((out[one] * torch.arange(out[one].numel()).view_as(out[one])).sum() for one in want).backward()
            seen.append((out, gradients(trunk)))
        (cut, its), (whole, other) = seen
        for one in want:
            torch.testing.assert_close(cut[one], whole[one], atol=1e-5, rtol=1e-5)
        assert relative_difference(its, other) < 1e-5


@pytest.mark.parametrize("want", READ)
def test_only_what_is_read_is_computed(want):
    trunk, seen = trunk_of("qwen2"), []
    marked = torch.arange(39.0).reshape(1, 39, 1).expand(-1, -1, 16)
    layer = feed_forward(trunk.inner)
    layer.register_forward_pre_hook(lambda *_: (marked,))  # this one comes first
    layer.gate_proj.register_forward_pre_hook(lambda _, args: seen.append(args[0][0, :, 0].tolist()))
    trunk(packed(ROWS), want)
    assert seen == [READ[want]]


def test_a_block_that_runs_again_in_the_backward_pass_is_whole():
    trunk = trunk_of("llama")
    checkpoint_activations(trunk.hf)
    assert feed_forward(trunk.inner) is None
