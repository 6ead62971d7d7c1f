"""The options of a config class, as --help shows them."""

from dataclasses import dataclass

from plaudit.config.load import describe, help_text
from tests.config.schema import Config


def test_every_option_with_type_default_and_doc() -> None:
    options = {option.name: option for option in describe(Config)}
    rows = {name: (option.type, option.default, option.doc) for name, option in options.items()}
    assert rows["seed"] == ("int", "required", "Seed of the run.")
    assert rows["data"] == ("list", "required", "Training rows.")
    assert rows["data.N.path"] == ("str", "required", "File or hub name.")
    assert rows["data.N.columns"] == ("map to str", "{}", "The file's column -> ours.")
    assert rows["optim.peak"] == ("float", "1.0e-05", "Peak learning rate (InstructGPT C.4).")
    assert rows["optim.betas"] == ("list of float", "[0.9, 0.95]", "Adam's moments.")
    assert rows["optim.undocumented"] == ("int", "0", "")
    assert rows["critic.kind"] == ("shared | separate", "shared", "Who predicts the values.")
    assert rows["critic.head"] == ("linear | mlp", "mlp", "[shared] Shape of the head.")
    assert rows["critic.width"] == ("int", "64", "[separate] Width of its layers [units].")
    assert rows["max_len"] == ("int | null", "null", "Longest row [tokens].")
    assert rows["device"] == ("auto | cpu", "auto", "Where it runs.")
    assert rows["steps"] == ("int", "10", "Optimiser steps.")
    assert rows["eval_on"] == ("group | null", "null", "Held-out rows.")
    assert list(options)[:3] == ["seed", "data", "data.N.path"]


def test_help_is_a_table_that_fits_its_width() -> None:
    text = help_text(Config, width=100)
    lines = text.splitlines()
    assert lines[0].split() == ["option", "type", "default", "what", "it", "does"]
    assert all(len(line) <= 100 for line in lines)
    peak = next(line for line in lines if line.startswith("--optim.peak"))
    assert peak.split()[1:3] == ["float", "1.0e-05"]
    assert "[separate] Width of its layers [units]." in text
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
