"""What a lead sees and does: progress, agreement, gold, disagreements, adjudication, export, links."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from plaudit.errors import UserError
from plaudit.feedback.exchange import LOST, ExportForm, export_text, tied_rankings
from plaudit.feedback.records import Disagreement, Estimated, Role, Skip
from plaudit.feedback.store import Store
from plaudit.web.app import Body, call
from plaudit.web.label.views import BEGINNING, answers_view, letter, order_words, prompt_view, text_of
from plaudit.web.rendering import plain
from plaudit.web.templates import page

DISAGREEMENTS_SHOWN = 50
SKIPS_SHOWN = 20
FORMS: Mapping[ExportForm, str] = {form: f"form_{form.replace('-', '_')}" for form in get_args(ExportForm)}
"""Each form with the key of its words in the dictionary."""


def lead_routes(store: Store) -> list[BaseRoute]:
    lead = LeadDesk(store)
    return [
        Route("/lead", _for_leads(lead.overview)),
        Route("/lead/disagreements", _for_leads(lead.disagreements)),
        Route("/lead/export", _for_leads(lead.export)),
        call("/api/lead/invite", _for_leads(lead.invite)),
        call("/api/lead/revoke", _for_leads(lead.revoke)),
        call("/api/lead/adjudicate", _for_leads(lead.adjudicate)),
    ]


def _for_leads(act: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(request: Request, *body: Body) -> Any:
        if request.state.person.role is not Role.LEAD:
            raise HTTPException(403, "leads_only")
        return act(request, *body)

    return guarded


class LeadDesk:
    """Each method is a request of a lead."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def overview(self, request: Request) -> Response:
        progress, agreement, gold = self.store.progress(), self.store.agreement(), self.store.gold_accuracy()
        links = {one.name: one.revoked is None for one in self.store.people()}  # made-up and imported people have none
        people = [
            {
                "row": one,
                "linked": links.get(one.name, False),
                "revoked": not links.get(one.name, True),
                "seen": _ago(one.last_seen),
                "agreement": interval(agreement.by_person.get(one.name)),
                "gold": interval(gold.get(one.name)),
            }
            for one in progress.people
        ]
        numbers = {name: interval(getattr(agreement, name)) for name in ("alike", "alike_when_preferred")}
        alpha = agreement.alpha
        numbers["alpha"] = f"{alpha.value:.2f} ({alpha.low:.2f} – {alpha.high:.2f})".replace("-", "−") if alpha else ""
        values: dict[str, Any] = {"progress": progress, "people": people, "agreement": numbers, "forms": FORMS}
        tied, ranked = tied_rankings(self.store)
        skips = self.store.skips()
        values |= {"skips": self._skips(skips[: -SKIPS_SHOWN - 1 : -1]), "skipped": len(skips)}
        values |= {"no_ties": LOST if tied else (), "tied": tied, "ranked": ranked, "me": request.state.person.name}
        differing = sum(share < 1 for share in agreement.by_task.values())
        shared = len(agreement.by_task)
        name = self.store.config.name
        return page(request, "lead.html.j2", name=name, differing=differing, shared=shared, **values)

    def _skips(self, skips: Sequence[Skip]) -> list[dict[str, str]]:
        return [
            {
                "person": one.person,
                "prompt": plain(self.store.task(one.task_id).prompt.turns[-1].content[:BEGINNING]),
                "reason": plain(one.reason),
            }
            for one in skips
        ]

    def disagreements(self, request: Request) -> Response:
        differing = self.store.disagreements()
        models = "models" in request.query_params
        lines = [disagreement_view(one, models=models) for one in differing[:DISAGREEMENTS_SHOWN]]
        return page(
            request,
            "disagreements.html.j2",
            name=self.store.config.name,
            me=request.state.person.name,
            lines=lines,
            total=len(differing),
            models=models,
        )

    def export(self, request: Request) -> Response:
        form = export_form(request.query_params.get("form", ""))
        exported, text = export_text(self.store, form)
        suffix = "json" if form == "label-studio" else "jsonl"
        headers = {"content-disposition": f'attachment; filename="{form}.{suffix}"'}
        if exported.warnings:
            headers["x-warning"] = " ".join(exported.warnings)
        return Response(text, media_type="application/octet-stream", headers=headers)

    def invite(self, request: Request, body: Body) -> dict[str, str]:
        """The link, which is told only this once."""
        role = Role.LEAD if body.get("lead") is True else Role.LABELLER
        token = self.store.invite(text_of(body, "name").strip(), role)
        scheme = "https" if request.state.access.https else request.url.scheme
        return {"link": f"{scheme}://{request.headers['host']}/l/{token}"}

    def revoke(self, request: Request, body: Body) -> dict[str, str]:
        name = text_of(body, "name")
        if name == request.state.person.name:
            raise HTTPException(409, "not_yourself")
        self.store.revoke(name)
        return {}

    def adjudicate(self, request: Request, body: Body) -> dict[str, str]:
        ranks = body.get("ranks")
        if not isinstance(ranks, list):
            raise HTTPException(400, "not_a_judgement")
        self.store.adjudicate(text_of(body, "task"), ranks, request.state.person, text_of(body, "comment"))
        return {}


def export_form(name: str) -> ExportForm:
    """Raises: UserError for a form that there isn't."""
    for form in FORMS:
        if form == name:
            return form
    raise UserError(f"{name!r} is no form of export; there are {', '.join(FORMS)}")


def disagreement_view(one: Disagreement, *, models: bool) -> dict[str, Any]:
    """A task with its answers under the task's own letters, and what each labeller said of them."""
    decided = one.adjudicated
    return {
        "task": one.task.id,
        "prompt": prompt_view(one.task.prompt),
        "answers": [
            {"letter": letter(i), "model": answer.model if models else "", **view}
            for i, (answer, view) in enumerate(zip(one.task.answers, answers_view(one.task.answers), strict=True))
        ],
        "votes": [
            {
                "person": vote.person,
                "order": order_words(vote.judgement.ranks),
                "none": vote.judgement.none_acceptable,
                "comment": plain(vote.judgement.comment),
                "seconds": vote.judgement.seconds,
            }
            for vote in one.submissions
        ],
        "alike": one.alike,
        "decided": order_words(decided.ranks) if decided else "",
        "by": decided.person if decided else "",
    }


def interval(estimate: Estimated | None) -> str:
    """`72 % (65 – 79)`; empty where there is nothing to say."""
    if estimate is None:
        return ""
    return f"{100 * estimate.value:.0f} % ({100 * estimate.low:.0f} – {100 * estimate.high:.0f})"


def _ago(moment: float | None) -> str:
    if moment is None:
        return ""
    seconds = max(0.0, time.time() - moment)
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds / size)} {unit}"
    return "< 1 min"
