"""Answers that share a prompt: one pass over it, and nothing else changes (N3.3)."""

import pytest
import torch
from transformers import GPT2Config, GPT2ForSequenceClassification, LlamaConfig, LlamaForSequenceClassification

from plaudit.formulas.preference_losses import kwise
from plaudit.models.trunk import Trunk
from plaudit.tokens.batches import pack, pack_shared

PROMPTS = [[1, 5, 6], [1, 7, 8, 9, 10], [1, 4]]
ANSWERS = [[[11, 12], [13], [14, 15, 16, 17]], [[18, 2]], [[], [19, 20], [21, 22, 23], [21, 22, 24]]]


def llama(kv_heads: int) -> Trunk:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=kv_heads, max_position_embeddings=32, num_labels=1, pad_token_id=0, initializer_range=0.3,
    )  # fmt: skip
    hf = LlamaForSequenceClassification(config)
    return Trunk(hf, score_head=hf.score)


def gpt2() -> Trunk:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=32, n_embd=16, n_layer=2, n_head=4, n_positions=32, num_labels=1, pad_token_id=0,
        initializer_range=0.3,
    )  # fmt: skip
    hf = GPT2ForSequenceClassification(config)
    return Trunk(hf, score_head=hf.score)


def flat():
    rows = [(p, a) for p, answers in zip(PROMPTS, ANSWERS, strict=True) for a in answers]
    return pack([p for p, _ in rows], [a for _, a in rows])


def shared():
    return pack_shared(list(zip(PROMPTS, ANSWERS, strict=True)))


def test_layout_by_hand():
    batch = pack_shared([([1, 2], [[3, 4], [], [5]]), ([6], [[7]])])
    assert batch.ids.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert batch.position_ids.tolist() == [0, 1, 2, 3, 2, 0, 1]
    assert batch.segments == ((2, -1), (2, 0), (0, 0), (1, 0), (2, -1))
    assert batch.response_ids.tolist() == [[3, 4], [0, 0], [5, 0], [7, 0]]
    assert batch.predict_index[batch.response_mask].tolist() == [1, 2, 1, 5]
    assert batch.last_index.tolist() == [3, 1, 4, 6]


def test_a_prompt_runs_once():
    assert shared().num_tokens == sum(map(len, PROMPTS)) + sum(len(a) for answers in ANSWERS for a in answers)
    assert shared().lengths == flat().lengths


def test_unshared_is_the_flat_batch():
    one, other = shared().unshared(), flat()
    for name in ("ids", "position_ids", "response_ids", "response_mask", "predict_index", "last_index"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name


@pytest.mark.parametrize(
    ("make", "dtype", "tolerance"),
    [
        (gpt2, torch.float64, 1e-9),
        (lambda: llama(4), torch.float64, 1e-7),  # Llama's norms work in fp32 whatever the dtype
        (lambda: llama(2), torch.float64, 1e-7),
        (gpt2, torch.float32, 1e-5),
        (lambda: llama(4), torch.float32, 1e-5),
        (lambda: llama(2), torch.float32, 1e-5),
    ],
)
def test_scores_and_gradient_are_those_of_whole_sequences(make, dtype, tolerance):
    trunk = make().to(dtype)
    assert trunk.layout == "packed"
    ranks = torch.tensor([1, 2, 3, 1, 4, 2, 2, 1])
    owner = torch.tensor([0, 0, 0, 1, 2, 2, 2, 2])
    found = []
    for batch in (flat(), shared()):
        trunk.zero_grad()
        scores = trunk(batch, {"scores"})["scores"]
        kwise(scores, ranks, owner)[0].backward()
        found.append((scores.detach(), torch.cat([p.grad.flatten() for p in trunk.parameters() if p.grad is not None])))
    assert torch.allclose(found[0][0], found[1][0], atol=1e-5)
    assert float((found[0][1] - found[1][1]).norm() / found[0][1].norm()) < tolerance


def test_an_answer_sees_neither_its_siblings_nor_the_next_prompt():
    trunk = llama(4)
    before = trunk(shared(), {"scores"})["scores"].detach()
    changed = [[*ANSWERS[0][:2], [25, 26, 27, 28]], [[29, 2]], ANSWERS[2]]
    after = trunk(pack_shared(list(zip(PROMPTS, changed, strict=True))), {"scores"})["scores"].detach()
    same = [0, 1, 4, 5, 6, 7]
    assert torch.allclose(before[same], after[same], atol=1e-6)
    assert not torch.allclose(before[[2, 3]], after[[2, 3]], atol=1e-4)


def test_a_model_that_cannot_branch_runs_whole_rows():
    trunk = llama(4)
    expected = trunk(shared(), {"scores"})["scores"].detach()
    trunk.layout = "padded"
    assert torch.allclose(trunk(shared(), {"scores"})["scores"].detach(), expected, atol=1e-5)
