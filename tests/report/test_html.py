"""The file itself: complete, offline, hostile text harmless, every definition one click away."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

import pytest

from plaudit.errors import UserError
from plaudit.report.html import TEXT_LIMIT, write
from tests.report.folders import CHINESE, HOSTILE, ppo_lines, sample_rows, summary, write_pipeline, write_run

ADDRESSES = {"src", "href", "srcset", "poster", "action", "formaction", "data", "background", "ping", "xlink:href"}
TAME = "=harmless words"  # sorts where HOSTILE does, so that the glossary has the same order
LOADERS = {"link", "img", "iframe", "object", "embed", "base", "form", "video", "audio", "source", "image", "use"}


class Page(HTMLParser):
    """The elements of a page in order, their attributes, the text between them, and the scripts."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in self.raw:
            self._inside = tag
            self.raw[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = "" if tag in self.raw else self._inside

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.raw[self._inside][-1] += data
        else:
            self.text += data

    def values(self, name: str) -> list[str]:
        return [attributes[name] or "" for _, attributes in self.elements if name in attributes]

    @property
    def shape(self) -> list[tuple[str, tuple[str, ...]]]:
        return [(tag, tuple(attributes)) for tag, attributes in self.elements]


def page_of(folders: list[Path], out: Path) -> Page:
    return Page(write(folders, out).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def pipeline_page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    folder = tmp_path_factory.mktemp("report")
    return page_of([write_pipeline(folder / "demo")], folder / "report.html")


def test_nothing_is_fetched_from_anywhere(pipeline_page: Page) -> None:
    tags = {tag for tag, _ in pipeline_page.elements}
    assert tags.isdisjoint(LOADERS)
    addresses = {name: pipeline_page.values(name) for name in ADDRESSES}
    assert [name for name, values in addresses.items() if values] == ["href"]
    assert all(value.startswith("#") for value in addresses["href"])
    (style,) = pipeline_page.raw["style"]
    assert not re.search(r"@import|@font-face|url\(|https?:", style)
    own = pipeline_page.raw["script"][-1]
    assert not re.search(r"fetch|XMLHttpRequest|WebSocket|sendBeacon|https?:|import\(|innerHTML|document\.write", own)


def test_plotly_is_inlined_once_and_unchanged(pipeline_page: Page) -> None:
    from plotly.offline import get_plotlyjs

    *data, plotly, own = pipeline_page.raw["script"]
    assert plotly == get_plotlyjs()
    files = resources.files("plaudit.report") / "page"
    names = ("charts.js", "tokens.js", "report.js")
    assert own == "".join((files / name).read_text(encoding="utf-8") for name in names)
    assert all(json.loads(each) for each in data)


def test_the_policy_lets_only_our_scripts_run(pipeline_page: Page) -> None:
    (policy,) = [a["content"] for tag, a in pipeline_page.elements if tag == "meta" and a.get("http-equiv")]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    hashes = {
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in pipeline_page.raw["script"][-2:]
    }
    assert set(rules["script-src"].split()) == hashes
    assert "connect-src" not in rules and "font-src" not in rules


def test_links_and_definitions_lead_somewhere(pipeline_page: Page) -> None:
    ids = pipeline_page.values("id")
    assert len(ids) == len(set(ids))
    assert {value[1:] for value in pipeline_page.values("href")} <= set(ids)
    targets = pipeline_page.values("popovertarget")
    assert len(targets) > 60 and set(targets) <= set(ids)
    popovers = [a["id"] for _, a in pipeline_page.elements if "popover" in a]
    assert set(targets) <= set(popovers)
    buttons = [a for tag, a in pipeline_page.elements if tag == "button"]
    assert all(a.get("type") == "button" for a in buttons)


def test_every_figure_has_its_place_and_its_words(pipeline_page: Page) -> None:
    figures = json.loads(pipeline_page.raw["script"][0])
    places = [a for _, a in pipeline_page.elements if "data-figure" in (a or {})]
    assert [int(a["data-figure"]) for a in places] == list(range(len(figures)))
    assert all(a["role"] == "img" and len(a["aria-label"]) > 20 for a in places)
    assert all(len(trace["x"]) <= 2000 for figure in figures for trace in figure["data"])


def test_the_page_tells_the_whole_story(pipeline_page: Page) -> None:
    for words in (
        "demo", "finished", "4 min 11 s", "Results", "Supervised fine-tuning", "Reward model", "PPO",
        "Score against √KL", "ppo: largest gains", "ppo: largest losses", "ppo: at random",
        "ceiling 78.3%", "85%", "72.0% … 75.0%", "ppo raised the mean score by the judge", "longer wins 55.0%",
        CHINESE, "Configuration", "Definitions", "nats/token",
    ):  # fmt: skip
        assert words in pipeline_page.text, words
    assert pipeline_page.elements[0] == ("html", {"lang": "en"})


def hostile_run(folder: Path, text: str) -> Path:
    """A run in which the text stands wherever a run can hold text."""
    lines = [{**line, f"ppo/{text}": 1.0} for line in ppo_lines(4)]
    rows = [{**row, "prompt": text, "before": text, "after": text, "policy": text} for row in sample_rows(6)]
    rows = [{**row, "finish_before": text, "finish_after": text} for row in rows]
    row = {"measure": text, "value": 1.0, "floor": 0.0, "ceiling": 2.0, "part": text, "against": text, "stage": text}
    found = [{**row, "subject": text}, {**row, "subject": f"{text}2", "role": "floor"}]
    config = {"seed": text, text: text, "deep": {text: [text]}}
    write_run(folder, text, config=config, lines=lines, samples=rows, summary=summary(found, **{text: text}))
    provenance = {"stage": text, "started": text, "command": [text], text: text}
    provenance["versions"] = {"torch": text, text: text}
    (folder / "provenance.json").write_text(json.dumps(provenance), encoding="utf-8")
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"step": 9, f"ppo/{text}": None, "non_finite": {f"ppo/{text}": "nan"}}) + "\n")
    return folder


def test_hostile_text_is_text(tmp_path: Path) -> None:
    """The page has the same elements and attributes whatever the models wrote; their words are shown as they are."""
    name = HOSTILE.replace("/", "∕")  # the one character that no folder's name can hold
    evil = page_of([hostile_run(tmp_path / name, HOSTILE)] * 2, tmp_path / "evil.html")
    tame = page_of([hostile_run(tmp_path / "tame", TAME)] * 2, tmp_path / "tame.html")
    assert evil.shape == tame.shape
    assert not [name for _, attributes in evil.elements for name in attributes if name.startswith("on")]
    assert evil.text.count(HOSTILE) > 100  # quoted in the command and in YAML, so not as often as TAME
    assert name in evil.text
    assert len(evil.raw["script"]) == 5


def test_hostile_text_in_figures_is_text_to_the_parser_and_to_plotly(tmp_path: Path) -> None:
    name = HOSTILE.replace("/", "∕")
    folders = [write_run(tmp_path / n, "ppo", lines=ppo_lines(4)) for n in (name, "b")]
    data = page_of(folders, tmp_path / "r.html").raw["script"][0]
    assert not set("<>&") & set(page_of(folders, tmp_path / "s.html").raw["script"][2])
    assert not set("<>&\u2028\u2029") & set(data)
    names = [trace["name"] for figure in json.loads(data) for trace in figure["data"] if "name" in trace]
    assert any("&lt;img" in name for name in names)
    assert not any("<" in name for name in names)


def test_any_text_can_be_written(tmp_path: Path) -> None:
    rows = [{"prompt": "\ud800\x00\x1b[31m" + CHINESE, "before": "\u202eabc", "after": "z" * 9000 + CHINESE}]
    page = page_of([write_run(tmp_path / "r", "compare", samples=rows)], tmp_path / "r.html")
    assert "\ufffd␀␛[31m" + CHINESE in page.text
    assert f"… {9000 + len(CHINESE) - TEXT_LIMIT} more characters" in page.text
    assert "z" * TEXT_LIMIT in page.text and "z" * (TEXT_LIMIT + 1) not in page.text


def test_a_killed_run_says_where_it_stopped(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r", "ppo", lines=ppo_lines(17))
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 18, "ppo/sc')
    page = page_of([folder], tmp_path / "r.html")
    assert "interrupted at step 17" in page.text
    assert "line 18 is half-written; left out" in page.text


def test_an_empty_run_has_a_report(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.yaml").write_text("seed: 0\n")
    page = page_of([tmp_path / "empty"], tmp_path / "empty" / "report.html")
    assert "never started" in page.text and json.loads(page.raw["script"][0]) == []
    assert "samples" not in page.values("id") and "glossary" in page.values("id")


def test_every_prefix_of_a_runs_metrics_gives_a_report(tmp_path: Path) -> None:
    """Killed at any byte."""
    folder = write_run(tmp_path / "r", "ppo", lines=ppo_lines(3))
    whole = (folder / "metrics.jsonl").read_bytes()
    for length in range(0, len(whole), 97):
        (folder / "metrics.jsonl").write_bytes(whole[:length])
        assert write([folder], tmp_path / "r.html").stat().st_size > 4_000_000


def test_the_same_runs_give_the_same_file(tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path / "p")
    first = write([folder], folder / "report.html").read_bytes()
    assert write([folder], folder / "report.html").read_bytes() == first
    assert sorted(path.name for path in folder.iterdir() if path.is_file()) == [
        "config.yaml", "provenance.json", "report.html", "summary.json",
    ]  # fmt: skip


def test_mistakes_are_told(tmp_path: Path) -> None:
    run = write_run(tmp_path / "r", "sft")
    with pytest.raises(UserError, match="No run"):
        write([], tmp_path / "x.html")
    with pytest.raises(UserError, match=r"is a folder.*report\.html"):
        write([run], tmp_path)
    with pytest.raises(UserError, match="absent is not a folder"):
        write([run, tmp_path / "absent"], tmp_path / "x.html")
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(UserError, match="cannot write"):
        write([run], tmp_path / "file" / "x.html")
    assert not (tmp_path / "x.html").exists()
