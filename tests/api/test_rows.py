"""Rows in hand are read as the rows of a file are."""

import numpy as np

from plaudit.api.rows import as_rows, load_data, prompt_rows
from plaudit.records.text import Form


def test_texts_and_conversations():
    turns = [{"role": "user", "content": "One?"}, {"role": "assistant", "content": "Uno."}]
    assert as_rows(["a", turns, {"prompt": "q"}], "data") == [{"text": "a"}, {"messages": turns}, {"prompt": "q"}]
    assert load_data([turns], "demonstration") == [{"messages": turns}]
    spoken, plain = prompt_rows([turns[:1], "Two?"])
    assert (spoken.prompt.form, spoken.prompt.turns[0].content, plain.prompt.text) == (Form.CHAT, "One?", "Two?")


class Table(list):
    """Rows as `datasets.Dataset` gives them: each object has the fields of all."""

    features = ("messages",)


def test_a_tables_rows_are_read_as_they_were_written():
    call = {"name": "find", "arguments": {"names": np.array(["a"]), "x": None}}
    (row,) = as_rows(
        Table([{"messages": [{"role": "assistant", "tool_calls": [call]}], "score": np.float64(0.5)}]), "data"
    )
    assert row["messages"][0]["tool_calls"] == [{"name": "find", "arguments": {"names": ["a"]}}]
    assert type(row["score"]) is float
    assert as_rows([{"prompt": "a", "given": {"x": None}}], "data")[0]["given"] == {"x": None}, "a list is not a table"
