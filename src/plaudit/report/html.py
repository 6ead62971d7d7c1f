"""The report as one file: no request leaves it, whatever text the models wrote."""

import base64
import hashlib
import json
import os
from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import plaudit
from plaudit.errors import UserError
from plaudit.files import atomic_write, make_folder
from plaudit.report.collect import PipelineData, RunData, collect
from plaudit.report.flow import flow
from plaudit.report.flow_drawing import drawing
from plaudit.report.measures import measure, shown
from plaudit.report.views import Page, page
from plaudit.telemetry.numbers import number, signed

TEXT_LIMIT = 3000
"""Characters shown of a prompt or an answer."""
PARTS = ("top", "problems", "flow", "side_by_side", "results", "curves", "samples", "tokens", "stages", "numbers")
PARTS += ("configuration", "provenance", "glossary", "definitions")
"""Of the page, in its order: macros of parts.html.j2."""


def write(folders: Sequence[Path], out: Path, *, with_flow: bool = False) -> Path:
    """Write the report of runs and pipelines to `out`, whole or not at all, and return its path.

    Several folders are laid over each other. Interrupted, empty and damaged runs are shown as far as they go.
    Raises UserError for no folder at all, one that is no run, or a file that can't be written.
    """
    if not folders:
        raise UserError("No run to report on. Give one or more run folders.")
    out = Path(out)
    if out.is_dir():
        raise UserError(f"{out} is a folder. Give the report's file name, such as {out / 'report.html'}.")
    text = render([collect(Path(folder)) for folder in folders], with_flow=with_flow)
    make_folder(out.parent)
    atomic_write(out, text)
    return out


def write_flow(folders: Sequence[Path], out: Path | None) -> list[Path]:
    """The flow of one run or pipeline as pictures that stand alone: `out` and, for phones, `NAME-narrow` beside it.

    Without `out`: flow.svg in the run's folder, with the report that its boxes lead to. Raises UserError for several
    runs and for one that has no two steps of the flow.
    """
    if len(folders) != 1:
        raise UserError("--flow draws one run or pipeline at a time: name one folder")
    folder = Path(folders[0])
    steps = flow(collect(folder))
    if steps is None:
        raise UserError(f"{folder} has no two steps of the flow (demonstrations, SFT, rankings, reward model, PPO)")
    report, out = folder / "report.html", Path(out) if out else None
    written = [] if out else [write(folders, report, with_flow=True)]
    out = out or folder / "flow.svg"
    make_folder(out.parent)
    link = quote(os.path.relpath(report, out.parent)) if report.is_file() else None
    template: Any = environment().get_template("flow.svg.j2").module
    for drawn, path in ((drawing(steps, narrow=False), out), (drawing(steps, narrow=True), _narrow(out))):
        atomic_write(path, template.flow_svg(drawn, link, Markup(own("flow.css"))) + "\n")
        written.append(path)
    return written


def _narrow(out: Path) -> Path:
    return out.with_name(f"{out.stem}-narrow{out.suffix}")


def render(collected: Sequence[RunData | PipelineData], *, with_flow: bool = False) -> str:
    """The page as text. All that comes from runs is escaped by the template; scripts and styles are this package's."""
    view = page(collected, with_flow=with_flow)
    scripts = (plotly(), own("charts.js") + own("tokens.js") + own("report.js"))
    template = environment().get_template("report.html.j2")
    return template.render(
        **_names(view),
        version=plaudit.__version__,
        policy=_policy(scripts),
        style=Markup(own("flow.css") + own("style.css")),
        scripts=[Markup(script) for script in scripts],
        figure_data=_json_for_html([figure.plot for figure in view.figures]),
        clock_data=_json_for_html(view.clocks),
        search_data=_json_for_html(view.search),
    )


def parts(view: Page) -> dict[str, Markup]:
    """The parts of the page by name, in their order: what the board shows, and brings up to date one by one."""
    module: Any = environment().get_template("parts.html.j2").make_module(_names(view))
    return {name: getattr(module, name)() for name in PARTS}


def _names(view: Page) -> dict[str, Any]:
    drawn = (drawing(view.flow, narrow=False), drawing(view.flow, narrow=True)) if view.flow else ()
    return {
        "page": view,
        "drawn_flow": drawn,
        "figure_index": {id(figure): index for index, figure in enumerate(view.figures)},
        "id": id,
    }


def _policy(scripts: Sequence[str]) -> str:
    """A content policy under which only our own scripts run, by their hashes, and nothing can be fetched.

    It is the second wall: were a text ever to get past the escaping, its script would still not run.
    """
    digests = (base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()) for script in scripts)
    hashes = " ".join(f"'sha256-{digest.decode('ascii')}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _json_for_html(value: Any) -> Markup:
    """JSON that can stand inside a script element: no character in it can end the element or start a comment."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


@cache
def plotly() -> str:
    """Plotly's script, as its Python package brings it (MIT licence, named in the script's head)."""
    from plotly.offline import get_plotlyjs

    # Line ends as HTML parsers hand them on: the policy's hash is of what the browser sees.
    return get_plotlyjs().replace("\r\n", "\n").replace("\r", "\n")


def own(name: str) -> str:
    """A file of the page: scripts and styles."""
    return (resources.files("plaudit.report") / "page" / name).read_text(encoding="utf-8")


def _term_id(name: str) -> str:
    """Of the definition of a measure or a word: the same whatever else is on the page."""
    return f"term-{hashlib.blake2s(name.encode('utf-8', 'surrogatepass'), digest_size=6).hexdigest()}"


@cache
def environment() -> Environment:
    loader = PackageLoader("plaudit.report", "page")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    filters: dict[str, Any] = {"number": number, "shown": shown, "signed": signed, "term_id": _term_id}
    names: dict[str, Any] = {"text_limit": TEXT_LIMIT, "measure": measure}
    environment.filters.update(filters)
    environment.globals.update(names)
    return environment
