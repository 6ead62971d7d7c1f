"""Openings of texts: where they end, what is left out, and that both sides share none."""

import json
from pathlib import Path

import pytest

from plaudit.data.openings import opening, write_openings
from plaudit.data.options import DataConfig
from plaudit.data.sources import load
from plaudit.data.splits import split
from plaudit.errors import UserError
from plaudit.records.text import Kind, Text


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(
    ("text", "words", "wanted"),
    [
        ("Once upon a time there was", 4, "Once upon a time"),
        ("  Two\n words, and more", 2, "Two\n words,"),
        ("One two", 2, ""),
        ("One two \n", 2, ""),
        ("One two .", 2, "One two"),
        ("从前有一只猫。", 3, "从前有"),
        ("从前 a cat", 3, "从前 a"),
        ("从前", 2, ""),
    ],
)
def test_an_opening_leaves_something_to_say(text, words, wanted):
    assert opening(text, words) == wanted


def test_texts_go_where_their_opening_goes(tmp_path):
    texts = [Text(text=f"Story {n // 2} begins, and goes on {n}.", where="") for n in range(80)]
    counts = write_openings(
        tmp_path, [*texts, Text(text="Too short", where="")], words=3, held_out_fraction=0.4, seed=1
    )
    train, held_out = ({r["prompt"] for r in rows(tmp_path / f"{side}prompts.jsonl")} for side in ("", "held_out_"))
    assert train | held_out == {f"Story {n} begins," for n in range(40)}
    assert not train & held_out
    assert counts["too_short"] == 1
    assert (counts["prompts"], counts["held_out_prompts"]) == (len(train), len(held_out))
    for side, prompts in (("", train), ("held_out_", held_out)):
        written = [r["text"] for r in rows(tmp_path / f"{side}texts.jsonl")]
        assert written == [t.text for t in texts if t.text[: t.text.index(",") + 1] in prompts]
        assert counts[f"{side}texts"] == 2 * len(prompts)


def test_texts_of_a_few_words_are_an_error(tmp_path):
    with pytest.raises(UserError, match="no text has more than 8 words"):
        write_openings(tmp_path, [Text(text="Too short", where="")], words=8, held_out_fraction=0.1, seed=0)


def test_the_training_prompts_can_be_divided_again_with_the_same_seed(tmp_path):
    texts = [Text(text=f"Story {n} begins, and goes on.", where="") for n in range(200)]
    write_openings(tmp_path, texts, words=3, held_out_fraction=0.2, seed=0)
    prompts = load(DataConfig(path=str(tmp_path / "prompts.jsonl")), Kind.PROMPT).rows
    train, held_out = split(prompts, 0.2, 0)
    assert 0.1 < len(held_out) / len(train) < 0.4
