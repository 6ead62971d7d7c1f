"""What a labeller does: get a task, send, skip, reopen, look at what was sent."""

import json
import time
from collections.abc import Callable
from typing import Any

from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from plaudit.feedback.records import Assignment, Role
from plaudit.feedback.store import Store
from plaudit.web.app import Body, call
from plaudit.web.label.lead import lead_routes
from plaudit.web.label.views import (
    assignment_view,
    judgement_view,
    order_words,
    project_view,
    read_judgement,
    text_of,
)
from plaudit.web.templates import page

SENT_SHOWN = 200
BEGINNING = 160
"""Characters of a prompt in a list."""


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
        values = {"project": config, "person": person, "lead": person.role is Role.LEAD}
        return page(request, "label.html.j2", start=script_json(start), options=script_json(config), **values)

    def next(self, request: Request, _: Body) -> dict[str, Any]:
        assignment = self.store.next_task(request.state.person)
        return {
            "assignment": assignment_view(assignment) if assignment else None,
            "progress": self._progress(request),
            "waiting": self.arriving(),
        }

    def submit(self, request: Request, body: Body) -> dict[str, Any]:
        """Answers once the judgement is on disk. `key` makes a repeated send one submission."""
        person, assignment_id, key = request.state.person, text_of(body, "assignment"), text_of(body, "key")
        if not 8 <= len(key) <= 100:
            raise HTTPException(400, "not_a_judgement")
        assignment = self.store.assignment(assignment_id, person)
        self.store.submit(assignment_id, person, read_judgement(body, assignment), key)
        return self.next(request, body)

    def skip(self, request: Request, body: Body) -> dict[str, Any]:
        self.store.skip(text_of(body, "assignment"), request.state.person, text_of(body, "reason"))
        return self.next(request, body)

    def reopen(self, request: Request, body: Body) -> dict[str, Any]:
        """The task that is named, or the one that was sent last."""
        person, task = request.state.person, text_of(body, "task")
        if not task:
            sent = self.store.submissions(person)
            if not sent:
                raise HTTPException(409, "nothing_sent")
            task = sent[0].task_id
        assignment = self.store.reopen(person, task)
        return {"assignment": assignment_view(assignment), "progress": self._progress(request), "waiting": False}

    def sent(self, request: Request) -> Response:
        """What this person submitted, newest first."""
        submissions = self.store.submissions(request.state.person)
        lines = []
        for one in submissions[:SENT_SHOWN]:
            view = judgement_view(one.judgement, one)
            when = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.received))
            prompt = self.store.task(one.task_id).prompt.turns[-1].content[:BEGINNING]
            lines.append(
                {"task": one.task_id, "when": when, "prompt": prompt, "order": order_words(view["ranks"]), **view}
            )
        person = request.state.person
        values = {"progress": self.store.progress(person), "lead": person.role is Role.LEAD}
        return page(request, "sent.html.j2", name=self.store.config.name, lines=lines, total=len(submissions), **values)

    def _progress(self, request: Request) -> dict[str, Any]:
        own = self.store.progress(request.state.person)
        names = ("submitted", "today", "daily_target", "remaining")
        return {name: getattr(own, name) for name in names}


def script_json(value: Any) -> Markup:
    """JSON for a data block: no character in it can end the element or start a comment."""
    text = json.dumps(value, ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)
