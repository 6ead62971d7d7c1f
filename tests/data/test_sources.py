"""`load`: the kind wanted, bad rows strict or counted, columns renamed, the reasons told."""

import re
import time

import pytest

from plaudit.data.options import DataConfig
from plaudit.data.sources import load
from plaudit.errors import UserError
from plaudit.records.text import Demonstration, Kind, PromptRow, Ranking
from tests.data.files import load_rows, message, plain, write

PAIR = {"prompt": "q", "chosen": "a", "rejected": "b"}


def test_what_is_told_of_a_file(tmp_path):
    rows = [PAIR, PAIR, {**PAIR, "rejected": " a"}, {"prompt": "p", "chosen": "", "rejected": "c", "source": "s"}]
    loaded = load_rows(tmp_path, rows, Kind.COMPARISON)
    assert loaded.kind_found is Kind.COMPARISON
    assert [row.where.rpartition(":")[2] for row in loaded.rows] == ["1", "2", "4"]
    assert loaded.columns == ("prompt", "chosen", "rejected", "source")
    assert loaded.unread.columns == {"source": 1}
    assert loaded.bad == ()
    assert loaded.dropped == {"with chosen equal to rejected": 1}
    assert loaded.counted == {"with an empty reply": 1, "repeating an earlier row": 1}
    assert str(loaded) == (
        "3 rows from comparison data (1 with an empty reply; 1 repeating an earlier row; "
        "1 left out with chosen equal to rejected; columns not used: source)"
    )


def test_a_quiet_file_is_told_in_one_phrase(tmp_path):
    assert str(load_rows(tmp_path, [{"text": "a"}], Kind.TEXT)) == "1 row from text data"


# -------------------------------------------------------------------------------------------------------- bad rows


def test_bad_rows_stop_the_run_and_are_named(tmp_path):
    rows = [PAIR, {**PAIR, "chosen": 3}, PAIR, {"prompt": "q", "chosen": "a"}]
    with pytest.raises(UserError) as caught:
        load_rows(tmp_path, rows, Kind.COMPARISON)
    first, second, note, advice = str(caught.value).splitlines()
    assert first.endswith("rows.jsonl:2: column `chosen` must be a string or a message, not a number")
    assert second.endswith("rows.jsonl:4: column `rejected` is missing")
    assert "comparison" in note
    assert "on_bad_row: skip" in advice


def test_the_message_comes_early(tmp_path):
    rows = [{"text": i} for i in range(50)]
    with pytest.raises(UserError) as caught:
        load_rows(tmp_path, rows, Kind.TEXT, kind="text")
    assert re.findall(r"jsonl:(\d+):", str(caught.value)) == ["1", "2", "3"]


def test_bad_rows_are_skipped_counted_and_capped(tmp_path):
    rows = [{"text": "a"}] * 97 + [{"text": 1}, {"text": None}, {"txt": "a"}]
    loaded = load_rows(tmp_path, rows, Kind.TEXT, on_bad_row="skip", max_bad_fraction=0.03)
    assert len(loaded.rows) == 97
    assert [(row.where.rpartition(":")[2], row.column, row.reason) for row in loaded.bad] == [
        ("98", "text", "must be a string, not a number"),
        ("99", "text", "is null"),
        ("100", "text", "is missing"),
    ]
    assert "3 bad, skipped" in str(loaded)
    with pytest.raises(UserError, match=r"3 of 100 rows are bad, more than max_bad_fraction = 0.029 allows"):
        load_rows(tmp_path, rows, Kind.TEXT, on_bad_row="skip", max_bad_fraction=0.029)


def test_bad_lines_count_as_bad_rows_and_stand_in_their_order(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": 1}\n{"text": "a"}\n{oops\n{"text": 2}\n', encoding="utf-8")
    loaded = load(DataConfig(path=str(path), on_bad_row="skip", max_bad_fraction=0.75), Kind.TEXT)
    assert [row.where.rpartition(":")[2] for row in loaded.bad] == ["1", "3", "4"]
    with pytest.raises(UserError, match="3 of 4 rows are bad"):
        load(DataConfig(path=str(path), on_bad_row="skip", max_bad_fraction=0.7), Kind.TEXT)


def test_nothing_left(tmp_path):
    with pytest.raises(UserError, match=r"no row is left. Left out: 1 with chosen equal to rejected\."):
        load_rows(tmp_path, [{**PAIR, "rejected": "a"}], Kind.COMPARISON)
    with pytest.raises(UserError, match=r"holds no rows. First bad row: .*rows.jsonl:1: a row must be an object"):
        load_rows(tmp_path, [3], Kind.COMPARISON, on_bad_row="skip", max_bad_fraction=1.0)


def test_a_solution_that_some_rows_lack(tmp_path):
    rows = [{"prompt": "p", "solution": "s"}, {"prompt": "q"}]
    with pytest.raises(UserError, match=r"rows.jsonl:2: column `solution` is missing, while other rows have it"):
        load_rows(tmp_path, rows, Kind.PROMPT)


def test_empty_answers_to_learn_from_are_dropped_by_rule(tmp_path):
    rows = [{"prompt": "q", "response": " \n"}, {"prompt": "q", "response": "a"}]
    loaded = load_rows(tmp_path, rows, Kind.DEMONSTRATION)
    assert [row.response for row in loaded.rows] == ["a"]
    assert loaded.dropped == {"with an empty answer to learn from": 1}
    loaded = load_rows(tmp_path, [{"prompt": "q", "response": "", "score": 0}], Kind.RATING)
    assert loaded.counted == {"with an empty reply": 1}


# ---------------------------------------------------------------------------------------------------------- options


def test_columns_are_renamed(tmp_path):
    rows = [{"question": "q", "answer": "a", "response": 5}]
    renamed = {"question": "prompt", "answer": "response", "response": "old"}
    loaded = load_rows(tmp_path, rows, Kind.DEMONSTRATION, columns=renamed)
    assert loaded.rows[0].prompt == plain("q")
    assert loaded.rows[0].response == "a"
    assert loaded.columns == ("prompt", "response", "old")


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"question": "prompt"}, "`columns` renames `question`, but the columns are prompt, chosen, rejected"),
        ({"chosen": "rejected"}, "the file has a column `rejected` already; rename that one too"),
        ({"chosen": "x", "rejected": "x"}, "`columns` gives two columns the name `x`"),
    ],
)
def test_renamings_that_go_wrong(tmp_path, columns, expected):
    with pytest.raises(UserError, match=re.escape(expected)):
        load_rows(tmp_path, [PAIR], Kind.COMPARISON, columns=columns)


def test_columns_can_change_places(tmp_path):
    loaded = load_rows(tmp_path, [PAIR], Kind.COMPARISON, columns={"chosen": "rejected", "rejected": "chosen"})
    assert (loaded.rows[0].chosen, loaded.rows[0].rejected) == ("b", "a")


def test_limit_reads_the_first_rows_only(tmp_path):
    rows = [{"text": "a"}, {"text": "b"}, {"text": 3}]
    assert [row.text for row in load_rows(tmp_path, rows, Kind.TEXT, limit=2).rows] == ["a", "b"]
    with pytest.raises(UserError, match=r"rows.jsonl:3"):
        load_rows(tmp_path, rows, Kind.TEXT, limit=3)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"limit": -1}, "limit must be 0"),
        ({"max_bad_fraction": 1.5}, "max_bad_fraction must be from 0 to 1"),
        ({"weight": 0.0}, "weight must be above 0"),
        ({"kind": "poem"}, "kind is 'poem'; it must be auto, demonstration, text"),
    ],
)
def test_options_out_of_range(tmp_path, options, expected):
    with pytest.raises(UserError, match=re.escape(expected)):
        load_rows(tmp_path, [PAIR], Kind.COMPARISON, **options)


# ------------------------------------------------------------------------------------------------------ kinds wanted


def test_a_kind_that_is_said_is_believed(tmp_path):
    loaded = load_rows(tmp_path, [{"prompt": "q", "response": "a", "text": "t"}], Kind.TEXT, kind="text")
    assert loaded.kind_found is Kind.TEXT
    with pytest.raises(UserError, match="column `chosen` is missing"):
        load_rows(tmp_path, [{"text": "t"}], Kind.COMPARISON, kind="comparison")


def test_rows_are_converted_to_the_kind_wanted(tmp_path):
    loaded = load_rows(tmp_path, [PAIR], Kind.RANKING)
    assert loaded.kind_found is Kind.COMPARISON
    assert isinstance(loaded.rows[0], Ranking)


def test_several_kinds_wanted(tmp_path):
    assert isinstance(load_rows(tmp_path, [PAIR], Kind.DEMONSTRATION, Kind.TEXT).rows[0], Demonstration)
    assert load_rows(tmp_path, [{"text": "t"}], Kind.DEMONSTRATION, Kind.TEXT).rows[0].text == "t"
    own_kind = load_rows(tmp_path, [PAIR], Kind.DEMONSTRATION, Kind.COMPARISON).rows[0]
    assert (own_kind.chosen, own_kind.rejected) == ("a", "b")
    both = [{"prompt": "q", "response": "a", "score": 1, "label": True}]
    assert load_rows(tmp_path, both, Kind.TEXT, Kind.VERDICT).rows[0].label is True


def test_a_kind_that_cannot_serve_says_what_could(tmp_path):
    with pytest.raises(UserError) as caught:
        load_rows(tmp_path, [{"prompt": "q", "answer": "a"}], Kind.COMPARISON)
    text = str(caught.value)
    assert "rows.jsonl: holds prompt rows, but comparison rows are needed here. Columns: prompt, answer." in text
    assert "This file can serve as: prompt." in text
    assert re.findall(r"^  (\w+) +needs", text, re.MULTILINE) == ["comparison", "ranking", "rating"]
    with pytest.raises(UserError, match="demonstration or text rows are needed here"):
        load_rows(tmp_path, [{"prompt": "q"}], Kind.DEMONSTRATION, Kind.TEXT)


def test_prompts_keep_all_columns_whatever_the_file_holds_and_come_once(tmp_path):
    rows = [
        {"prompt": "q", "response": "a", "level": 1},
        {"prompt": "q", "response": "b", "level": 2},
        {"prompt": "p", "response": "c", "level": 3},
    ]
    loaded = load_rows(tmp_path, rows, Kind.PROMPT)
    assert [row.prompt for row in loaded.rows] == [plain("q"), plain("p")]
    assert loaded.rows[0].columns == {"response": "a", "level": 1}
    assert loaded.dropped == {"with a prompt that came before": 1}
    assert loaded.unread.columns == {}


def test_the_prompts_of_pairs_that_teach_nothing_stay(tmp_path):
    loaded = load_rows(tmp_path, [{**PAIR, "rejected": "a"}], Kind.PROMPT)
    assert isinstance(loaded.rows[0], PromptRow)


def test_the_rows_of_the_notes_reward_functions_load(tmp_path):
    """N3.14: the whole context with its role tokens as `content`, and one or several solutions."""
    rendered = "<|im_start|>user\nTwo and two?<|im_end|>\n<|im_start|>assistant\n"
    rows = [{**message("user", rendered), "solution": ["4", "four"], "prompt_rendered": True}]
    (row,) = load_rows(tmp_path, rows, Kind.PROMPT).rows
    assert row.prompt.form.value == "rendered"
    assert row.prompt.text == rendered
    assert row.columns == {"solution": ["4", "four"]}


@pytest.mark.slow
def test_reading_does_not_grow_with_the_square_of_the_rows(tmp_path):
    row = {"instruction": "Name three uses of a plain pencil. " * 2, "input": "", "output": "Writing and more. " * 20}
    seconds = []
    for count in (1_000, 16_000):
        path = write(tmp_path, [{**row, "instruction": f"{i} {row['instruction']}"} for i in range(count)])
        start = time.process_time()
        assert len(load(DataConfig(path=path), Kind.DEMONSTRATION).rows) == count
        seconds.append(time.process_time() - start)
    assert seconds[1] < 100 * seconds[0]  # in proportion: 16; with the square: 256


def test_lists_of_answers_are_told_how_to_become_rankings(tmp_path):
    path = write(tmp_path, [{"instruction": "a", "output": ["good", "bad"]}])
    with pytest.raises(UserError, match=r"`output` holds several answers a row: call it `responses` \(`columns: {"):
        load(DataConfig(path=path), Kind.RANKING)
    path = write(tmp_path, [{"instruction": "a", "output": ["good", "bad"], "best": 0}])
    (row,) = load(DataConfig(path=path, columns={"output": "responses"}), Kind.RANKING).rows
    assert row.ranks == (1, 2)


def test_texts_with_scores_are_told_how_to_become_ratings(tmp_path):
    path = write(tmp_path, [{"text": "good", "score": 0.8}, {"text": "bad", "score": 0.1}])
    with pytest.raises(UserError, match=r"can be read with these texts as answers by `columns: {text: response}`"):
        load(DataConfig(path=path), Kind.RATING)
    (row, _) = load(DataConfig(path=path, columns={"text": "response"}, prompt="Say something."), Kind.RATING).rows
    assert row.scores == {"score": 0.8}
