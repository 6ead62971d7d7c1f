"""`plaudit label`: its arguments, and which function of `web.label.project` they call."""

import argparse
from pathlib import Path
from typing import Any, get_args

from plaudit.errors import UserError
from plaudit.feedback.options import Mode, ProjectConfig

EXAMPLES = """examples:
  plaudit label --demo                                two minutes to see it: small tasks, one link, no model
  plaudit label candidates.jsonl --overlap 2          make candidates.db of a file's answers, and serve its pages
  plaudit label runs/sft --samples 6                  its model writes answers while people rank them
  plaudit label runs/compare --mode two               people judge two policies blind
  plaudit label candidates.db                         go on with a project
  plaudit label results                               which policy people prefer, for the report of runs/compare
  plaudit label invite ann                            a secret link for ann (revoke ann ends it)
  plaudit label import theirs.json                    Label Studio's, Argilla's, Potato's rankings
  plaudit label export --out rankings.jsonl           what people said, as `plaudit reward` reads it
  plaudit label backup copy.db                        the whole project, while people go on working
"""


def add_label(commands: Any) -> None:
    label = commands.add_parser(
        "label",
        help="people rank answers in a browser: a page for labellers, one for their lead",
        description="Serve the pages of a labelling project until Ctrl-C; without a project it makes one of the data.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    acts = "invite, revoke, results, import, export, backup"
    what = f"a project (FILE.db or postgresql://…), data files, run folders; or {acts}"
    label.add_argument("what", nargs="*", metavar="PROJECT|DATA|RUN", help=what)
    label.add_argument("--demo", action="store_true", help="small built-in tasks in a project that is gone afterwards")
    label.add_argument("--project", default="", metavar="FILE", help="where all is kept (default: the data's name)")
    label.add_argument("--gold", action="append", default=[], metavar="DATA", help="rankings known to be right")
    _add_project(label.add_argument_group("the project"))
    live = label.add_argument_group("answers of a run's model")
    live.add_argument("--samples", type=int, default=0, help="how many it writes to each prompt; 0: none")
    live.add_argument(
        "--prompts", action="append", default=[], metavar="DATA", help="default: the first file of the run's"
    )
    live.add_argument("--max_new_tokens", type=int, help="of each answer")
    live.add_argument("--temperature", type=float)
    net = label.add_argument_group("the server")
    net.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in (default: this one only)")
    net.add_argument("--port", type=int, help="default: 8300, or any free one")
    net.add_argument("--public", default="", metavar="URL", help="how people reach it through a proxy or a tunnel")
    other = label.add_argument_group("invite and export")
    other.add_argument("--lead", action="store_true", help="invite: a lead, who sees everything")
    forms = "export: rankings (default), merged, ratings, label-studio, argilla, potato"
    other.add_argument("--form", default="rankings", help=forms)
    other.add_argument("--out", default="", help="export: file (default: print)")
    label.set_defaults(call=_label)


def _add_project(group: Any) -> None:
    """The options of `ProjectConfig`; what isn't given stays as it is in an existing project."""
    group.add_argument("--name", help="shown to labellers")
    group.add_argument("--guidelines", metavar="FILE", help="Markdown, shown beside every task")
    group.add_argument("--mode", choices=get_args(Mode), help="all answers in order (default), or two compared")
    group.add_argument("--scalar", action=argparse.BooleanOptionalAction, help="each answer also gets 1 to 7")
    group.add_argument("--flags", nargs="+", help="yes-or-no questions about each answer, such as harmful")
    group.add_argument("--overlap", type=int, help="labellers of each task (default: 1)")
    group.add_argument("--gold_share", type=float, help="share of a labeller's tasks that are gold (default: 0.1)")
    group.add_argument("--daily_target", type=int, help="tasks a day")
    group.add_argument("--lease_minutes", type=float, help="how long a task waits for whoever opened it (default: 30)")
    group.add_argument("--seed", type=int, help="of the order in which answers are shown")


def _label(known: argparse.Namespace) -> int:
    project = _needs_serve()
    address = {"host": known.host, "port": known.port, "public": known.public}
    match known.what:
        case _ if known.demo:
            project.demo(address)
        case ["invite" | "revoke" | "results" | "import" | "export" | "backup", *rest]:
            _act(known, known.what[0], rest)
        case sources:
            urls = [name for name in sources if project.is_project(name)]
            files = [name for name in sources if name not in urls]
            url = project.project_named(known.project or "".join(urls[:1]), files)
            sampling = {name: getattr(known, name) for name in ("max_new_tokens", "temperature")}
            project.label(
                url,
                files,
                _options(known),
                gold=known.gold,
                samples=known.samples,
                prompts=known.prompts,
                sampling={name: value for name, value in sampling.items() if value is not None},
                address=address,
            )
    return 0


def _needs_serve() -> Any:
    try:
        from plaudit.web.label import project
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is missing; this command needs: pip install 'plaudit[serve]'") from error
    return project


def _act(known: argparse.Namespace, act: str, rest: list[str]) -> None:
    project = _needs_serve()
    from plaudit.data.options import DataConfig
    from plaudit.feedback.exchange import import_labels
    from plaudit.feedback.store import Store

    wanted = act not in ("export", "results")
    if len(rest) != wanted:
        usage = f"plaudit label {act}" + " NAME" * wanted
        raise UserError(f"{usage} [--project FILE]: takes {'one' if wanted else 'no'} name")
    url = project.project_named(known.project)
    match act:
        case "invite":
            print(project.invite(url, rest[0], lead=known.lead, public=known.public, port=known.port))
        case "revoke":
            Store.open(url).revoke(rest[0])
        case "import":
            tasks, judgements = import_labels(Store.open(url), DataConfig(path=rest[0]))
            print(f"{rest[0]}: {tasks} tasks and {judgements} judgements are new in {url}")
        case "results":
            project.results(Store.open(url))
        case "backup":
            Store.open(url).backup(rest[0])
        case _:
            project.export(url, known.form, known.out)


def _options(known: argparse.Namespace) -> dict[str, Any]:
    values = {name: getattr(known, name) for name in ProjectConfig.__dataclass_fields__}
    options = {name: value for name, value in values.items() if value is not None}
    if path := options.get("guidelines"):
        try:
            options["guidelines"] = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--guidelines: cannot read {path}: {error}") from error
    return options
