"""A model by its hub name has the files of plaudit's own too. Out of a cache, since there is no hub here."""

import json
from pathlib import Path

import pytest
from huggingface_hub import constants

from plaudit.errors import UserError
from plaudit.models.beside import file_beside
from plaudit.models.load import load_language
from plaudit.models.options import ModelConfig
from plaudit.models.reward import pair, scalar
from plaudit.models.reward.loading import check_reward_model, load_reward_model
from plaudit.models.reward.normalisation import Normalisation
from plaudit.records.text import Group, Prompt
from tests.kills import kills
from tests.models import zoo
from tests.models.tiny import spread_out

GROUP = Group(prompt=Prompt.of_text("the cat"), responses=("a dog", "red house"))


def reward_models(cache: Path) -> dict[str, list[float]]:
    """A scalar, one with a pooled head, and a pair model, as they lie in the hub's cache; what each says from there."""
    said = {}
    bert = zoo.save(cache.parent / "bert", "bert")
    for name, pooling in (("scalar", "auto"), ("pooled", "mean"), ("pair", "auto")):
        config = ModelConfig(path=bert, pooling=pooling)
        kind = pair if name == "pair" else scalar
        model = spread_out(kind.load(config, load_language(config), seed=1))
        if name != "pair":
            model.normalisation = Normalisation(bias=5.0, gain=2.0)
        place = cache / f"models--me--{name}"
        model.save(place / "snapshots" / "abc", {})
        (place / "refs").mkdir()
        (place / "refs" / "main").write_text("abc")
        said[f"me/{name}"] = load_reward_model(ModelConfig(path=str(place / "snapshots" / "abc"))).score([GROUP], 500)
    return {name: scores.scores.tolist() for name, scores in said.items()}


@kills(
    "models/beside.py",
    old="fetched = None if looks_local(path) else _fetched(str(path), name)",
    new="found = None",
    why="a hub model without its bias, gain and kind",
)
def test_a_reward_model_says_by_its_hub_name_what_it_says_from_its_folder(tmp_path, monkeypatch):
    said = reward_models(tmp_path / "hub")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for name, scores in said.items():
        told = load_reward_model(ModelConfig(path=name)).score([GROUP], 500).scores.tolist()
        assert told == pytest.approx(scores, abs=1e-5)


def test_a_local_file_is_where_it_is_whether_or_not_it_is_there(tmp_path):
    assert file_beside(str(tmp_path), "plaudit.json") == tmp_path / "plaudit.json"
    assert file_beside(tmp_path / "gone", "x") == tmp_path / "gone" / "x"


def test_a_hub_that_cannot_be_asked_is_said(capsys):
    assert not file_beside("nobody/nothing-of-that-name", "plaudit.json").is_file()
    assert "nobody/nothing-of-that-name: can't ask the hub for plaudit.json" in capsys.readouterr().err


REMOTE = """
from torch import nn
from transformers import LlamaConfig, LlamaForSequenceClassification, LlamaModel, LlamaPreTrainedModel
class OwnConfig(LlamaConfig):
    model_type = "their-own"
class Own(LlamaForSequenceClassification):
    config_class = OwnConfig
    def __init__(self, config):
        LlamaPreTrainedModel.__init__(self, config)
        self.num_labels, self.model = config.num_labels, LlamaModel(config)
        self.score = nn.Linear(config.hidden_size, config.num_labels, bias=False)
        self.post_init()
"""


def test_code_that_comes_with_a_judge_runs_where_it_is_trusted_and_nowhere_else(tmp_path):
    from tests.training.tiny import model_folder

    config = ModelConfig(path=model_folder(tmp_path / "m"))
    model = spread_out(scalar.load(config, load_language(config), seed=1))
    folder = tmp_path / "theirs"
    model.save(folder, {})
    said = model.score([GROUP], 500).scores.tolist()
    (folder / "plaudit.json").unlink()
    (folder / "own.py").write_text(REMOTE)
    facts = json.loads((folder / "config.json").read_text())
    own = {"AutoConfig": "own.OwnConfig", "AutoModelForSequenceClassification": "own.Own"}
    facts |= {"model_type": "their-own", "auto_map": own}
    (folder / "config.json").write_text(json.dumps(facts))
    with pytest.raises(UserError, match=r"(?s)^rewards\.0\.path: .*trust_remote_code"):
        check_reward_model(ModelConfig(path=str(folder)), "rewards.0.path")
    trusted = ModelConfig(path=str(folder), trust_remote_code=True)
    check_reward_model(trusted, "rewards.0.path")
    assert load_reward_model(trusted).score([GROUP], 500).scores.tolist() == pytest.approx(said, abs=1e-5)
