"""The report's rollouts token by token: the right ones, rightly shaded, every number told, hostile text harmless."""

import json
import re
from importlib import resources
from pathlib import Path

from plaudit.report import shades
from plaudit.report.collect import collect
from plaudit.report.token_cards import MARKS, SHOWN_TOKENS, SIZE_MARKS, token_runs
from tests.report.folders import CHINESE, HOSTILE, rollout_rows, token_row, write_run
from tests.report.test_html import Page, page_of

ROWS = [token_row("ab", score=1.0), token_row("dog", score=3.0), token_row("a bird", score=-2.0)]


def runs_of(folder: Path, rollouts) -> tuple:
    return token_runs([collect(write_run(folder, "ppo", rollouts=rollouts))])


def test_best_and_worst_of_first_middle_and_last(tmp_path):
    rollouts = {
        i: [token_row(f"{i} low", score=-float(i)), token_row(f"{i} high", score=float(i))] for i in range(1, 6)
    }
    (run,) = runs_of(tmp_path / "r", rollouts)
    assert [(card.title, card.rollout.answer.text) for card in run.cards] == [
        ("Iteration 1, highest score", "1 high"),
        ("Iteration 1, lowest score", "1 low"),
        ("Iteration 3, highest score", "3 high"),
        ("Iteration 3, lowest score", "3 low"),
        ("Iteration 5, highest score", "5 high"),
        ("Iteration 5, lowest score", "5 low"),
    ]


def test_shades_are_of_the_whole_run(tmp_path):
    """dog: Â = 0, −¼, ½, −¾ on a scale that ends at 6/7; log-probabilities are shaded by size."""
    (run,) = runs_of(tmp_path / "r", {1: ROWS})
    (card,) = [card for card in run.cards if card.rollout.answer.text == "dog"]
    levels = json.loads(card.levels)
    assert run.first_column == "advantage"
    assert levels["advantage"][:3] == "-df"
    assert levels["advantage"][3] in "ab"
    assert [span.mark for span in card.spans] == list(levels["advantage"])
    assert levels["kl"] == "hhhh"  # ½ everywhere, the end of its scale
    assert set(levels["logprob"]) <= set(SIZE_MARKS.values())
    assert card.spans[1].text == "o"
    assert card.spans[1].numbers.splitlines() == [
        "2: o  (id 4)",
        "logprob  −1.5",
        "ref  −2",
        "KL  0.5",
        "entropy  1.5",
        "value  0.5",
        "reward  −0.05",
        "adv  −0.25",
        "return  2.85",
    ]


def test_legends_are_of_every_column(tmp_path):
    (run,) = runs_of(tmp_path / "r", {1: ROWS})
    legends = {legend.column: legend for legend in run.legends}
    assert list(legends) == ["logprob", "ref_logprob", "kl", "entropy", "value", "reward", "advantage", "return"]
    assert [mark for mark, _ in legends["kl"].steps] == list("abcd-efgh")
    assert legends["kl"].steps[-1][1] == 0.5
    assert [mark for mark, _ in legends["entropy"].steps] == list("-wxyz")


def test_what_has_no_tokens_has_no_cards(tmp_path):
    assert runs_of(tmp_path / "old", {1: rollout_rows(4)}) == ()
    assert runs_of(tmp_path / "none", {}) == ()
    page = page_of([tmp_path / "old"], tmp_path / "old.html")
    assert "tokens" not in page.values("id")


def test_odd_rows(tmp_path):
    empty = {name: [] for name in ROWS[0]["tokens"]}
    (run,) = runs_of(tmp_path / "mute", {1: [token_row("ab", score=None), token_row("c", score=None)]})
    assert [card.title for card in run.cards] == ["Iteration 1, without a score"]
    (run,) = runs_of(tmp_path / "empty", {1: [token_row("", score=1.0, tokens=empty), *ROWS]})
    long = token_row("x" * 400, score=9.0)
    (run,) = runs_of(tmp_path / "long", {1: [long, *ROWS]})
    assert (len(run.cards[0].spans), run.cards[0].more) == (SHOWN_TOKENS, 401 - SHOWN_TOKENS)


def test_many_runs_show_their_last_iterations(tmp_path):
    runs = [collect(write_run(tmp_path / str(n), "ppo", rollouts={1: ROWS, 2: ROWS})) for n in range(3)]
    assert [len(run.cards) for run in token_runs(runs[:2])] == [4, 4]
    assert [len(run.cards) for run in token_runs(runs)] == [2, 2, 2]


def test_samples_lead_to_their_tokens(tmp_path):
    """Prompts answered early and late: each side's card has a link to the card with its tokens."""
    rows = [token_row(text, score=float(score)) for text, score in (("a", 0), ("bb", 5), ("ccc", 2), ("dddd", 3))]
    page = page_of([write_run(tmp_path / "r", "ppo", rollouts={1: rows, 2: rows[::-1]})], tmp_path / "r.html")
    links = [value for value in page.values("href") if value.startswith("#tokens-")]
    assert len(set(links)) == 8 and {link[1:] for link in links} <= set(page.values("id"))
    assert "Iteration 1, among the samples" in page.text


# ------------------------------------------------------------------------------------------------------------- the page


def tokens_of(page: Page) -> list[dict]:
    return [
        a for tag, a in page.elements if tag == "span" and str(a.get("class", "")).startswith("tok") and "title" in a
    ]


def test_the_page_shows_them(tmp_path):
    rows = [token_row("ab", score=1.0, hostile=CHINESE), *ROWS[1:]]
    page = page_of([write_run(tmp_path / "r", "ppo", rollouts={1: rows, 2: ROWS})], tmp_path / "r.html")
    assert ("#tokens") in page.values("href")
    spans = tokens_of(page)
    assert len(spans) == 2 * (4 + 7) + 4 + 3  # best and worst of both iterations, and "ab", which is among the samples
    assert spans[1]["class"] == "tok k-d" and "adv  −0.25" in spans[1]["title"]
    assert spans[0]["class"] == "tok"  # Â = 0
    assert page.values("value")[1:] == [legend.column for legend in token_runs([collect(tmp_path / "r")])[0].legends]
    shown = [a["data-column"] for _, a in page.elements if "data-column" in a and "hidden" not in a]
    assert shown == ["advantage"]
    for value in page.values("data-levels"):
        assert {"advantage", "kl", "value"} <= set(json.loads(value))


def test_hostile_tokens_are_text(tmp_path):
    def page(name: str, text: str) -> Page:
        made = token_row("ab", score=1.0, hostile=text, prompt=text, prompt_id=text, finish_reason=text)
        made["tokens"][text] = [1.0] * 4
        rollouts = {1: [made, token_row("c", score=2.0)]}
        return page_of([write_run(tmp_path / name, "ppo", rollouts=rollouts)], tmp_path / f"{name}.html")

    evil, tame = page("evil", HOSTILE), page("tame", "harmless words")
    assert evil.shape == tame.shape
    assert not [name for _, attributes in evil.elements for name in attributes if name.startswith("on")]
    assert HOSTILE in evil.text
    assert len(evil.raw["script"]) == 5
    (levels,) = [v for v in evil.values("data-levels") if len(json.loads(v)["kl"]) == 4]
    assert HOSTILE in json.loads(levels)


def test_tricks_of_direction_are_spelled(tmp_path):
    rows = [token_row("ab", score=1.0, hostile="\u202egnp.exe\x1b[2J\n"), ROWS[1]]
    page = page_of([write_run(tmp_path / "r", "ppo", rollouts={1: rows})], tmp_path / "r.html")
    start = page.text.index("Token by token", page.text.index("Samples"))
    assert "\\u202egnp.exe␛[2J↵\n" in page.text[start:]
    assert "\u202e" not in "".join(page.values("title"))


def test_the_style_sheet_has_the_shades():
    style = (resources.files("plaudit.report") / "page" / "style.css").read_text(encoding="utf-8")
    sheet = dict(re.findall(r"\.k-(\w) \{ (background: #\w{6}; color: #\w{6}); \}", style))
    for column, marks in (("kl", MARKS), ("entropy", SIZE_MARKS)):
        for step, mark in marks.items():
            shade = shades.shade(step, column)
            assert sheet.get(mark) == (f"background: {shade[1]}; color: {shade[0]}" if shade else None)
