"""The scalar reward model: the last token's score, whatever stands beside it, and the same in transformers."""

import dataclasses
import json

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from plaudit.errors import UserError
from plaudit.models.load import Language, load_causal, load_language
from plaudit.models.options import LoRA, ModelConfig, TinyShape
from plaudit.models.reward import scalar
from plaudit.models.reward.loading import load_reward_model
from plaudit.models.reward.normalisation import Normalisation
from plaudit.models.reward.reader import encoded
from plaudit.models.reward.scalar import ScalarRewardModel
from plaudit.records.text import Form, Group, Message, Prompt
from tests.models.tiny import CONFIGS, ROWS, causal, gradients, spread_out

TINY = ModelConfig(path="tiny", tiny=TinyShape(hidden_size=16, layers=2, heads=4, vocabulary=280, context=64))
PROMPTS = [Prompt.of_text(text) for text in ("the cat", "a", "the mat sat on the cat and the cat sat", "the cat")]
RESPONSES = ["sat on the mat", "", "on", "sat"]


@pytest.fixture(scope="module")
def language() -> Language:
    return load_language(TINY, ["the cat sat on the mat"] * 3)


@pytest.fixture
def model(language) -> ScalarRewardModel:
    reward = scalar.load(TINY, language, seed=3)
    spread_out(reward.reader.trunk.hf)
    reward.normalisation = Normalisation(bias=0.75)
    return reward


READ = [(prompt, [response]) for prompt, response in ROWS]


def score_texts(model: ScalarRewardModel, prompts: list[Prompt], responses: list[str], budget: int) -> torch.Tensor:
    groups = [Group(prompt=p, responses=(r,)) for p, r in zip(prompts, responses, strict=True)]
    return model.score(groups, budget).scores


def encode(model: ScalarRewardModel, prompt: Prompt, response: str) -> tuple[list[int], list[int]]:
    (row,) = encoded(model.language, [Group(prompt=prompt, responses=(response,))])
    return row


def score(model: ScalarRewardModel, *rows: int, budget: int = 10_000) -> list[float]:
    return score_texts(model, [PROMPTS[i] for i in rows], [RESPONSES[i] for i in rows], budget).tolist()


def raw_by_transformers(folder, rows: list[list[int]]) -> list[float]:
    hf = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        return [float(hf(input_ids=torch.tensor([row])).logits) for row in rows]


# ---------------------------------------------------------------------------------------------------- scores


def test_a_score_is_the_head_at_the_end_token_less_the_bias(model):
    prompt, response = encode(model, PROMPTS[0], RESPONSES[0])
    assert prompt[0] == model.language.renderer.bos
    assert response[-1] == model.language.end_ids[0]
    hf = model.reader.trunk.hf
    with torch.no_grad():
        hidden = hf.model(input_ids=torch.tensor([[*prompt, *response]])).last_hidden_state[0, -1]
        by_hand = float(hidden @ hf.score.weight[0]) - 0.75
    assert score(model, 0) == pytest.approx([by_hand], abs=1e-5)


@pytest.mark.parametrize("budget", [1, 12, 25, 10_000])
def test_a_row_scores_the_same_alone_in_any_batch_and_any_order(model, budget):
    alone = [score(model, i)[0] for i in range(4)]
    assert len({round(x, 3) for x in alone}) == 4
    assert score(model, 0, 1, 2, 3, budget=budget) == pytest.approx(alone, abs=1e-5)
    assert score(model, 3, 1, 0, 2, budget=budget) == pytest.approx([alone[i] for i in (3, 1, 0, 2)], abs=1e-5)
    assert score(model, 2, 2, 0, budget=budget) == pytest.approx([alone[2], alone[2], alone[0]], abs=1e-5)


def test_no_texts_have_no_scores(model):
    assert score_texts(model, [], [], 100).shape == (0,)


def test_the_prompt_counts(model):
    """The response alone would score the same under every prompt."""
    one, two = (float(score_texts(model, [p], ["sat"], 100)) for p in (PROMPTS[0], PROMPTS[1]))
    assert abs(one - two) > 1e-3


def test_the_normalisation_is_of_scores_and_not_of_what_training_sees(model):
    with torch.no_grad():
        raw = model(READ)
        model.normalisation = Normalisation(bias=-2.0, gain=3.0, clip=1.0)
        torch.testing.assert_close(model(READ), raw)
    model(READ).sum().backward()
    # Every row's end adds its hidden state to the head's gradient: zero only by a mask that dropped them.
    assert gradients(model)["reader.trunk.hf.score.weight"].abs().sum() > 0.1


def test_a_normalised_score_is_the_raw_one_shifted_scaled_and_clipped(model):
    model.normalisation = Normalisation()
    raw = score(model, 0, 1, 2, 3)
    model.normalisation = Normalisation(bias=raw[0] - 0.1, gain=2.0, clip=0.5)
    wanted = [min(max(2.0 * (x - raw[0] + 0.1), -0.5), 0.5) for x in raw]
    assert score(model, 0, 1, 2, 3) == pytest.approx(wanted, abs=1e-6)
    assert wanted[0] == pytest.approx(0.2) and 0.5 in map(abs, wanted)


def test_scoring_texts_makes_no_graph(model):
    assert not score_texts(model, PROMPTS[:1], RESPONSES[:1], 100).requires_grad


def test_a_conversation_goes_through_this_models_own_template(language, model):
    talk = Prompt(form=Form.CHAT, turns=(Message(role="user", content="the cat"),))
    with pytest.raises(UserError, match="no chat template"):
        score_texts(model, [talk], ["sat"], 100)


# ---------------------------------------------------------------------------------------------------- truncation


def test_a_long_row_loses_the_prompts_beginning_but_keeps_its_bos(language, model, monkeypatch):
    short = dataclasses.replace(language, context=10)
    model.loaded = dataclasses.replace(model.loaded, language=short)
    prompt, response = Prompt.of_text("abcdefghijklmno"), "xy"
    prompt_ids, response_ids = encode(model, prompt, response)
    assert len(response_ids) == 3
    kept = [prompt_ids[0], *prompt_ids[-6:]]
    with torch.no_grad():
        by_hand = float(model([(kept, [response_ids])])) - 0.75
    assert score_texts(model, [prompt], [response], 100).tolist() == pytest.approx([by_hand], abs=1e-5)
    same = Prompt.of_text("zzzzzzzzz" + "jklmno")
    assert score_texts(model, [same], [response], 100).tolist() == pytest.approx([by_hand], abs=1e-5)


def test_a_response_longer_than_the_context_is_cut_at_its_end(language, model):
    model.loaded = dataclasses.replace(model.loaded, language=dataclasses.replace(language, context=8))
    one, two = score_texts(model, [PROMPTS[0]] * 2, ["abcdefghijk", "abcdefgzzzz"], 100).tolist()
    assert one == pytest.approx(two, abs=1e-6)


# ---------------------------------------------------------------------------------------------------- files


def test_a_saved_model_loads_again_with_equal_scores(language, model, tmp_path):
    model.save(tmp_path, {"data": "fingerprint"})
    config = ModelConfig(path=str(tmp_path))
    again = load_reward_model(config)
    assert score(again, 0, 1, 2, 3) == score(model, 0, 1, 2, 3)
    facts = json.loads((tmp_path / "plaudit.json").read_text(encoding="utf-8"))
    assert (facts["kind"], facts["normalisation"]["bias"], facts["data"]) == ("scalar", 0.75, "fingerprint")


def test_transformers_alone_gives_the_raw_score(language, model, tmp_path):
    model.save(tmp_path, {})
    rows = [[*p, *r] for p, r in (encode(model, PROMPTS[i], RESPONSES[i]) for i in range(4))]
    raw = raw_by_transformers(tmp_path, rows)
    assert raw == pytest.approx([x + 0.75 for x in score(model, 0, 1, 2, 3)], abs=1e-5)
    hf = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    padded = load_language(ModelConfig(path=str(tmp_path))).tokenizer.pad({"input_ids": rows}, return_tensors="pt")
    with torch.no_grad():
        assert hf(**padded).logits.flatten().tolist() == pytest.approx(raw, abs=1e-5)


def test_transformers_gives_it_too_where_padding_is_the_end_token(language, tmp_path):
    """As GPT-2's and many base models' tokenizers have it: the end token must not be skipped as padding."""
    config = CONFIGS["llama"]()
    config.vocab_size, config.pad_token_id, config.eos_token_id = 280, 1, 1
    causal(config).save_pretrained(tmp_path / "base")
    language.tokenizer.save_pretrained(tmp_path / "base")
    path = tmp_path / "base" / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8")) | {"pad_token": language.tokenizer.eos_token}
    path.write_text(json.dumps(settings), encoding="utf-8")
    base = ModelConfig(path=str(tmp_path / "base"))
    reward = scalar.load(base, load_language(base), seed=3)
    reward.save(tmp_path / "reward", {})
    rows = [[*p, *r] for p, r in (encode(reward, PROMPTS[i], RESPONSES[i]) for i in range(4))]
    ours = score(reward, 0, 1, 2, 3)
    assert raw_by_transformers(tmp_path / "reward", rows) == pytest.approx(ours, abs=1e-5)


def test_adapters_are_merged_and_the_head_is_kept(language, tmp_path):
    config = CONFIGS["llama"]()
    config.vocab_size = 280
    causal(config).save_pretrained(tmp_path / "base")
    language.tokenizer.save_pretrained(tmp_path / "base")
    base = ModelConfig(path=str(tmp_path / "base"), train=LoRA(rank=2))
    reward = scalar.load(base, load_language(base), seed=3)
    optimizer = torch.optim.SGD([p for p in reward.parameters() if p.requires_grad], lr=0.05)
    first = score(reward, 0, 1)
    for _ in range(2):
        reward(READ).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    trained = score(reward, 0, 1)
    assert trained != pytest.approx(first, abs=1e-3)
    reward.save(tmp_path / "reward", {})
    again = ModelConfig(path=str(tmp_path / "reward"))
    assert score(scalar.load(again, load_language(again)), 0, 1) == pytest.approx(trained, abs=1e-5)
    assert not list((tmp_path / "reward").glob("adapter*"))


def test_it_starts_from_a_language_models_blocks(language, tmp_path):
    policy = load_causal(TINY, language, seed=8)
    policy.hf.save_pretrained(tmp_path)
    language.tokenizer.save_pretrained(tmp_path)
    reward = scalar.load(ModelConfig(path=str(tmp_path)), language, seed=1)
    assert reward.normalisation == Normalisation()
    blocks = reward.reader.trunk.hf.model.state_dict()
    assert all(torch.equal(x, blocks[name]) for name, x in policy.hf.model.state_dict().items())
    assert "score.weight" in {name for name, p in reward.reader.trunk.hf.named_parameters() if p.requires_grad}


def test_the_head_is_counted_once(model):
    """It hangs on the transformers model and on the trunk: twice in the optimiser would be two steps."""
    names = [name for name, p in model.named_parameters() if p is model.reader.trunk.score_head.weight]
    assert len(names) == 1


def test_a_damaged_bias_is_no_zero(language, model, tmp_path):
    model.save(tmp_path, {})
    (tmp_path / "plaudit.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match="no JSON"):
        load_reward_model(ModelConfig(path=str(tmp_path)))
