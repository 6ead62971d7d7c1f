"""The packed line by hand: where rows begin, which output predicts which token, what is padding."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plaudit.tokens.batches import by_token_budget, pack, pad_left, pad_right, unpad

IDS = st.lists(st.integers(1, 99), max_size=6)
PROMPT = st.lists(st.integers(1, 99), min_size=1, max_size=6)
ROWS = st.lists(st.tuples(PROMPT, IDS), min_size=1, max_size=6)


def test_three_rows_by_hand():
    batch = pack([[10, 11, 12], [20], [30, 31]], [[13, 14], [21, 22, 23], []])
    #                    position: 0   1   2   3   4 |  5   6   7   8 |  9  10
    assert batch.ids.tolist() == [10, 11, 12, 13, 14, 20, 21, 22, 23, 30, 31]
    assert batch.position_ids.tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 0, 1]
    assert batch.response_ids.tolist() == [[13, 14, 0], [21, 22, 23], [0, 0, 0]]
    assert batch.response_mask.tolist() == [[True, True, False], [True, True, True], [False, False, False]]
    # Token 13 stands at 3 and is predicted by the output at 2; 21 stands at 6, behind its prompt of one token at 5.
    assert batch.predict_index.tolist() == [[2, 3, 0], [5, 6, 7], [0, 0, 0]]
    assert batch.last_index.tolist() == [4, 8, 10]
    assert batch.lengths == (5, 4, 2)
    assert (batch.prompt_lengths, batch.response_lengths) == ((3, 1, 2), (2, 3, 0))
    assert (batch.num_rows, batch.num_tokens) == (3, 11)


def test_a_last_row_of_one_token():
    batch = pack([[1, 2], [3]], [[4], []])
    assert batch.last_index.tolist() == [2, 3]
    assert batch.predict_index.tolist() == [[1], [0]]
    assert batch.response_mask.tolist() == [[True], [False]]


def test_only_empty_responses():
    batch = pack([[1, 2], [3]], [[], []])
    assert batch.response_mask.shape == batch.predict_index.shape == batch.response_ids.shape == (2, 0)
    assert batch.last_index.tolist() == [1, 2]


@given(ROWS)
def test_each_response_token_stands_right_behind_the_output_that_predicts_it(rows):
    batch = pack([p for p, _ in rows], [r for _, r in rows])
    assert batch.ids.tolist() == [token for p, r in rows for token in (*p, *r)]
    begin = 0
    for i, (prompt, response) in enumerate(rows):
        assert batch.response_mask[i].sum() == len(response)
        for j, token in enumerate(response):
            at = int(batch.predict_index[i, j])
            assert at == begin + len(prompt) - 1 + j
            assert batch.position_ids[at] == len(prompt) - 1 + j
            assert batch.ids[at + 1] == batch.response_ids[i, j] == token
            assert batch.response_mask[i, j]
        begin += len(prompt) + len(response)
        assert batch.last_index[i] == begin - 1
    assert not batch.response_ids[~batch.response_mask].any()


def test_dtypes_and_moving():
    batch = pack([[1]], [[2]])
    moved = batch.to("cpu")
    for name in ("ids", "position_ids", "response_ids", "predict_index", "last_index"):
        assert getattr(moved, name).dtype == torch.long
        assert torch.equal(getattr(moved, name), getattr(batch, name))
    assert moved.response_mask.dtype == torch.bool
    assert moved.lengths == (2,)


@pytest.mark.parametrize(
    ("prompts", "responses", "message"),
    [
        ([], [], "at least one row"),
        ([[1]], [[2], [3]], "1 prompts but 2 responses"),
        ([[1], []], [[2], [3]], "row 1: the prompt has no token"),
    ],
)
def test_what_is_no_batch(prompts, responses, message):
    with pytest.raises(ValueError, match=message):
        pack(prompts, responses)


def test_padding_by_hand():
    ids, mask = pad_left([[1, 2, 3], [4], []], pad=9)
    assert ids.tolist() == [[1, 2, 3], [9, 9, 4], [9, 9, 9]]
    assert mask.tolist() == [[True, True, True], [False, False, True], [False, False, False]]
    ids, mask = pad_right([[1, 2, 3], [4], []], pad=9)
    assert ids.tolist() == [[1, 2, 3], [4, 9, 9], [9, 9, 9]]
    assert mask.tolist() == [[True, True, True], [True, False, False], [False, False, False]]


@pytest.mark.parametrize("pad", [pad_left, pad_right])
def test_no_rows_and_empty_rows_keep_their_types(pad):
    for rows, shape in (([], (0, 0)), ([[], []], (2, 0))):
        ids, mask = pad(rows)
        assert (tuple(ids.shape), tuple(mask.shape)) == (shape, shape)
        assert (ids.dtype, mask.dtype) == (torch.long, torch.bool)


@given(st.lists(IDS, max_size=5))
def test_unpad_is_the_inverse_of_both_even_where_padding_looks_like_a_token(rows):
    for pad in (pad_left, pad_right):
        assert unpad(*pad(rows, pad=7)) == rows


@given(st.lists(st.integers(1, 30), max_size=20), st.integers(1, 40))
def test_a_budget_cuts_in_order_as_late_as_it_can(lengths, budget):
    cuts = by_token_budget(lengths, budget)
    assert list(itertools.chain(*cuts)) == list(range(len(lengths)))
    totals = [sum(lengths[i] for i in cut) for cut in cuts]
    assert all(total <= budget or len(cut) == 1 for total, cut in zip(totals, cuts, strict=True))
    for (total, _), following in itertools.pairwise(zip(totals, cuts, strict=True)):
        assert total + lengths[following[1][0]] > budget


def test_a_budget_by_hand():
    assert by_token_budget([3, 3, 3, 9, 1], 6) == [[0, 1], [2], [3], [4]]
    assert by_token_budget([], 6) == []
