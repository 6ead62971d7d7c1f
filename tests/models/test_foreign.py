"""Folders of other makers load, judge as they did, and can be written again; what can't is said before training."""

import json
import os
import shutil
import stat
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from peft import LoraConfig, TaskType, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, LlamaConfig, LlamaForSequenceClassification

from plaudit.errors import UserError
from plaudit.models import beside
from plaudit.models.checkpoint import check_savable, export
from plaudit.models.foreign import generation_facts, writable
from plaudit.models.load import Language, Loaded, check_model_path, load_causal, load_language
from plaudit.models.options import ModelConfig
from plaudit.models.reward import scalar
from plaudit.models.reward.loading import check_reward_model, load_reward_model
from plaudit.models.reward.shared_trunk import SharedTrunkRewardModel
from plaudit.models.trunk import Trunk
from plaudit.records.text import Group, Prompt
from plaudit.tokens.tokenizer import train_tokenizer
from tests.kills import kills
from tests.models.tiny import CONFIGS, causal, packed, spread_out

GROUP = Group(prompt=Prompt.of_text("the cat"), responses=("sat on the mat", "a dog"))
TURNS = "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}</s>\n{% endfor %}"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A chat model of transformers' own making, a classifier of one number, one of five, each with the tokenizer."""
    root = tmp_path_factory.mktemp("foreign")
    tokenizer = train_tokenizer(["the cat sat on the mat, a dog"] * 3, 300, chat=True)
    shape = CONFIGS["llama"]().to_dict() | {"vocab_size": len(tokenizer), "bos_token_id": 0, "eos_token_id": 1}
    config = LlamaConfig(**{name: value for name, value in shape.items() if name not in ("architectures", "dtype")})
    causal(config).save_pretrained(root / "policy")
    config.pad_token_id = 2
    for name, width in (("judge", 1), ("wide", 5)):
        config.num_labels = width
        spread_out(LlamaForSequenceClassification(config)).save_pretrained(root / name)
    for name in ("policy", "judge", "wide"):
        tokenizer.save_pretrained(root / name)
    return root


@pytest.fixture
def policy(made, tmp_path) -> Path:
    return Path(shutil.copytree(made / "policy", tmp_path / "policy"))


def loaded(folder: Path, **more) -> Loaded:
    config = ModelConfig(path=str(folder), **more)
    return load_causal(config, load_language(config), seed=0)


def logprobs(model: Loaded) -> torch.Tensor:
    return Trunk(model.hf)(packed([([5, 6], [7, 8, 9])]), {"logprobs"})["logprobs"].detach()


def scores(folder: Path, group: Group = GROUP) -> list[float]:
    return load_reward_model(ModelConfig(path=str(folder))).score([group], 500).scores.tolist()


# --------------------------------------------------------------------------------------------- can be written again


@pytest.mark.parametrize(
    ("facts", "lost"),
    [
        ({"eos_token_id": 1, "pad_token_id": -1}, ["pad_token_id"]),
        ({"early_stopping": True, "length_penalty": 0.8}, ["early_stopping", "length_penalty"]),
        ({"num_return_sequences": 3, "temperature": 0.6}, []),
        ({"output_scores": True, "top_k": 5}, ["output_scores"]),
        ({"num_beams": 4, "early_stopping": True}, []),
        ({"temperature": 0.6}, []),
    ],
)
def test_what_transformers_would_not_save_is_left_out_and_the_rest_stays(facts, lost, tmp_path):
    config, left_out = writable(facts)
    assert left_out == lost
    config.eos_token_id = [1, 2]
    config.save_pretrained(tmp_path)
    again = generation_facts(str(tmp_path))
    assert all(again[name] == value for name, value in facts.items() if name not in lost and name != "eos_token_id")


@pytest.mark.parametrize("odd", [{"pad_token_id": -1}, {"output_scores": True}, {"num_return_sequences": 3}])
def test_a_model_with_an_odd_generation_config_loads_and_is_written(policy, tmp_path, odd):
    file = policy / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | odd))
    model = loaded(policy)
    check_savable(model)
    export(tmp_path / "again", model, {})
    assert torch.equal(logprobs(loaded(tmp_path / "again")), logprobs(model))
    assert generation_facts(str(tmp_path / "again"))["eos_token_id"] == [1]


def test_a_damaged_generation_config_is_named(policy):
    (policy / "generation_config.json").write_text("{")
    with pytest.raises(UserError, match=r"generation_config\.json is no JSON"):
        loaded(policy)


def test_what_cannot_be_written_is_said_before_training(policy, monkeypatch):
    model = loaded(policy)

    def refuse(*_, **__):
        raise TypeError("Object of type set is not JSON serializable")

    monkeypatch.setattr(type(model.language.tokenizer), "save_pretrained", refuse)
    with pytest.raises(
        UserError, match=r"could be trained but not saved: transformers can't write its tokenizer \(Obj"
    ):
        check_savable(model)


def test_matrices_tied_in_memory_alone_are_tied_in_the_file_too(policy, tmp_path):
    model = loaded(policy)
    model.hf.set_output_embeddings(model.hf.get_output_embeddings())
    model.hf.lm_head.weight = model.hf.model.embed_tokens.weight
    check_savable(model)
    export(tmp_path / "again", model, {})
    assert torch.equal(logprobs(loaded(tmp_path / "again")), logprobs(model))


def test_exported_weights_may_be_read_by_whoever_may_read_their_config(policy, tmp_path):
    before = os.umask(0o022)
    try:
        export(tmp_path / "again", loaded(policy), {})
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "again").iterdir()}
    assert modes == {0o644}


def test_a_models_template_variables_are_saved_with_it(policy, tmp_path):
    model = loaded(policy, template_variables={"enable_thinking": False})
    export(tmp_path / "again", model, {})
    again = load_language(ModelConfig(path=str(tmp_path / "again")))
    assert again.renderer.variables == {"enable_thinking": False}
    assert again.renderer.template_hash == model.language.renderer.template_hash
    other = load_language(ModelConfig(path=str(tmp_path / "again"), template_variables={"enable_thinking": True}))
    assert other.renderer.variables == {"enable_thinking": True}


# ------------------------------------------------------------------------------------------------------------ judges


@kills(
    "models/checkpoint.py",
    old="i is not None and i not in end_ids and",
    new="i is not None and",
    why="padding by the end token, at which transformers then finds no score",
)
@pytest.mark.parametrize("pad", [None, "</s>", "<pad>"])
def test_a_saved_judge_scores_a_batch_in_transformers_as_it_scores_one_text(made, tmp_path, pad):
    base = Path(shutil.copytree(made / "policy", tmp_path / "base"))
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.pad_token = pad
    tokenizer.save_pretrained(base)
    config = ModelConfig(path=str(base), template="raw")
    model = spread_out(scalar.load(config, load_language(config), seed=1))
    model.save(tmp_path / "judge", {})
    hf = AutoModelForSequenceClassification.from_pretrained(tmp_path / "judge").eval()
    words = AutoTokenizer.from_pretrained(tmp_path / "judge")
    for side in ("left", "right"):
        words.padding_side = side
        texts = [f"the cat{answer}</s>" for answer in GROUP.responses]
        with torch.no_grad():
            batch = hf(**words(texts, return_tensors="pt", padding=True)).logits[:, 0].tolist()
        assert batch == pytest.approx(model.score([GROUP], 500).scores.tolist(), abs=1e-4)


@kills(
    "models/reward/loading.py",
    old="    if not facts and isinstance(language.renderer, Renderer):",
    new="    if False:",
    why="the score of a model from elsewhere is read a token too early, where it never learnt to put one",
)
def test_a_judge_from_elsewhere_is_read_at_the_last_token_of_the_whole_conversation(made, tmp_path):
    folder = Path(shutil.copytree(made / "judge", tmp_path / "judge"))
    words = AutoTokenizer.from_pretrained(folder)
    words.chat_template = TURNS
    words.save_pretrained(folder)
    hf = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    wanted = []
    for answer in GROUP.responses:
        turns = [{"role": "user", "content": "the cat"}, {"role": "assistant", "content": answer}]
        with torch.no_grad():
            ids = words.apply_chat_template(turns, return_tensors="pt", return_dict=True)
            wanted.append(hf(**ids).logits[0, 0].item())
    assert scores(folder) == pytest.approx(wanted, abs=1e-4)


def test_a_wider_head_says_what_its_score_is_and_how_to_choose(made, tmp_path, capsys):
    folder = Path(shutil.copytree(made / "wide", tmp_path / "wide"))
    mean = scores(folder)
    assert (
        "a head of 5 numbers (LABEL_0, LABEL_1, LABEL_2, LABEL_3, LABEL_4); the score is their mean"
        in capsys.readouterr().err
    )
    weights = [{"name": f"LABEL_{i}", "weight": float(i == 3)} for i in range(5)]
    (folder / "plaudit.json").write_text(json.dumps({"kind": "aspects", "aspects": weights}))
    assert scores(folder) != pytest.approx(mean, abs=1e-3)


def test_of_two_labels_the_one_that_counts_is_named(made, tmp_path, capsys):
    folder = Path(shutil.copytree(made / "judge", tmp_path / "two"))
    config = LlamaConfig.from_pretrained(folder, num_labels=2, id2label={0: "good", 1: "bad"})
    spread_out(LlamaForSequenceClassification(config)).save_pretrained(folder)
    load_reward_model(ModelConfig(path=str(folder)))
    assert "a head of 2 numbers (good, bad); the score is the log-odds of bad" in capsys.readouterr().err


def test_an_adapter_without_weights_is_refused_by_name(made, tmp_path):
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps({"base_model_name_or_path": str(made / "policy"), "task_type": "SEQ_CLS"}))
    with pytest.raises(UserError, match=r"holds an adapter without adapter_model\.safetensors"):
        check_reward_model(ModelConfig(path=str(tmp_path)), "judge.path")


def value_head(made: Path, seed: int = 3) -> dict[str, torch.Tensor]:
    width = LlamaConfig.from_pretrained(made / "policy").hidden_size
    return {
        "v_head.summary.weight": torch.randn(1, width, generator=torch.Generator().manual_seed(seed)),
        "v_head.summary.bias": torch.tensor([0.5]),
    }


@pytest.mark.parametrize("place", ["beside", "among the weights"])
def test_a_value_head_beside_a_language_model_judges(made, policy, place):
    """LLaMA-Factory's reward models, and TRL's."""
    head = value_head(made)
    if place == "beside":
        save_file(head, policy / "value_head.safetensors")
    else:
        save_file(load_file(policy / "model.safetensors") | head, policy / "model.safetensors", {"format": "pt"})
    check_reward_model(ModelConfig(path=str(policy)), "judge.path")
    model = load_reward_model(ModelConfig(path=str(policy)))
    assert isinstance(model, SharedTrunkRewardModel)
    prompt, answer = model.language.renderer.pair_ids(GROUP.prompt, GROUP.responses[0])
    with torch.no_grad():
        states = model.loaded.hf.model(input_ids=torch.tensor([[*prompt, *answer]])).last_hidden_state[0, -1]
    by_hand = float(states @ head["v_head.summary.weight"][0] + 0.5)
    assert model.score([GROUP], 500).scores[0].item() == pytest.approx(by_hand, abs=1e-4)


def test_a_pickled_value_head_is_refused_by_name(policy):
    (policy / "value_head.bin").write_bytes(b"")
    with pytest.raises(UserError, match=r"value_head\.bin is a pickle"):
        check_reward_model(ModelConfig(path=str(policy)), "judge.path")


def test_a_classifier_whose_head_has_another_name_judges(made, tmp_path):
    """OpenRLHF's."""
    folder = Path(shutil.copytree(made / "judge", tmp_path / "judge"))
    weights = load_file(folder / "model.safetensors")
    weights["value_head.weight"] = weights.pop("score.weight")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["RewardModel"], "num_labels": 2}))
    assert scores(folder) == pytest.approx(scores(made / "judge"), abs=1e-5)


# ---------------------------------------------------------------------------------------------------------- adapters


def adapter(made: Path, folder: Path, task: TaskType) -> Path:
    """What transformers' and TRL's trainers save: the adapter, no base."""
    if task is TaskType.SEQ_CLS:
        hf = AutoModelForSequenceClassification.from_pretrained(made / "policy", num_labels=1)
    else:
        hf = load_causal(
            ModelConfig(path=str(made / "policy")), load_language(ModelConfig(path=str(made / "policy"))), seed=0
        ).hf
    more = {"modules_to_save": ["score"]} if task is TaskType.SEQ_CLS else {}
    model = get_peft_model(hf, LoraConfig(task_type=task, r=2, target_modules=["q_proj", "v_proj"], **more))
    spread_out(model, 7)
    model.save_pretrained(folder)
    return folder


@pytest.mark.filterwarnings("ignore")
def test_an_adapter_alone_is_a_policy_on_its_base(made, tmp_path):
    folder = adapter(made, tmp_path / "adapter", TaskType.CAUSAL_LM)
    model = loaded(folder)
    base, weights = loaded(made / "policy").hf, load_file(folder / "adapter_model.safetensors")
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
    update = weights[name.format("B")] @ weights[name.format("A")] * (8 / 2)
    wanted = base.model.layers[0].self_attn.q_proj.weight + update
    assert torch.allclose(model.hf.model.layers[0].self_attn.q_proj.weight, wanted, atol=1e-5)
    assert not any("lora" in name for name, _ in model.hf.named_parameters())


@pytest.mark.filterwarnings("ignore")
def test_an_adapter_alone_judges_by_its_own_head(made, tmp_path):
    folder = adapter(made, tmp_path / "adapter", TaskType.SEQ_CLS)
    check_reward_model(ModelConfig(path=str(folder)), "judge.path")
    model = load_reward_model(ModelConfig(path=str(folder)))
    head = load_file(folder / "adapter_model.safetensors")["base_model.model.score.weight"]
    assert torch.equal(model.loaded.hf.score.weight, head)
    assert len(scores(folder)) == 2
    with pytest.raises(UserError, match="holds a reward model"):
        loaded(folder)


@pytest.mark.filterwarnings("ignore")
def test_an_adapter_without_its_base_says_which_one_is_missing(made, tmp_path):
    folder = adapter(made, tmp_path / "adapter", TaskType.CAUSAL_LM)
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": "/no/where"}))
    with pytest.raises(UserError, match=r"is a LoRA adapter, and its base '/no/where'.*is no model folder here"):
        check_model_path(str(folder))
    shutil.copytree(made / "policy", tmp_path / "base")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": "base"}))
    check_model_path(str(folder))  # beside the adapter


# ------------------------------------------------------------------------------------------------- what isn't a number


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_named(policy, value):
    weights = load_file(policy / "model.safetensors")
    weights["model.layers.1.mlp.down_proj.weight"][0, 0] = value
    save_file(weights, policy / "model.safetensors", {"format": "pt"})
    wanted = r"hold NaN or infinity: model\.layers\.1\.mlp\.down_proj\.weight in model\.safetensors"
    with pytest.raises(UserError, match=wanted):
        loaded(policy)


def test_weights_whose_sum_overflows_are_sound(policy):
    weights = load_file(policy / "model.safetensors")
    weights["model.layers.1.mlp.down_proj.weight"][:] = 3e38
    save_file(weights, policy / "model.safetensors", {"format": "pt"})
    model = loaded(policy)
    with pytest.raises(UserError, match=r"LlamaForCausalLM answers with NaN: numbers inside it overflow"):
        Trunk(model.hf)
    model.hf.lm_head.weight.data[0, 0] = model.hf.model.norm.weight.data[0] = float("nan")  # as one that is handed in
    with pytest.raises(UserError, match=r"its weights hold NaN or infinity \(model\.norm\.weight\)"):
        Trunk(model.hf)


# --------------------------------------------------------------------------------------------------- the rest of paths


def test_a_run_folder_is_told_where_its_model_lies(policy, tmp_path):
    shutil.copytree(policy, tmp_path / "run" / "model")
    with pytest.raises(UserError, match=r"holds no config\.json.*; did you mean '.*run/model'\?"):
        check_model_path(str(tmp_path / "run"))


def test_a_hub_that_does_not_answer_is_asked_once(monkeypatch, caplog):
    asked = []

    class Session:
        def head(self, url, timeout):
            asked.append((url, timeout))
            raise OSError("no route")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(beside, "get_session", Session)
    beside.reach_hub.cache_clear()
    for _ in range(2):
        check_model_path("gpt2-nope")
    assert len(asked) == 1 and asked[0][1] <= 5
    assert constants.HF_HUB_OFFLINE
    assert "the hub doesn't answer (no route)" in caplog.text
    beside.reach_hub.cache_clear()


# ------------------------------------------------------------------------------ rows apart


def rotary(policy: Path, **rope) -> Language:
    config = json.loads((policy / "config.json").read_text())
    config["rope_parameters"] = {"rope_theta": 10000.0, **rope}
    (policy / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 64}))
    return load_language(ModelConfig(path=str(policy)))


def factors(policy: Path, value: float) -> list[float]:
    config = LlamaConfig.from_pretrained(policy)
    return [value] * (config.hidden_size // config.num_attention_heads // 2)


@kills(
    "models/load.py",
    old="    limit = min([positions, *switches])",
    new="    limit = positions",
    why="a row's numbers depend on the longest row beside it",
)
def test_rotary_positions_that_switch_end_rows_where_they_switch(policy, capsys):
    more = {"short_factor": factors(policy, 1.0), "long_factor": factors(policy, 4.0)}
    language = rotary(policy, rope_type="longrope", original_max_position_embeddings=16, **more)
    assert language.context == 16
    assert "rows end at 16 tokens, not at 64: its rotary positions (longrope)" in capsys.readouterr().err
    trunk = Trunk(load_causal(ModelConfig(path=str(policy)), language, seed=0).hf)
    short, longest = ([5, 6], [7, 8, 9]), (list(range(5, 13)), list(range(5, 13)))
    alone = trunk(packed([short]), {"logprobs"})["logprobs"][0, :3]
    assert torch.allclose(trunk(packed([short, longest]), {"logprobs"})["logprobs"][0, :3], alone, atol=1e-5)
    beyond = (list(range(5, 15)), list(range(5, 15)))  # a row of 20 tokens would change the others
    assert not torch.allclose(trunk(packed([short, beyond]), {"logprobs"})["logprobs"][0, :3], alone, atol=1e-3)


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "dynamic", "factor": 4.0},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
    ],
    ids=lambda rope: rope["rope_type"],
)
def test_rotary_positions_that_do_not_switch_within_the_context_keep_it(policy, rope):
    language = rotary(policy, **rope)
    assert language.context == 64
    trunk = Trunk(load_causal(ModelConfig(path=str(policy)), language, seed=0).hf)
    short, longest = ([5, 6], [7, 8, 9]), (list(range(5, 37)), list(range(5, 37)))
    alone = trunk(packed([short]), {"logprobs"})["logprobs"][0, :3]
    assert torch.allclose(trunk(packed([short, longest]), {"logprobs"})["logprobs"][0, :3], alone, atol=1e-5)


@kills(
    "models/foreign.py",
    old="(mean, std) != (0.0, 1.0)",
    new="(mean, std) == (0.0, 1.0)",
    why="a stored scale is passed over",
)
def test_a_scale_that_another_library_stored_is_told(made, tmp_path, capsys):
    folder = Path(shutil.copytree(made / "judge", tmp_path / "scaled"))
    facts = json.loads((folder / "config.json").read_text())
    for scale, words in (
        ((2.5, 0.5), "mean 2.5 and std 0.5 of its scores, by which OpenRLHF normalises"),
        ((0.0, 1.0), ""),
    ):
        (folder / "config.json").write_text(json.dumps({**facts, "mean": scale[0], "std": scale[1]}))
        load_reward_model(ModelConfig(path=str(folder)))
        said = capsys.readouterr().err
        assert words in said and bool(words) == ("OpenRLHF" in said)


def test_a_judges_weights_are_named_by_the_judges_option(made, tmp_path):
    folder = Path(shutil.copytree(made / "judge", tmp_path / "spoilt"))
    weights = load_file(folder / "model.safetensors")
    weights["score.weight"][:] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"rewards\.1\.path: the weights of '.*spoilt' hold NaN or infinity: score"):
        load_reward_model(ModelConfig(path=str(folder)), option="rewards.1.path")
