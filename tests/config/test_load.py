"""What a config file and the command line may say, and what they are told when they are wrong."""

from dataclasses import FrozenInstanceError, dataclass, replace
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.config.load import config_changes, describe, dump_yaml, load_config, to_plain
from plaudit.data.options import DataConfig
from plaudit.errors import UserError
from plaudit.models.options import ModelConfig
from plaudit.training.options import SFTConfig
from plaudit.training.policy.config import PPOConfig
from tests.config.schema import Config, Data, Optim, Separate, Shared
from tests.kills import kills

MINIMAL = {"seed": 1, "data": [{"path": "a.jsonl"}]}


def load(text: str, folder: Path, *overrides: str) -> Config:
    path = folder / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(Config, path, overrides)


def refusal(source: object, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load_config(Config, source, overrides)
    return str(caught.value)


# ---- values


def test_defaults_then_file_then_command_line(tmp_path: Path) -> None:
    text = "seed: 3\ndata: [{path: a}]\noptim: {peak: 2e-4}\nname: file\n"
    config = load(text, tmp_path, "--name", "line")
    assert (config.seed, config.optim.peak, config.optim.betas) == (3, 2e-4, (0.9, 0.95))
    assert config.name == "line"
    assert config.steps == 10


def test_a_float_without_a_dot_is_a_float_and_not_a_string(tmp_path: Path) -> None:
    for written in ("1e-5", "1E-5", "1.0e-5", "0.00001", "'1e-5'", "+1e-5"):
        peak = load(f"seed: 1\ndata: a\noptim: {{peak: {written}}}\n", tmp_path).optim.peak
        assert type(peak) is float and peak == 1e-05, written


def test_whole_floats_are_integers_and_others_are_refused() -> None:
    assert load_config(Config, MINIMAL | {"steps": 1e3}).steps == 1000
    assert load_config(Config, MINIMAL, ["--steps", "1_000"]).steps == 1000
    assert "steps: expected whole number, got 2.5" in refusal(MINIMAL | {"steps": 2.5})
    assert "--steps: expected whole number, got '2.5'" in refusal(MINIMAL, "--steps", "2.5")


@pytest.mark.parametrize("value", [True, "three", None, [1], {"a": 1}, float("nan"), float("inf")])
def test_what_is_no_integer_is_refused(value: object) -> None:
    assert "steps: expected whole number" in refusal(MINIMAL | {"steps": value})


@pytest.mark.parametrize("value", [True, "much", None, [0.1], float("nan")])
def test_what_is_no_number_is_refused(value: object) -> None:
    assert "optim.peak: expected number" in refusal(MINIMAL | {"optim": {"peak": value}})


@pytest.mark.parametrize("written", ["007", "no", "1e5", "0x10", "2024-01-01", "1:30", "true", "null", "[a", "{a: b}"])
def test_text_stays_text_on_the_command_line(written: str) -> None:
    assert load_config(Config, MINIMAL, ["--name", written]).name == written


@pytest.mark.parametrize("written", ["007", "no", "1e5", "0x10", "2024-01-01", "1:30", "true", "on"])
def test_text_stays_text_in_the_file(written: str, tmp_path: Path) -> None:
    assert load(f"seed: 1\ndata: a\nname: {written}\n", tmp_path).name == written


@kills(
    "config/read.py",
    old='kind(_REFERENCE.sub("\\ue000\\\\1\\ue001", text))',
    new="kind(text)",
    why="a reference without quotes is no YAML inside braces",
)
@pytest.mark.parametrize(
    "text", ["name: ${sft}/model", "{name: ${sft}/model, seed: 1, data: a}", "name: '${sft}/model'"]
)
def test_a_reference_needs_no_quotes(text: str, tmp_path: Path) -> None:
    """YAML itself ends a plain word at a brace inside `{…}`."""
    text = text if text.startswith("{") else f"seed: 1\ndata: a\n{text}  # ${{why}}\n"
    assert load(text, tmp_path).name == "${sft}/model"
    assert load_config(Config, MINIMAL, ["--name", "$${sft}"]).name == "$${sft}"


def test_an_empty_value_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"run\.yaml:3: name: expected text, got nothing"):
        load("seed: 1\ndata: a\nname:\n", tmp_path)
    assert load_config(Config, MINIMAL, ["--name="]).name == ""


@pytest.mark.parametrize(
    ("written", "meant"),
    [("true", True), ("True", True), ("yes", True), ("on", True), ("1", True), ("false", False), ("no", False)],
)
def test_bools(written: str, meant: bool, tmp_path: Path) -> None:
    assert load(f"seed: 1\ndata: a\nverbose: {written}\n", tmp_path).verbose is meant
    assert load_config(Config, MINIMAL, ["--verbose", written]).verbose is meant


def test_flags() -> None:
    assert load_config(Config, MINIMAL, ["--verbose"]).verbose is True
    assert load_config(Config, MINIMAL | {"verbose": True}, ["--no-verbose"]).verbose is False
    assert load_config(Config, MINIMAL, ["--verbose", "--name", "x"]).name == "x"
    assert "expected true | false, got '2'" in refusal(MINIMAL, "--verbose", "2")
    assert "--no-verbose: takes no value" in refusal(MINIMAL, "--no-verbose=1")


def test_optional_choice_and_dict() -> None:
    config = load_config(Config, MINIMAL, ["--max-len", "7", "--device", "cpu", "--mix.b", "2", "--mix.a=1"])
    assert (config.max_len, config.device) == (7, "cpu")
    assert config.mix == {"a": 1.0, "b": 2.0}
    assert load_config(Config, MINIMAL | {"max_len": 7}, ["--max_len", "null"]).max_len is None
    assert "'gpu' is none of: auto, cpu" in refusal(MINIMAL, "--device", "gpu")


def test_a_negative_number_is_a_value_and_not_an_option() -> None:
    assert load_config(Config, MINIMAL, ["--seed", "-3"]).seed == -3


# ---- lists


def test_a_bare_value_is_a_list_of_one() -> None:
    assert load_config(Config, MINIMAL, ["--stop", "END"]).stop == ("END",)
    assert load_config(Config, MINIMAL, ["--stop", "[a, 007]"]).stop == ("a", "007")
    assert load_config(Config, MINIMAL | {"stop": ["x"]}, ["--stop", "[]"]).stop == ()
    assert load_config(Config, {"seed": 1, "data": "a.jsonl"}).data == (Data(path="a.jsonl"),)
    assert load_config(Config, {"seed": 1, "data": ["a", {"path": "b", "weight": 2}]}).data == (
        Data(path="a"),
        Data(path="b", weight=2.0),
    )


def test_a_word_or_a_list() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Adapters:
        target: Literal["all-linear"] | tuple[str, ...] = "all-linear"

    for written, meant in (("all-linear", "all-linear"), ("q_proj", ("q_proj",)), ("[q, v]", ("q", "v"))):
        config = load_config(Adapters, None, ["--target", written])
        assert config.target == meant
        assert load_config(Adapters, to_plain(config)) == config
    with pytest.raises(UserError, match="target: expected"):
        load_config(Adapters, {"target": None})


def test_items_by_index_keep_the_rest_of_the_file() -> None:
    file = {"seed": 1, "data": [{"path": "a", "kind": "text"}, {"path": "b"}]}
    config = load_config(
        Config, file, ["--data.0.path", "x", "--data.1.kind=y", "--data.2", "z", "--data.0.weight", "3"]
    )
    assert config.data == (Data(path="x", kind="text", weight=3.0), Data(path="b", kind="y"), Data(path="z"))


def test_items_by_index_edit_the_default() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Listed:
        data: tuple[Data, ...] = (Data(path="a", kind="text"), Data(path="b"))
        stop: tuple[str, ...] = ("x", "y")

    config = load_config(Listed, None, ["--data.1.weight", "5", "--stop.0", "z"])
    assert config == Listed(data=(Data(path="a", kind="text"), Data(path="b", weight=5.0)), stop=("z", "y"))


def test_wrong_indices_and_lengths() -> None:
    assert "--data.5.path: data has 1 items; the next one is data.1" in refusal(MINIMAL, "--data.5.path", "x")
    assert "say which item, as in --data.0.path" in refusal(MINIMAL, "--data.path", "x")
    assert "optim.betas: needs 2 values, got 3" in refusal(MINIMAL | {"optim": {"betas": [1, 2, 3]}})
    assert "data.1.weight: expected number" in refusal(MINIMAL | {"data": ["a", {"path": "b", "weight": "w"}]})


# ---- alternatives


def test_alternatives_are_told_apart_by_kind() -> None:
    assert load_config(Config, MINIMAL | {"critic": {"kind": "separate", "width": 8}}).critic == Separate(width=8)
    assert load_config(Config, MINIMAL | {"critic": "separate"}).critic == Separate()
    assert load_config(Config, MINIMAL, ["--critic", "separate", "--critic.width", "8"]).critic == Separate(width=8)


@kills(
    "config/build.py",
    old="old = getattr(default, name) if type(default) is cls else default_of(cls, name)",
    new="old = default_of(cls, name)",
    why="what a field's own default says is forgotten as soon as one option of the group is written",
)
def test_the_default_alternative_fills_what_is_left_open() -> None:
    assert load_config(Config, MINIMAL).critic == Shared(head="mlp")
    assert load_config(Config, MINIMAL | {"critic": {"kind": "shared"}}).critic == Shared(head="mlp")
    assert load_config(Config, MINIMAL, ["--critic.head", "linear"]).critic == Shared(head="linear")


@kills(
    "config/build.py",
    old="return arm_of_kind(tp, kind_of(base)) is not arm_of_kind(tp, kind_of(over))",
    new="return False",
    why="another kind on the command line keeps the options of the file's kind",
)
def test_another_kind_on_the_command_line_drops_the_files_keys() -> None:
    file = MINIMAL | {"critic": {"kind": "shared", "head": "linear"}}
    assert load_config(Config, file, ["--critic.width", "9", "--critic.kind", "separate"]).critic == Separate(width=9)
    assert load_config(Config, file, ["--critic.kind", "shared"]).critic == Shared(head="linear")


def test_a_field_called_kind_is_not_a_tag_where_there_are_no_alternatives() -> None:
    file = {"seed": 1, "data": [{"path": "a", "kind": "text", "weight": 2}]}
    assert load_config(Config, file, ["--data.0.kind", "prompt"]).data == (Data(path="a", kind="prompt", weight=2.0),)


def test_an_option_without_effect_is_refused() -> None:
    told = refusal(MINIMAL | {"critic": {"kind": "shared", "width": 8}})
    assert "critic.width: has no effect with kind 'shared'; it belongs to kind 'separate'" in told


def test_wrong_kind_and_wrong_choice_list_what_there_is() -> None:
    told = refusal(MINIMAL | {"critic": {"kind": "shard"}})
    assert "critic.kind: 'shard' is none of: shared, separate; did you mean 'shared'?" in told
    assert "--critic.head: 'mpl' is none of: linear, mlp; did you mean 'mlp'?" in refusal(
        MINIMAL, "--critic.head", "mpl"
    )


def test_missing_kind_without_a_default() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Bare:
        critic: Shared | Separate

    with pytest.raises(UserError, match=r"critic\.kind: missing; choose from: shared, separate"):
        load_config(Bare, {"critic": {"width": 3}})


def test_optional_group() -> None:
    assert load_config(Config, MINIMAL, ["--eval-on.path", "e"]).eval_on == Data(path="e")
    assert load_config(Config, MINIMAL | {"eval_on": {"path": "e"}}, ["--eval_on", "null"]).eval_on is None
    assert load_config(Config, MINIMAL, ["--eval_on", "e"]).eval_on == Data(path="e")


# ---- mistakes


def test_unknown_keys_name_path_line_and_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        load("seed: 1\ndata:\n- path: a\n  wieght: 2\noptim:\n\n  paek: 1\nzzz: 1\n", tmp_path)
    told = str(caught.value)
    assert "run.yaml: 3 problems" in told
    assert "run.yaml:4: data.0.wieght: unknown key; did you mean 'weight'?" in told
    assert "run.yaml:7: optim.paek: unknown key; did you mean 'peak'?" in told
    assert "run.yaml:8: zzz: unknown key; known: seed, data," in told


def test_unknown_options_are_named_as_written() -> None:
    assert "--optim.paek: unknown key; did you mean 'peak'?" in refusal(MINIMAL, "--optim.paek", "3")
    assert "--vebrose: unknown key; did you mean 'verbose'?" in refusal(MINIMAL, "--vebrose")
    assert "'stray': not an option" in refusal(MINIMAL, "stray")
    assert "--seed: needs a value" in refusal(MINIMAL, "--seed")
    assert "--seed: needs a value" in refusal(MINIMAL, "--seed", "--name", "x")


def test_missing_keys_are_named_together() -> None:
    told = refusal({"data": [{}]})
    assert "seed: missing; it has no default (whole number)" in told
    assert "data.0.path: missing" in told
    assert "2 problems" in told


def test_checks_of_the_class_name_the_place() -> None:
    assert "optim: peak is -1.0; a learning rate is above 0" in refusal(MINIMAL | {"optim": {"peak": -1}})


def test_a_scalar_or_list_where_keys_belong() -> None:
    assert "optim: expected keys (peak, betas, undocumented), got 3" in refusal(MINIMAL | {"optim": 3})
    assert "optim: expected keys" in refusal(MINIMAL | {"optim": [1]})
    assert "--optim.peak.x: optim.peak: expected number" in refusal(MINIMAL, "--optim.peak.x", "1")


def test_a_config_cannot_be_changed_afterwards() -> None:
    config = load_config(Config, MINIMAL)
    with pytest.raises(FrozenInstanceError):
        config.steps = 3  # type: ignore[misc]


# ---- the file itself


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("seed: 1\nseed: 2\n", "run.yaml:2: the key 'seed' is given twice"),
        ("seed: 1\noptim:\n  peak: 1\n  peak: 2\n", "run.yaml:4: the key 'peak' is given twice"),
        ("seed: &a {b: *a}\n", "run.yaml: nested too deeply"),
        ("seed: [1\n", "run.yaml:2: not valid YAML"),
        ("a: b: c\n", "run.yaml:1: not valid YAML"),
        ("\tseed: 1\n", "run.yaml:1: not valid YAML"),
        ("seed: !!python/object/apply:os.system ['true']\n", "is not allowed in a config"),
        ("seed: !!python/name:os.system\n", "is not allowed in a config"),
        ("seed: 1\n---\nseed: 2\n", "run.yaml:2: not valid YAML"),
        ("- seed\n", "a config is a mapping"),
        ("just text\n", "a config is a mapping"),
        ("? [a, b]\n: 1\n", "a key must be a plain word"),
        ("seed: !!int abc\n", "'abc' is not a int"),
        ("seed: \x00\n", "not valid YAML"),
        ("include: run.yaml\nseed: 1\ndata: a\n", "include: unknown key"),
        ("x: " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        ("x: " + "[" * 200_000, "nested too deeply"),
    ],
)
def test_files_that_are_refused(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        load(text, tmp_path)
    assert told in str(caught.value)


def test_aliases_and_merge_keys(tmp_path: Path) -> None:
    text = "seed: 1\ndata:\n- &base {path: a, weight: 2}\n- {<<: *base, path: b}\n- {kind: k, <<: [*base]}\n"
    assert load(text, tmp_path).data == (
        Data(path="a", weight=2.0),
        Data(path="b", weight=2.0),
        Data(path="a", weight=2.0, kind="k"),
    )


def test_empty_file_bom_and_crlf(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="seed: missing"):
        load("", tmp_path)
    (tmp_path / "bom.yaml").write_bytes(b"\xef\xbb\xbfseed: 4\r\ndata: a\r\n")
    assert load_config(Config, tmp_path / "bom.yaml").seed == 4


def test_unreadable_files(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    assert "latin.yaml: not UTF-8 text (byte 9)" in refusal(tmp_path / "latin.yaml")
    assert "there is no config file" in refusal(tmp_path / "absent.yaml")
    assert "cannot read" in refusal(tmp_path)
    assert "cannot read" in refusal(Path("a\0b"))


# ---- writing it back


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
configs = st.builds(
    Config,
    seed=st.integers(),
    data=st.lists(
        st.builds(
            Data,
            path=texts,
            kind=texts,
            columns=st.dictionaries(texts, texts, max_size=2),
            weight=st.floats(allow_nan=False),
        ),
        max_size=3,
    ).map(tuple),
    optim=st.builds(Optim, peak=st.floats(1e-30, 1e30), betas=st.tuples(st.floats(0, 1), st.floats(0, 1))),
    critic=st.one_of(
        st.builds(Shared, head=st.sampled_from(["linear", "mlp"])), st.builds(Separate, width=st.integers())
    ),
    stop=st.lists(texts, max_size=3).map(tuple),
    max_len=st.none() | st.integers(),
    verbose=st.booleans(),
    name=texts | st.sampled_from(["no", "1e-5", "null", "~", "007", "1:30", "<<", "=", " x", "x ", "a: b", "# c", "-"]),
    device=st.sampled_from(["auto", "cpu"]),
    mix=st.dictionaries(texts, st.floats(allow_nan=False), max_size=2),
    eval_on=st.none() | st.builds(Data, path=texts),
)


@given(configs)
def test_what_is_written_reads_back_equal(tmp_path_factory: pytest.TempPathFactory, config: Config) -> None:
    path = tmp_path_factory.getbasetemp() / "round.yaml"
    path.write_text(dump_yaml(config), encoding="utf-8", newline="")
    assert load_config(Config, path) == config
    assert load_config(Config, to_plain(config)) == config


def test_written_yaml_reads_well() -> None:
    config = load_config(Config, {"seed": 1, "data": ["a"], "critic": "separate", "stop": ["x", "y"]})
    lines = dump_yaml(config).splitlines()
    assert lines[:4] == ["seed: 1  # Seed of the run.", "data:  # Training rows.", "- path: a  # File or hub name.",
                         "  kind: auto  # What the rows are."]  # fmt: skip
    assert "  peak: 1.0e-05  # Peak learning rate (InstructGPT C.4)." in lines
    assert "  undocumented: 0" in lines
    assert "stop: [x, y]  # Strings that end a response." in lines
    assert "  width: 64  # Width of its layers [units]." in lines


# ---- differences


def test_changes_name_dotted_keys_both_values_and_absence() -> None:
    config = load_config(Config, MINIMAL)
    assert config_changes(to_plain(config), to_plain(config)) == []
    other = replace(config, steps=11, critic=Separate(width=2), data=(*config.data, Data(path="b")), stop=("s",))
    assert config_changes(to_plain(config), to_plain(other)) == [
        "critic.kind: 'shared' -> 'separate'",
        "critic.head: 'mlp' -> (absent)",
        "stop: [] -> (absent)",
        "steps: 10 -> 11",
        "data.1.path: (absent) -> 'b'",
        "data.1.kind: (absent) -> 'auto'",
        "data.1.columns: (absent) -> {}",
        "data.1.weight: (absent) -> 1.0",
        "critic.width: (absent) -> 2",
        "stop.0: (absent) -> 's'",
    ]


def test_changes_tell_true_from_one() -> None:
    assert config_changes({"a": True}, {"a": 1}) == ["a: True -> 1"]
    assert config_changes({"a": 1}, {"a": 1.0}) == ["a: 1 -> 1.0"]


# ------------------------------------------------------------------------------------------- configs made in Python


def test_an_option_in_the_wrong_group_is_named_where_it_belongs() -> None:
    given = {"prompts": "p", "rewards": {"kind": "model", "path": "r"}, "model": "m"}
    wrong = {"optim": {"iterations": 3}, "sampling": {"clip_range": 0.1}, "kl": {"path": "x"}}
    with pytest.raises(UserError) as caught:
        load_config(PPOConfig, {**given, **wrong})
    assert "optim.iterations: unknown key; 'iterations' is an option, but does not stand here" in str(caught.value)
    assert "sampling.clip_range: unknown key; 'objective.clip_range' is an option" in str(caught.value)


def test_a_bare_path_stands_for_a_group_that_has_one() -> None:
    data = {"data": "d.jsonl"}
    assert load_config(SFTConfig, {**data, "model": "runs/a/model"}).model.path == "runs/a/model"
    changed = load_config(SFTConfig, {**data, "model": {"path": "x", "template": "raw"}}, ["--model", "runs/b/model"])
    assert (changed.model.path, changed.model.template) == ("runs/b/model", "raw")


def test_options_that_do_nothing_in_a_place_are_refused_there_unless_they_say_nothing() -> None:
    given = {"rewards": {"kind": "model", "path": "r"}, "model": "m"}
    prompts = [{"path": "p", "answers": 0, "limit": 3}]  # as config.yaml of a run spells it out
    assert load_config(PPOConfig, {**given, "prompts": prompts}).prompts[0].limit == 3
    with pytest.raises(UserError, match=r"--prompts\.0\.answers: has no effect here: prompts are read without their"):
        load_config(PPOConfig, {**given, "prompts": prompts}, ["--prompts.0.answers", "4"])
    assert load_config(SFTConfig, {"data": [{"path": "p", "answers": 4}]}).data[0].answers == 4
    names = [option.name for option in describe(PPOConfig)]
    assert "prompts.N.limit" in names and "prompts.N.answers" not in names and "ptx.data.N.weight" in names


@kills(
    "config/types.py",
    old="if type(one) not in arms and (not is_plain or (arms and one is not None)):",
    new="if not is_plain and type(one) not in arms:",
    why="a dict where options belong fails somewhere inside, as an AttributeError",
)
def test_a_config_that_was_put_together_by_hand_is_checked() -> None:
    with pytest.raises(UserError, match=r"prompts: a dict stands where DataConfig belongs.*load_config"):
        PPOConfig(prompts=[{"path": "p"}], rewards=[{"function": "f"}], model={"path": "x"})  # type: ignore[arg-type, list-item]
    made = SFTConfig(data=(DataConfig(path="d", limit=len),), model=ModelConfig(path="x"))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"data\.N\.limit: a builtin_function_or_method stands where whole number"):
        dump_yaml(made)
