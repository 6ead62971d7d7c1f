"""The options of a config class, as --help shows them."""

from dataclasses import dataclass

from plaudit.config.load import describe, help_text
from tests.config.schema import Config


def test_every_option_with_type_default_and_doc() -> None:
    options = {option.name: option for option in describe(Config)}
    rows = {name: (option.type, option.default, option.doc) for name, option in options.items()}
    assert rows["seed"] == ("whole number", "required", "Seed of the run.")
    assert rows["data"] == ("list", "required", "Training rows.")
    assert rows["data.N.path"] == ("text", "required", "File or hub name.")
    assert rows["data.N.columns"] == ("mapping to text", "{}", "The file's column -> ours.")
    assert rows["optim.peak"] == ("number", "1.0e-05", "Peak learning rate (InstructGPT C.4).")
    assert rows["optim.betas"] == ("list of number", "[0.9, 0.95]", "Adam's moments.")
    assert rows["optim.undocumented"] == ("whole number", "0", "")
    assert rows["critic.kind"] == ("shared | separate", "shared", "Who predicts the values.")
    assert rows["critic.head"] == ("linear | mlp", "mlp", "[shared] Shape of the head.")
    assert rows["critic.width"] == ("whole number", "64", "[separate] Width of its layers [units].")
    assert rows["max_len"] == ("whole number | null", "null", "Longest row [tokens].")
    assert rows["device"] == ("auto | cpu", "auto", "Where it runs.")
    assert rows["steps"] == ("whole number", "10", "Optimiser steps.")
    assert rows["eval_on"] == ("group | null", "null", "Held-out rows.")
    assert list(options)[:3] == ["seed", "data", "data.N.path"]


COMMON = {"What it reads": ["seed", "data.N.path"], "How it learns": ["optim.peak"]}


def test_help_shows_the_common_options_and_how_many_more_there_are() -> None:
    lines = help_text(Config, COMMON, every=False, width=100).splitlines()
    assert lines[0] == "What it reads"
    assert lines[1].split() == ["--seed", "Seed", "of", "the", "run.", "[whole", "number;", "required]"]
    assert lines[3:6] == ["", "How it learns", f"{'  --optim.peak':34}{PEAK}"]
    assert lines[-1] == f"{len(describe(Config)) - 3} more options: --help-all"


PEAK = "Peak learning rate (InstructGPT C.4). [number; default 1.0e-05]"


def test_help_all_has_every_option_once_in_groups_that_fit_the_width() -> None:
    text = help_text(Config, COMMON, width=100)
    lines = text.splitlines()
    assert lines[0] == "What it reads"
    assert "optim: The optimiser." in lines and "critic: Who predicts the values." in lines and "others" in lines
    assert all(len(line) <= 100 for line in lines)
    names = [line.split()[0] for line in lines if line.startswith("  --")]
    assert sorted(names) == sorted(f"--{option.name}" for option in describe(Config))
    assert "[separate] Width of its layers [units]. [whole number; default 64]" in text
    assert "\x1b" not in text


def test_docs_of_a_parent_class_and_of_classes_without_source() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Base:
        a: int = 1
        """Of the base."""

    @dataclass(frozen=True, kw_only=True)
    class Child(Base):
        b: int = 2
        """Of the child."""

    assert [(o.name, o.doc) for o in describe(Child)] == [("a", "Of the base."), ("b", "Of the child.")]
    namespace: dict[str, object] = {"dataclass": dataclass}
    exec("@dataclass\nclass Made:\n    x: int = 1\n    'doc'", namespace)
    assert [(o.name, o.doc) for o in describe(namespace["Made"])] == [("x", "")]  # type: ignore[arg-type]
