"""What a labeller does: get a task, send, skip, reopen, look at what was sent."""

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from plaudit.feedback.leases import Desk
from plaudit.feedback.records import Assignment, Role, Turn
from plaudit.feedback.store import Store
from plaudit.web.app import Body, call
from plaudit.web.label.lead import lead_routes
from plaudit.web.label.views import (
    BEGINNING,
    assignment_view,
    judgement_view,
    order_words,
    project_view,
    read_judgement,
    text_of,
)
from plaudit.web.rendering import plain
from plaudit.web.templates import page

SENT_SHOWN = 200
RECENT = 50
"""Submissions of which the median time is made."""


def label_routes(store: Store, arriving: Callable[[], bool] = lambda: False) -> list[BaseRoute]:
    """All pages of a labelling project. `arriving`: whether more tasks are being written at the moment."""
    labeller = Labeller(store, arriving)
    return [
        Route("/", labeller.home),
        Route("/label", labeller.screen),
        Route("/sent", labeller.sent),
        call("/api/next", labeller.next, method="GET"),
        call("/api/submit", labeller.submit),
        call("/api/skip", labeller.skip),
        call("/api/reopen", labeller.reopen),
        *lead_routes(store),
    ]


class Labeller:
    """Each method is a request of `request.state.person`, who may only touch what is theirs: the store checks it."""

    def __init__(self, store: Store, arriving: Callable[[], bool]) -> None:
        self.store, self.arriving = store, arriving

    def home(self, request: Request) -> Response:
        is_lead = request.state.person.role is Role.LEAD
        return RedirectResponse("/lead", 303) if is_lead else self.screen(request)

    def screen(self, request: Request) -> Response:
        """The page with its first task in it."""
        person, adjudicated = request.state.person, request.query_params.get("adjudicate")
        if adjudicated is not None and person.role is not Role.LEAD:
            raise HTTPException(403, "leads_only")
        if adjudicated is not None:
            task = self.store.task(adjudicated)
            order = tuple(range(len(task.answers)))
            mine = Assignment(id=f"adjudicate-{task.id}", person=person.name, task=task, order=order, expires=0.0)
            start = {"assignment": assignment_view(mine), "progress": None, "waiting": False}
        else:
            start = self.next(request, {})
        config = project_view(self.store.config)
        if adjudicated is not None:  # a decision is an order, whatever the labellers were asked
            config |= {"mode": "rank", "scalar": False, "flags": []}
        values = {"project": config, "person": person, "me": person.name, "lead": person.role is Role.LEAD}
        return page(request, "label.html.j2", start=script_json(start), options=script_json(config), **values)

    def next(self, request: Request, _: Body) -> dict[str, Any]:
        return self._turn(self.store.turn(request.state.person))

    def submit(self, request: Request, body: Body) -> dict[str, Any]:
        """Answers once the judgement is on disk. `key` makes a repeated send one submission."""
        assignment_id, key = text_of(body, "assignment"), text_of(body, "key")
        if not 8 <= len(key) <= 100:
            raise HTTPException(400, "not_a_judgement")

        def act(desk: Desk) -> None:
            desk.submit(assignment_id, lambda assignment: read_judgement(body, assignment), key)

        return self._turn(self.store.turn(request.state.person, act))

    def skip(self, request: Request, body: Body) -> dict[str, Any]:
        assignment_id, reason = text_of(body, "assignment"), text_of(body, "reason")
        return self._turn(self.store.turn(request.state.person, lambda desk: desk.skip(assignment_id, reason)))

    def reopen(self, request: Request, body: Body) -> dict[str, Any]:
        """The task that is named, or the one that was sent last."""
        person, task = request.state.person, text_of(body, "task")
        if not task:
            sent = self.store.submissions(person)
            if not sent:
                raise HTTPException(409, "nothing_sent")
            task = sent[0].task_id
        assignment = self.store.reopen(person, task)
        return self._turn(Turn(assignment, self.store.progress(person)))

    def sent(self, request: Request) -> Response:
        """What this person submitted, newest first."""
        submissions = self.store.submissions(request.state.person)
        lines = []
        for one in submissions[:SENT_SHOWN]:
            view = judgement_view(one.judgement, one)
            when = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.received))
            prompt = self.store.task(one.task_id).prompt.turns[-1].content[:BEGINNING]
            shown = {"prompt": plain(prompt), "order": order_words(view["ranks"]), "comment": plain(view["comment"])}
            lines.append({"task": one.task_id, "when": when, **view, **shown})
        person = request.state.person
        recent = [one.judgement.seconds for one in submissions[:RECENT]]
        median = statistics.median(recent) if recent else None
        values = {
            "progress": self.store.progress(person),
            "median": median,
            "me": person.name,
            "lead": person.role is Role.LEAD,
        }
        return page(request, "sent.html.j2", name=self.store.config.name, lines=lines, total=len(submissions), **values)

    def _turn(self, turn: Turn) -> dict[str, Any]:
        names = ("submitted", "today", "daily_target", "remaining")
        return {
            "assignment": assignment_view(turn.assignment) if turn.assignment else None,
            "progress": {name: getattr(turn.progress, name) for name in names},
            "waiting": self.arriving(),
        }


def script_json(value: Any) -> Markup:
    """JSON for a data block: no character in it can end the element or start a comment."""
    text = json.dumps(value, ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)
