"""A minibatch is a slice of an iteration's experience, and that a slice is a micro-batch."""

from dataclasses import replace

import torch

from plaudit.records.tensors import Experience
from tests.kills import kills
from tests.training.test_invariance import experience


@kills(
    "records/tensors.py",
    old="width = int(self.response_mask[index].sum(1).max()) if len(rows) else 0",
    new="width = int(self.response_mask[index].sum(1).min()) if len(rows) else 0",
    why="longer responses cut to the shortest of the minibatch",
)
def test_a_slice_holds_its_rows_in_their_order_and_no_more_columns_than_they_need():
    """Responses 3, 4, 0 have 2, 2 and 3 tokens, the longest of all six."""
    whole = experience()
    part = whole[[3, 4, 0]]
    assert len(part) == 3
    assert part.group_ids.tolist() == [3, 4, 0]
    assert part.response_mask.sum(1).tolist() == [2, 2, 3]
    for name, tensor in part.tensors().items():
        full = whole.tensors()[name][[3, 4, 0]]
        is_cut = tensor.ndim == 2 and not name.startswith("prompt")
        assert torch.equal(tensor, full[:, :3] if is_cut else full), name
    assert torch.equal(part[[2]].rewards, whole[[0]].rewards)


def test_nothing_is_a_slice_too():
    part = experience()[[]]
    assert len(part) == 0
    assert part.advantages.shape == (0, 0)


def test_what_a_critic_says_may_be_absent():
    bare = replace(experience(), old_values=None, returns=None)
    assert bare[[1, 2]].old_values is None
    assert {"old_values", "returns"}.isdisjoint(bare.tensors())
    assert torch.equal(Experience(**bare.tensors()).advantages, bare.advantages)
