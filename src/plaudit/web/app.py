"""The app that every page hangs in: `build` puts the door, the files and the wall around a room's own routes."""

from collections.abc import Callable, Mapping, Sequence
from json import JSONDecodeError
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from plaudit.errors import SaveFailed, UserError
from plaudit.feedback.records import StoreFull, StoreUnavailable
from plaudit.telemetry.console import warn
from plaudit.web.security import Access, Guard
from plaudit.web.templates import page, refusal

Body = Mapping[str, Any]


def build(routes: Sequence[BaseRoute], access: Access) -> Starlette:
    """An app of these routes. Whoever gets to them is known: `request.state.person`."""
    own = [
        Route("/l/{token}", _enter),
        Mount("/static", StaticFiles(packages=[("plaudit.web", "static")])),
    ]
    handlers: Any = {HTTPException: _refused, UserError: _users_mistake, ClientDisconnect: _gone, Exception: _refused}
    return Starlette(routes=[*own, *routes], middleware=[Middleware(Guard, access=access)], exception_handlers=handlers)


def call(path: str, act: Callable[[Request, Body], Any], method: str = "POST") -> Route:
    """A route for scripts: JSON in (for GET the query), JSON out. `act` may take its time: it runs in a thread."""

    async def endpoint(request: Request) -> Response:
        body = dict(request.query_params) if method == "GET" else await _json(request)
        result = await run_in_threadpool(act, request, body)
        return result if isinstance(result, Response) else JSONResponse(result)

    return Route(path, endpoint, methods=[method])


async def _json(request: Request) -> Body:
    try:
        body = await request.json() if await request.body() else {}
    except (JSONDecodeError, UnicodeDecodeError, RecursionError):
        raise HTTPException(400, "not_json") from None
    if not isinstance(body, dict):
        raise HTTPException(400, "not_json")
    return body


def _enter(request: Request) -> Response:
    """The link in somebody's hand becomes a cookie, and the page moves on so that the token leaves the address bar.

    The page moves, not the answer: a Strict cookie isn't sent along a redirect that began on another site (a link in
    a web mail), but it is where our own page leads on.
    """
    access: Access = request.state.access
    response = page(request, "enter.html.j2")
    response.set_cookie(
        access.cookie,
        request.path_params["token"],
        max_age=90 * 86_400,
        httponly=True,
        samesite="strict",
        secure=access.https,
    )
    return response


async def _refused(request: Request, error: Exception) -> Response:
    return refusal(request, error)


async def _gone(request: Request, error: Exception) -> Response:
    """Whoever asked has hung up: no crash, and nothing that they could fill a log with."""
    return Response(status_code=400)


async def _users_mistake(request: Request, error: Exception) -> Response:
    """Something the person can put right; a disk that takes nothing more is said as such."""
    match error:
        case SaveFailed() | StoreFull():
            warn(str(error))  # for who runs the server; the page needn't tell where its files are
            return refusal(request, HTTPException(507, "disk_full"))
        case StoreUnavailable():  # pages send again by themselves
            warn(str(error))
            return refusal(request, HTTPException(503, "store_away"))
        case _:
            return refusal(request, HTTPException(409, str(error)))
