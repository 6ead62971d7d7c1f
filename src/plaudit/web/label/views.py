"""What the pages show, as plain values; and what they send, as records. Answers stand in the order shown."""

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.exceptions import HTTPException

from plaudit.feedback.options import ProjectConfig
from plaudit.feedback.records import Assignment, Candidate, Judgement, Submission, mirrored
from plaudit.records.text import Prompt
from plaudit.web.rendering import as_written, rendered

MAX_SECONDS = 86_400.0
MAX_VERSION = 40
BEGINNING = 160
"""Characters of a prompt in a list."""


def letter(position: int) -> str:
    """The name of the answer at this position of the page."""
    return chr(ord("A") + position)


def project_view(config: ProjectConfig) -> dict[str, Any]:
    return {
        "name": config.name,
        "mode": config.mode,
        "scalar": config.scalar,
        "flags": list(config.flags),
        "guidelines": rendered(config.guidelines) if config.guidelines.strip() else "",
    }


def prompt_view(prompt: Prompt) -> list[dict[str, str]]:
    """The turns, each with its role; tools and what else a turn says are turns of their own, as written."""
    turns = [{"role": "tools", "html": as_written(str(tool)), "written": ""} for tool in prompt.tools]
    for turn in prompt.turns:
        turns += [
            {"role": f"{turn.role}: {key}", "html": as_written(str(x)), "written": ""} for key, x in turn.extra.items()
        ]
        turns.append({"role": turn.role, **text_view(turn.content)})
    return turns


def text_view(text: str) -> dict[str, str]:
    """Rendered and as written; the second is empty where it is the same."""
    html, written = rendered(text), as_written(text)
    return {"html": html, "written": "" if html == written else written}


def answers_view(answers: Sequence[Candidate]) -> list[dict[str, str]]:
    """Without whose they are."""
    return [text_view(answer.text) for answer in answers]


def assignment_view(assignment: Assignment) -> dict[str, Any]:
    before = assignment.previous
    return {
        "id": assignment.id,
        "task": assignment.task.id,
        "prompt": prompt_view(assignment.task.prompt),
        "answers": answers_view(assignment.shown),
        "previous": None if before is None else judgement_view(before, assignment),
    }


def judgement_view(judgement: Judgement, assignment: Assignment | Submission) -> dict[str, Any]:
    """A judgement as the page writes it: everything in the order shown."""
    order = assignment.order
    return {
        "ranks": [judgement.ranks[index] for index in order] if judgement.ranks else [],
        "none": judgement.none_acceptable,
        "step": mirrored(judgement.step, order),
        "scalar": [judgement.scalar[index] for index in order] if judgement.scalar else [],
        "flags": {name: [values[index] for index in order] for name, values in judgement.flags.items()},
        "comment": judgement.comment,
        "seconds": judgement.seconds,
    }


def read_judgement(body: Mapping[str, Any], assignment: Assignment) -> Judgement:
    """What the page sent, in the task's own order; whether it fits the task, the store checks. 400 for other shapes."""
    ranks, scalar, flags = (body.get(name) for name in ("ranks", "scalar", "flags"))
    step, seconds, page = body.get("step", 0), body.get("seconds", 0), text_of(body, "page")
    whole = all(type(x) is int for x in (*_list(ranks), step)) and all(
        x is None or type(x) is int for x in _list(scalar)
    )
    short = len(page) <= MAX_VERSION and page.isprintable()
    if not (whole and short and isinstance(flags or {}, dict) and isinstance(seconds, int | float)):
        raise HTTPException(400, "not_a_judgement")
    shown = Judgement(
        ranks=tuple(_list(ranks)),
        none_acceptable=body.get("none") is True,
        step=step,
        scalar=tuple(_list(scalar)),
        flags={str(name): tuple(_list(values)) for name, values in (flags or {}).items()},
        comment=text_of(body, "comment"),
        seconds=min(max(float(seconds), 0.0), MAX_SECONDS),
        page_version=page,
    )
    return shown.in_task_order(assignment.order)


def _list(value: Any) -> list[Any]:
    if value is not None and not isinstance(value, list):
        raise HTTPException(400, "not_a_judgement")
    return value or []


def text_of(body: Mapping[str, Any], name: str) -> str:
    """A string of a body, empty where it is missing. 400 for anything else."""
    value = body.get(name) or ""
    if not isinstance(value, str):
        raise HTTPException(400, "not_a_judgement")
    return value.encode("utf-8", "replace").decode("utf-8")


def order_words(ranks: Sequence[int]) -> str:
    """Ranks of the answers as shown, read as an order: `B > A = C`."""
    levels = sorted(set(ranks))
    return " > ".join(" = ".join(letter(i) for i, rank in enumerate(ranks) if rank == level) for level in levels)
