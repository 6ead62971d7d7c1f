"""The board's pages. All of them are read: nothing here writes, starts or stops anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlencode

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from plaudit.report.clocks import clocks
from plaudit.report.html import own, plotly
from plaudit.report.views import name_apart
from plaudit.web.board.look import Board, View
from plaudit.web.board.shelf import shelf
from plaudit.web.security import CSP
from plaudit.web.templates import LANGUAGES, environment, language, page
from plaudit.web.templates import words as in_language

ASSETS = {
    "style.css": "text/css",
    "flow.css": "text/css",
    "charts.js": "text/javascript",
    "tokens.js": "text/javascript",
}
"""Files of the report's page that the board uses as they are."""
PLOTLY = "plotly.js"
POLICY = CSP.replace("style-src 'self'", "style-src 'self' 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='")
"""Where figures are drawn: plotly adds an empty style element (this is the hash of nothing), and fills it by script."""
SOON, IDLE, LONGEST = 2.0, 6.0, 30.0
"""Seconds until a page asks again: while something runs, while nothing does, and where the answer takes much."""
SHARE = 0.1
"""Of a core at most goes into bringing one page up to date."""


def board_routes(runs: Sequence[str]) -> list[BaseRoute]:
    """The pages of these folders. Raises: UserError for what is no folder."""
    return routes(Board(shelf=shelf(runs)))


def routes(shown: Board) -> list[BaseRoute]:
    def run_list(request: Request) -> Response:
        known = {"words": _words(request), "pins": _pins(request), "others": _others(request)}
        return page(request, "board.html.j2", **known, **_list(shown, request))

    def run_page(request: Request) -> Response:
        ids = _ids(request)
        view = shown.view(ids, language(request))
        pins, address = _pins(request), f"/runs?{urlencode([('run', run_id) for run_id in _runs(request)])}"
        response = page(
            request, "board_runs.html.j2", parts={name: html for name, (_, html) in view.parts.items()}, ids=ids,
            title=view.page.title, pins=pins, unpinned=address, hashes=_hashes(view),
            reading=view.read, others=_others(request),
        )  # fmt: skip
        response.headers["content-security-policy"] = POLICY
        return response

    def search_page(request: Request) -> Response:
        words, pins = _words(request), _pins(request)
        hits, others = shown.search(words), _others(request)
        return page(request, "board_search.html.j2", words=words, hits=hits, pins=pins, others=others)

    def new_parts(request: Request) -> Response:
        return JSONResponse(_new_parts(shown.view(_ids(request), language(request)), request))

    def figures(request: Request) -> Response:
        return JSONResponse(shown.figures(_ids(request), _indices(request), language(request)))

    return [
        _read("/", run_list),
        _read("/runs", run_page),
        _read("/search", search_page),
        _read("/api/list", lambda request: _new_list(shown, request)),
        _read("/api/runs", new_parts),
        _read("/api/figures", figures),
        _read("/assets/{name}", _asset),
    ]


def _read(path: str, act: Callable[[Request], Response]) -> Route:
    """A route that only reads, in a thread: folders may be slow."""

    async def endpoint(request: Request) -> Response:
        return await run_in_threadpool(act, request)

    return Route(path, endpoint, methods=["GET"])


def _words(request: Request) -> str:
    return request.query_params.get("q", "")[:500]


def _pins(request: Request) -> list[str]:
    return list(dict.fromkeys(request.query_params.getlist("pin")))


def _runs(request: Request) -> list[str]:
    return list(dict.fromkeys(request.query_params.getlist("run")))


def _ids(request: Request) -> list[str]:
    """The pinned runs first: the others are laid over them."""
    return list(dict.fromkeys([*_pins(request), *_runs(request)]))


def _indices(request: Request) -> list[int]:
    text = request.query_params.get("at", "")
    return [int(each) for each in text.split(",")[:200] if each.isascii() and each.isdigit()]


def _others(request: Request) -> list[tuple[str, str, str]]:
    """(code, name, this page's address) of the languages that it isn't in."""
    known = [(name, value) for name, value in request.query_params.multi_items() if name != "lang"]
    here = language(request)
    return [(code, name, f"?{urlencode([*known, ('lang', code)])}") for code, name in LANGUAGES.items() if code != here]


def _list(shown: Board, request: Request) -> dict[str, Any]:
    rows, left_out = shown.rows(_words(request))
    return {"rows": rows, "left_out": left_out, "running": sum(row.life.kind == "running" for row in rows)}


def _new_list(shown: Board, request: Request) -> Response:
    known = _list(shown, request)
    html = (
        environment()
        .get_template("board_rows.html.j2")
        .render(**known, pins=_pins(request), t=in_language(language(request)))
    )
    return JSONResponse({"html": html, "again": SOON if known["running"] else IDLE})


def _new_parts(view: View, request: Request) -> dict[str, Any]:
    """The parts that are others than those the page has (`have`: name.hash,…)."""
    have = dict(each.split(".", 1) for each in request.query_params.get("have", "").split(",") if "." in each)
    version = have.get("version", "")
    again = SOON if view.is_running else IDLE
    answer: dict[str, Any] = {"version": view.version, "reading": view.read, "hashes": _hashes(view)}
    answer["again"] = 0.1 if view.read < 1 else min(LONGEST, max(again, view.seconds / SHARE))
    if version != view.version:
        answer["parts"] = {name: html for name, (known, html) in view.parts.items() if have.get(name) != known}
        answer["clocks"] = clocks(name_apart(view.collected))
    return answer


def _hashes(view: View) -> dict[str, str]:
    return {name: known for name, (known, _) in view.parts.items()}


def _asset(request: Request) -> Response:
    """The scripts and styles of the report, under an address with the version: they may be kept."""
    name = request.path_params["name"]
    if name not in ASSETS and name != PLOTLY:
        raise HTTPException(404)
    kind, text = ("text/javascript", plotly()) if name == PLOTLY else (ASSETS[name], own(name))
    return Response(text, media_type=kind, headers={"cache-control": "private, max-age=86400"})
