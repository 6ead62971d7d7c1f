"""Templates with escaping, the dictionary of the pages' words, and the page for what is refused."""

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

import plaudit

LANGUAGES = {"en": "English", "zh": "中文"}


@cache
def dictionary() -> Mapping[str, Mapping[str, str]]:
    """Key -> language -> words; one file, so that a translation misses nothing unseen."""
    return json.loads((resources.files("plaudit.web") / "words.json").read_text(encoding="utf-8"))


def words(language: str) -> dict[str, str]:
    """Key -> words in that language."""
    return {key: each.get(language) or each["en"] for key, each in dictionary().items()}


def language(request: Request) -> str:
    """What `?lang` says, or said before (a cookie), or what the browser asks for."""
    wishes = [request.query_params.get("lang", ""), request.cookies.get("plaudit-lang", "")]
    wishes += [part.split(";")[0].strip() for part in request.headers.get("accept-language", "").split(",")]
    return next((wish[:2] for wish in wishes if wish[:2] in LANGUAGES), "en")


@cache
def environment() -> Environment:
    """Everything is escaped; a name that isn't there is an error, not an empty word."""
    loader = PackageLoader("plaudit.web", "templates")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def page(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    """A page from a template, which gets `t` (words by key), `lang`, `version` and the values."""
    chosen = language(request)
    names = {"t": words(chosen), "lang": chosen, "languages": LANGUAGES, "version": plaudit.__version__}
    response = HTMLResponse(environment().get_template(template).render(**names, **values), status)
    if "lang" in request.query_params:
        response.set_cookie("plaudit-lang", chosen, max_age=31_536_000, samesite="strict", httponly=True)
    return response


def refusal(request: Request, error: Exception) -> Response:
    """What an answer is that has nothing to give: a page for people, JSON for scripts. `detail` is a key of the
    dictionary, or words."""
    status, detail = (error.status_code, error.detail) if isinstance(error, HTTPException) else (500, "broken")
    message = words(language(request)).get(detail, detail)
    if "text/html" in request.headers.get("accept", ""):
        return page(request, "refused.html.j2", status, message=message)
    return JSONResponse({"error": message, "reason": detail}, status)
