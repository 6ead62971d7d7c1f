"""A finished model's card: `README.md` beside its weights, with front matter that the Hugging Face hub reads.

All of it comes from run folders: this one's, and those that it names (the base it began from, its judges, whoever wrote
its data), so that the card of a PPO policy has the results of SFT and of the reward model too.
"""

from __future__ import annotations

import contextlib
import functools
import re
import shlex
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from plaudit.errors import UserError
from plaudit.files import atomic_write
from plaudit.records.results import Result
from plaudit.runs.lineage import ancestors, locate
from plaudit.runs.records import RunFiles, read_json
from plaudit.stages import RUNS
from plaudit.telemetry.console import warn
from plaudit.telemetry.numbers import number
from plaudit.telemetry.register import measure_of
from plaudit.telemetry.summary import read_results

if TYPE_CHECKING:
    from jinja2 import Template

NAME = "README.md"
HERE = "path/to/this/model"
"""Stands in the card's commands until `plaudit push` knows the repository's name."""
LICENCE_KEYS = ("license", "license_name", "license_link")
_MOST_RESULTS = 60


def write(folder: Path, summary: Mapping[str, Any]) -> None:
    """README.md of the run's models, atomically; nothing where the run leaves none. `summary`: what summary.json says,
    or is about to say. A card that can't be written costs a warning: it must never cost the run."""
    try:
        for name in ("model", "best"):
            if (folder / name).is_dir() and RUNS[RunFiles(folder).provenance["stage"]].leaves == "model":
                atomic_write(folder / name / NAME, render(folder, name, summary))
    except Exception as error:
        warn(f"{folder}: its model gets no card ({NAME}): {type(error).__name__}: {error}")


def render(folder: Path, name: str = "model", summary: Mapping[str, Any] | None = None) -> str:
    """The card of the run's model of that name, as Markdown."""
    content = facts(folder, name, summary) | {"measure_of": measure_of}
    return _private(_template().render(content))


@functools.cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    text = resources.files("plaudit.runs").joinpath("card.md.jinja").read_text(encoding="utf-8")
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {"cell": _cell, "number": number, "interval": _interval}
    return environment.from_string(text)


def facts(folder: Path, name: str, summary: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the template speaks of."""
    files = RunFiles(folder)
    provenance = files.provenance
    summary = files.summary if summary is None else summary
    own = read_json(folder / name / "plaudit.json")
    architecture = next(iter(read_json(folder / name / "config.json").get("architectures") or ()), "")
    base = provenance.get("base", {})
    stage = provenance["stage"]
    earlier = [known for path in _before(folder, files.config) if (known := _earlier(path)) is not None]
    return {
        "front_matter": yaml.safe_dump(_front_matter(stage, base, architecture, provenance), sort_keys=False).strip(),
        "name": f"{folder.absolute().name}: {RUNS[stage].title}",
        "stage": stage,
        "kind": own.get("kind", "policy"),
        "objective": own.get("objective", ""),
        "loads": _loads(stage, architecture),
        "architecture": architecture,
        "base": base,
        "is_best": name == "best",
        "data": [_data(path, sha256, folder) for path, sha256 in provenance.get("data", {}).items()],
        "stages": [*earlier, _stage(folder, summary)],
        "health": summary.get("health"),
        "finished": bool(summary),
        "adapter": (folder / name / "adapter").is_dir(),
        "command": shlex.join(provenance["command"]),
        "versions": {key: provenance["versions"][key] for key in ("plaudit", "torch", "transformers")},
        "commit": provenance.get("plaudit_commit", ""),
        "config": yaml.safe_dump(files.config, sort_keys=False, allow_unicode=True).strip(),
        "here": HERE,
    }


def _before(folder: Path, config: Mapping[str, Any]) -> list[Path]:
    """Finished runs that it was made from, the oldest first."""

    def read(run: Path) -> Mapping[str, Any] | None:
        try:
            return RunFiles(run).config
        except UserError:
            return None

    return [run for run in ancestors({folder: config}, read, locate) if RunFiles(run).finished]


def _earlier(folder: Path) -> dict[str, Any] | None:
    """None for a run that this version can't read: a card does without it."""
    try:
        known = _stage(folder, RunFiles(folder).summary)
        for result in known["results"]:
            measure_of(result.measure)
    except (UserError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return known


def front_matter(text: str) -> dict[str, Any]:
    """The YAML at the head of a card; nothing where there is none that can be read."""
    head = re.match(r"\A\ufeff?---\r?\n(.*?)\r?\n---", text, re.DOTALL)
    try:
        content = yaml.safe_load(head[1]) if head else {}
    except yaml.YAMLError:
        return {}
    return content if isinstance(content, dict) else {}


def _stage(folder: Path, summary: Mapping[str, Any]) -> dict[str, Any]:
    stage = RunFiles(folder).provenance.get("stage", "")
    results: list[Result] = read_results(summary) if summary else []
    return {
        "title": RUNS[stage].title if stage in RUNS else stage,
        "folder": folder.absolute().name,
        "results": results[:_MOST_RESULTS],
        "health": summary.get("health", {}).get("level", ""),
        "left_out": max(len(results) - _MOST_RESULTS, 0),
    }


def _front_matter(
    stage: str, base: Mapping[str, Any], architecture: str, provenance: Mapping[str, Any]
) -> dict[str, Any]:
    judges = stage == "reward"
    loads = _loads(stage, architecture)
    hub = [
        path.removeprefix("hub:").partition(":")[0] for path in provenance.get("data", {}) if path.startswith("hub:")
    ]
    return {
        **{key: base[key] for key in LICENCE_KEYS if base.get(key)},
        **({"base_model": base["base_model"]} if base.get("base_model") else {}),
        "library_name": "transformers" if loads else "plaudit",
        "pipeline_tag": "text-classification" if judges else "text-generation",
        **({"datasets": hub} if hub else {}),
        "tags": ["plaudit", "rlhf", {"sft": "sft", "reward": "reward-model"}.get(stage, stage)],
    }


def _loads(stage: str, architecture: str) -> str:
    """As what other libraries read it: `policy`, `classifier`, or nothing they know."""
    if stage == "reward":
        return "classifier" if architecture.endswith("ForSequenceClassification") else ""
    return "policy"


def _data(path: str, sha256: str, run: Path) -> dict[str, str]:
    """What was read; its licence is that of the card beside the file, or in the folder, as data sets of the hub have
    one."""
    card: dict[str, Any] = {}
    if there := locate(path, run):
        with contextlib.suppress(OSError, ValueError):
            card = front_matter(((there if there.is_dir() else there.parent) / NAME).read_text(encoding="utf-8"))
    licence = card.get("license", "")
    return {
        "path": path,
        "sha256": sha256,
        "licence": ", ".join(licence) if isinstance(licence, list) else str(licence),
    }


def _interval(result: Result) -> str:
    return "" if result.low is None else f"{number(result.low)} … {number(result.high)}"


def _cell(value: Any) -> str:
    """Text that can't break out of a table's cell."""
    return " ".join(str(value).replace("|", "\\|").split())


@functools.cache
def _home() -> str:
    return str(Path.home())


def _private(text: str) -> str:
    """Without the user's home folder: a card is shown to others."""
    return text if _home() in ("/", "") else re.sub(rf"{re.escape(_home())}(?=[/\s'\"`|]|$)", "~", text)


def licence_facts(card: str) -> dict[str, Any]:
    """What a base's card says of its licence, and of what it was made from."""
    content = front_matter(card)
    known = {key: str(content[key]) for key in LICENCE_KEYS if content.get(key)}
    return known | ({"base_model": content["base_model"]} if content.get("base_model") else {})
