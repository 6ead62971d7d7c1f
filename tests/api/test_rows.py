"""Rows in hand are read as the rows of a file are."""

from plaudit.api.rows import as_rows, load_data, prompt_rows
from plaudit.records.text import Form


def test_texts_and_conversations():
    turns = [{"role": "user", "content": "One?"}, {"role": "assistant", "content": "Uno."}]
    assert as_rows(["a", turns, {"prompt": "q"}], "data") == [{"text": "a"}, {"messages": turns}, {"prompt": "q"}]
    assert load_data([turns], "demonstration") == [{"messages": turns}]
    spoken, plain = prompt_rows([turns[:1], "Two?"])
    assert (spoken.prompt.form, spoken.prompt.turns[0].content, plain.prompt.text) == (Form.CHAT, "One?", "Two?")
