"""Reward models on every family of decoders: transformers' own scores, alone, batched, and back from a folder (N3)."""

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from plaudit.models.load import Language, load_language
from plaudit.models.options import ModelConfig, TinyShape
from plaudit.models.reward import aspects, scalar, two_class
from plaudit.models.reward.aspects import Aspect
from plaudit.models.reward.loading import load_reward_model
from plaudit.models.reward.reader import encoded
from plaudit.records.text import Group, Prompt
from tests.models.tiny import CONFIGS, causal, spread_out

FAMILIES = ("llama gqa", "qwen2", "qwen3", "gpt2", "gemma", "gemma2", "mistral window")
KINDS = ("scalar", "two_class", "aspects")
GROUPS = [
    Group(prompt=Prompt.of_text("the cat"), responses=("sat on the mat", "", "sat")),
    Group(prompt=Prompt.of_text("the mat sat on the cat"), responses=("on", "mat mat")),
]


@pytest.fixture(scope="module")
def language() -> Language:
    tiny = ModelConfig(path="tiny", tiny=TinyShape(vocabulary=280, context=64))
    return load_language(tiny, ["the cat sat on the mat"] * 3)


@pytest.fixture
def folder(tmp_path, language, request) -> str:
    """A language model of the family, as a foreign trainer leaves it."""
    config = CONFIGS[request.param]()
    config.vocab_size = len(language.tokenizer) + 8  # Qwen's tokenizer class adds a token of its own
    config.pad_token_id, config.bos_token_id = language.tokenizer.pad_token_id, language.tokenizer.bos_token_id
    config.eos_token_id = language.tokenizer.eos_token_id
    causal(config).save_pretrained(tmp_path / "base")
    language.tokenizer.save_pretrained(tmp_path / "base")
    return str(tmp_path / "base")


def new(kind: str, folder: str):
    config = ModelConfig(path=folder)
    own = load_language(config)
    if kind == "aspects":
        three = (Aspect(name="kind"), Aspect(name="clear", weight=-2.0), Aspect(name="true", weight=0.5))
        model = aspects.new(config, own, three, seed=1)
    else:
        model = {"scalar": scalar, "two_class": two_class}[kind].load(config, own, seed=1)
    spread_out(model.reader.trunk.score_head, seed=2)
    return model


def by_transformers(folder, model) -> torch.Tensor:
    """One row at a time, without any of plaudit."""
    hf = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    rows = [[*p, *r] for p, r in encoded(model.language, GROUPS)]
    with torch.no_grad():
        return torch.cat([hf(input_ids=torch.tensor([row]), use_cache=False).logits for row in rows])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("folder", FAMILIES, indirect=True)
def test_scores_are_transformers_own_and_survive_a_folder(tmp_path, folder, kind):
    model = new(kind, folder)
    model.save(tmp_path / "reward", {})
    said = by_transformers(tmp_path / "reward", model)
    wanted = {
        "scalar": said[:, 0],
        "two_class": said[:, -1] - said[:, 0],
        "aspects": said @ torch.tensor([1.0, -2.0, 0.5])[: said.shape[1]] if kind == "aspects" else None,
    }[kind]
    for judge in (model, load_reward_model(ModelConfig(path=str(tmp_path / "reward")))):
        for budget in (1, 20, 10_000):
            torch.testing.assert_close(judge.score(GROUPS, budget).scores, wanted, atol=1e-4, rtol=1e-4)
    assert wanted.std() > 0.05


@pytest.mark.parametrize("folder", FAMILIES, indirect=True)
def test_a_rankings_gradient_reaches_the_backbone(folder):
    """The head alone would leave the blocks as they were."""
    model = new("scalar", folder)
    renderer = model.language.renderer
    prompt = renderer.prompt_ids(GROUPS[0].prompt)
    answers = [renderer.response_ids(text, end=True) for text in GROUPS[0].responses]
    model([(prompt, answers)]).square().sum().backward()
    blocks = [p for name, p in model.named_parameters() if "score" not in name and p.grad is not None]
    assert sum(float(p.grad.abs().sum()) for p in blocks) > 1e-3
