"""What the board shows of chosen runs: the report's parts, made anew only where something has changed."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.exceptions import HTTPException

from plaudit.report import samples
from plaudit.report.collect import PipelineData, RunData, RunStatus, pipeline_of
from plaudit.report.html import parts
from plaudit.report.live import LiveRun
from plaudit.report.views import Page, page
from plaudit.web.board.rows import Row, rows
from plaudit.web.board.shelf import Shelf, ShelfItem
from plaudit.web.templates import environment, words

PATIENCE = 0.3
"""Seconds of one request that go into reading logs."""
ANSWERS_OF = 4
"""Runs side by side up to which what they wrote is shown."""
POINTS, POINTS_OF_ALL, FEWEST = 1000, 6000, 120
"""Of a curve at most, of all curves of a figure, and of a curve at least."""
MOST_RUNS = 100
"""Side by side."""
HITS = 50
"""Answers that a search shows."""
VIEWS = 3
"""Kept for those who look at them."""
EVENTS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Chosen runs as they were at one moment."""

    version: str
    page: Page
    collected: tuple[RunData | PipelineData, ...]
    parts: Mapping[str, tuple[str, str]]
    """Name → (what tells it from an older one, HTML)."""
    read: float
    """Share of the logs; below 1 the curves are of some lines only."""
    seconds: float
    """What it took to make."""

    @property
    def is_running(self) -> bool:
        return any(item.status is RunStatus.RUNNING for item in self.collected)


@dataclass(slots=True, kw_only=True)
class Board:
    """One look at a time: requests come from several threads."""

    shelf: Shelf
    clock: Callable[[], float] = time.time
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _views: OrderedDict[tuple[str, ...], tuple[Any, View]] = field(default_factory=OrderedDict)

    def rows(self, wanted: str = "") -> tuple[list[Row], list[str]]:
        """The list, and what isn't in it and why. Logs of runs that aren't finished are read on a little: by those the
        rules of health judge."""
        with self._lock:
            self.shelf.refresh()
            items = list(self.shelf.items.values())
            unfinished = [live for item in items for live in item.lives if not _is_finished(live)]
            _advance([live for live in unfinished if not live.whole] or unfinished)
            return list(rows(items, wanted, self.clock())), list(self.shelf.left_out)

    def view(self, ids: Sequence[str], language: str = "en") -> View:
        """Raises: HTTPException where a run isn't there."""
        with self._lock:
            self.shelf.refresh()
            items = self._chosen(ids)
            lives = [live for item in items for live in item.lives]
            stamps = [live.stamp for live in lives]  # before it is read: what comes meanwhile is new the next time
            _advance(lives)
            exact = all(live.whole for live in lives)
            key, stamp = (language, *ids), (exact, *stamps)
            known = self._views.get(key)
            if known and known[0] == stamp:
                self._views.move_to_end(key)
                return known[1]
            fresh = _view(items, lives, stamp, exact=exact, language=language)
            self._views[key] = stamp, fresh
            while len(self._views) > VIEWS:
                self._views.popitem(last=False)
            return fresh

    def figures(self, ids: Sequence[str], wanted: Sequence[int], language: str = "en") -> dict[str, Any]:
        """Index → what plotly draws, and the same in words."""
        figures = self.view(ids, language).page.figures
        return {
            str(index): {"plot": figures[index].plot, "alt": figures[index].alt}
            for index in wanted
            if 0 <= index < len(figures)
        }

    def search(self, text: str) -> list[tuple[str, samples.Entry]]:
        """(run, prompt and answers) of samples and of newest rollouts that have all of the words."""
        wanted, hits = text.casefold().split(), list[tuple[str, samples.Entry]]()
        with self._lock:
            self.shelf.refresh()
            for item in self.shelf.items.values():
                for one in (item, *item.stages) if wanted else ():
                    for entry in samples.entries(one.live.sketch(answers=True), named=False):
                        written = "\n".join((entry[0], *(side[1] for side in entry[1]))).casefold()
                        if all(word in written for word in wanted):
                            hits.append((one.id, entry))
                        if len(hits) >= HITS:
                            return hits
        return hits

    def _chosen(self, ids: Sequence[str]) -> list[ShelfItem]:
        if not ids or len(ids) > MOST_RUNS:
            raise HTTPException(404, "no_run")
        items = [self.shelf.get(run_id) for run_id in dict.fromkeys(ids)]
        if None in items:
            raise HTTPException(404, "no_run")
        return [item for item in items if item is not None]


def _advance(lives: Sequence[LiveRun]) -> None:
    end = time.monotonic() + PATIENCE
    for live in lives:
        if (left := end - time.monotonic()) > 0 or live.whole:
            live.advance(max(0.0, left))


def _is_finished(live: LiveRun) -> bool:
    return (live.folder / "summary.json").is_file()


def _view(items: Sequence[ShelfItem], lives: Sequence[LiveRun], stamp: object, *, exact: bool, language: str) -> View:
    began = time.process_time()
    collected = tuple(_collect(item, len(lives), exact=exact, answers=len(items) <= ANSWERS_OF) for item in items)
    shown = page(collected, searchable=False, follow=False)
    fresh: dict[str, str] = {**parts(shown), "events": _events(items, language)}
    hashes = {name: _hash(html) for name, html in fresh.items()}
    hashes["curves"] = _hash(
        [[block.title, [[f.title, f.keys, f.wide] for f in (*block.lines, *block.folded)]] for block in shown.groups]
    )
    return View(
        version=_hash(repr(stamp)),
        page=shown,
        collected=collected,
        parts={name: (hashes[name], html) for name, html in fresh.items()},
        read=1.0 if exact else sum(live.share for live in lives) / len(lives),
        seconds=time.process_time() - began,
    )


def _collect(item: ShelfItem, count: int, *, exact: bool, answers: bool) -> RunData | PipelineData:
    points = max(FEWEST, min(POINTS, POINTS_OF_ALL // count))

    def read(live: LiveRun) -> RunData:
        return live.read(points, answers=answers) if exact else live.sketch(points // 2, answers=answers)

    own = read(item.live)
    return pipeline_of(own, [read(stage.live) for stage in item.stages]) if item.stages else own


def _events(items: Sequence[ShelfItem], language: str) -> str:
    """Notices and warnings, the newest first."""
    several = sum(len(item.lives) for item in items) > 1
    every = [
        (one.id if several else "", event)
        for item in items
        for one in (item, *item.stages)
        for event in one.live.events
    ]
    newest = sorted(every, key=lambda each: str(each[1].get("time", "")), reverse=True)[:EVENTS]
    template = environment().get_template("board_events.html.j2")
    return template.render(events=newest, several=several, t=words(language))


def _hash(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return hashlib.blake2s(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
