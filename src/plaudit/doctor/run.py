"""Examine the stages of a config or a pipeline: files and options of all of them first, then one stage after the other
with what it runs."""

from __future__ import annotations

import contextlib
import re
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from plaudit.config.load import load_config, read_plain
from plaudit.config.types import field_types
from plaudit.doctor.checks import CHECKS, FOLLOWS
from plaudit.doctor.examined import Examined, overheard
from plaudit.doctor.findings import Check, Cost, Diagnosis, Finding, NotRunError, Severity, ShownRow, error
from plaudit.doctor.inputs import KnownStage, Library, data_uses
from plaudit.errors import UserError
from plaudit.pipeline import PipelineConfig, plan
from plaudit.runs.folder import Run
from plaudit.stages import STAGES
from plaudit.telemetry.console import warn

AT_START_ROWS, AT_START_BYTES = 2000, 100_000_000
"""What the checks of a stage's start read of a file, and of how large files: with more they would take longer than two
seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckSelection:
    """Which checks are made."""

    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    quick: bool = False

    def __post_init__(self) -> None:
        names = [check.name for check in CHECKS]
        if unknown := [name for name in (*self.only, *self.skip) if name not in names]:
            raise UserError(f"no check is called {unknown[0]!r}; there are: {', '.join(names)}")

    def checks(self, kind: str, *costs: Cost) -> list[Check]:
        """In their order."""
        return [
            check
            for check in CHECKS
            if kind in check.stages
            and check.cost in costs
            and (not self.only or check.name in self.only)
            and check.name not in self.skip
        ]


def diagnose(
    path: Path,
    options: Sequence[str] = (),
    *,
    stage: str = "",
    out: Path | None = None,
    selection: CheckSelection | None = None,
    show: Callable[[Diagnosis], None] = lambda diagnosis: None,
) -> list[Diagnosis]:
    """What the checks say of a config or pipeline file, stage by stage; `show` is called with each as it is done.

    `out`: the folder in which it will run, whose finished stages are used. Raises: UserError for a file that can't be
    read.
    """
    selection, out = selection or CheckSelection(), out or Path("runs") / path.stem
    with _known_stages(path, options, stage, out) as (stages, stand_ins):
        return [show(one) or one for one in _examine(stages, stand_ins, out, selection)]


def _examine(
    stages: Sequence[KnownStage], folders: dict[str, Path], out: Path, selection: CheckSelection
) -> Iterator[Diagnosis]:
    library = Library()
    stand_ins: list[Path] = []
    every: list[tuple[KnownStage, _Record]] = []
    for stage in stages:
        folder = folders.get(stage.name)
        examined = Examined(stage, library=library, out=out)
        record = _Record(stage)
        record.make(examined, selection.checks(stage.kind, Cost.STATIC))
        every.append((stage, record))
        if folder is not None and stage.kind in ("world", "openings") and not folder.exists():
            record.add("files", _run_data_stage(stage, folder))
    for stage, record in every:
        examined = Examined(stage, library=library, out=out, stand_ins=stand_ins, whole=not selection.quick)
        costs = (Cost.CHEAP,) if selection.quick else (Cost.CHEAP, Cost.RUNNING)
        record.make(examined, selection.checks(stage.kind, *costs))
        folder = folders.get(stage.name)
        if folder is not None and not folder.exists() and not selection.quick and _leave(examined, folder):
            stand_ins.append(folder)
        yield record.diagnosis(_rows(examined))


def examine(examined: Examined, checks: Sequence[Check]) -> Diagnosis:
    """Some checks of one stage."""
    record = _Record(examined.stage)
    record.make(examined, checks)
    return record.diagnosis()


def at_start(kind: str, config: Any, folder: Path) -> None:
    """The checks that every start makes: no torch, under two seconds. One warning for each finding."""
    library = Library(AT_START_ROWS)
    is_pipeline = isinstance(config, PipelineConfig)
    for stage in _planned(config, folder) if is_pipeline else [KnownStage(name=kind, kind=kind, config=config)]:
        paths = [Path(use.config.path) for use in data_uses(stage.kind, stage.config)]
        checks = [check for check in CheckSelection().checks(stage.kind, Cost.STATIC) if check.at_start]
        if sum(path.stat().st_size for path in paths if path.is_file()) > AT_START_BYTES:
            checks = [check for check in checks if check.name == "learning-rate"]
        for finding in examine(Examined(stage, library=library, out=folder), checks).faults:
            # Held-out rows of the stage's own are looked at by itself.
            if finding.level is Severity.WARNING and not re.search(r"by this stage \([^)]*\): ", finding.message):
                name = f"{stage.name}: " if is_pipeline else ""
                warn(f"{name}{finding.where}: {finding.message}; {finding.remedy}")


class _Record:
    """What the checks of a stage have said so far."""

    def __init__(self, stage: KnownStage) -> None:
        self.stage = stage
        self.findings: list[Finding] = []
        self.not_run: list[tuple[str, str]] = []
        self.checks: list[str] = []
        self.seconds = 0.0

    def make(self, examined: Examined, checks: Sequence[Check]) -> None:
        began = time.monotonic()
        for check in checks:
            try:
                self.add(check.name, check.function(examined))
                self.checks.append(check.name)
            except NotRunError as why:
                self.not_run.append((check.name, self._named(str(why))))
            except Exception as fault:  # what fails here would fail in the run
                kind = "" if isinstance(fault, UserError) else f"{type(fault).__name__}: "
                self.add(check.name, [error("", f"{kind}{fault}")])
                self.checks.append(check.name)
        self.seconds += time.monotonic() - began

    def add(self, check: str, findings: Iterator[Finding] | Sequence[Finding]) -> None:
        """Each thing once, whichever check says it first; nothing that follows from what is as bad."""
        follows = FOLLOWS.get(check, ())
        causes = [one.level.rank for one in self.findings if one.check in follows and one.level is not Severity.NOTE]
        for one in findings:
            finding = replace(one, where=self._named(one.where), message=self._named(one.message))
            messages = [one.message for one in self.findings if one.level is finding.level]
            is_known = any(finding.message in message or message in finding.message for message in messages)
            is_explained = one.level is not Severity.NOTE and one.level.rank <= max(causes, default=-1)
            if not is_known and not is_explained:
                self.findings.append(replace(finding, check=check, stage=self.stage.name))

    def _named(self, text: str) -> str:
        """Of a pipeline's stages their names, as its file has them, in place of temporary folders."""
        for folder, stage in self.stage.before.items():
            text = text.replace(str(folder), f"${{{stage.name}}}")
        return text

    def diagnosis(self, rows: Sequence[ShownRow] = ()) -> Diagnosis:
        return Diagnosis(
            stage=self.stage.name,
            kind=self.stage.kind,
            findings=tuple(self.findings),
            not_run=tuple(self.not_run),
            checks=tuple(self.checks),
            rows=tuple(replace(row, where=self._named(row.where)) for row in rows),
            seconds=self.seconds,
        )


def _run_data_stage(stage: KnownStage, folder: Path) -> list[Finding]:
    """Run a stage that makes data, which takes no model."""
    try:
        with overheard([]), Run.create(folder, stage.kind, stage.config) as run:
            STAGES[stage.kind].function(stage.config, run)
    except UserError as fault:
        return [error("", str(fault))]
    return []


def _rows(examined: Examined) -> tuple[ShownRow, ...]:
    from plaudit.doctor.checks.tokens import shown_rows

    return shown_rows(examined)


def _leave(examined: Examined, folder: Path) -> bool:
    from plaudit.doctor.stand_ins import leave

    return leave(examined, folder)


# -------------------------------------------------------------------------------------------------- what is examined


@contextlib.contextmanager
def _known_stages(
    path: Path, options: Sequence[str], named: str, out: Path
) -> Generator[tuple[list[KnownStage], dict[str, Path]]]:
    """The stages, and for those of a pipeline the folder in which each leaves its product for the others: a temporary
    one, in which finished stages are links."""
    if not path.is_file():
        raise UserError(f"{path}: no such config file")
    if not named and "stages" in read_plain(path):
        config = load_config(PipelineConfig, path, options)
        with tempfile.TemporaryDirectory(prefix="plaudit-doctor-") as temporary:
            root = Path(temporary).resolve()
            stages = _planned(config, root)
            folders = {one.name: one.folder for one in plan(config, root)}
            for real in plan(config, out):
                if (real.folder / "summary.json").is_file():
                    folders[real.name].symlink_to(real.folder.resolve(), target_is_directory=True)
            yield stages, folders
        return
    kind = named or _kind_of(path, options)
    if kind not in STAGES:
        raise UserError(f"--stage {kind}: there is no such stage; there are: {', '.join(STAGES)}")
    yield [KnownStage(name=kind, kind=kind, config=load_config(STAGES[kind].config_class, path, options))], {}


def _planned(config: PipelineConfig, folder: Path) -> list[KnownStage]:
    known: dict[Path, KnownStage] = {}
    for one in plan(config, folder):
        known[one.folder] = KnownStage(name=one.name, kind=one.kind, config=one.config, before=dict(known))
    return list(known.values())


def _kind_of(path: Path, options: Sequence[str]) -> str:
    """The stage whose options a file holds; of fine-tuning and reward models, which share theirs, the one whose rows
    the data are. UserError where that can't be told."""
    fits: dict[str, Any] = {}
    refusals: dict[str, str] = {}
    for kind, stage in STAGES.items():
        try:
            fits[kind] = load_config(stage.config_class, path, options)
        except UserError as fault:
            refusals[kind] = str(fault)
    if len(fits) > 1:
        readable = {kind for kind, config in fits.items() if _serves(kind, config)}
        fits = {kind: config for kind, config in fits.items() if kind in readable} or fits
    if len(fits) == 1:
        return next(iter(fits))
    if fits:
        raise UserError(f"{path} could be a config of {' or '.join(fits)}; say --stage {next(iter(fits))}")
    keys = read_plain(path).keys()
    near = {
        kind: len(keys & field_types(STAGES[kind].config_class).keys()) + refusal.count("did you mean")
        for kind, refusal in refusals.items()
    }
    nearest = path.stem if path.stem in refusals else max(near, key=lambda kind: (near[kind], _fewest(refusals[kind])))
    raise UserError(f"{refusals[nearest]}\n({path} read as a config of {nearest}; --stage says another.)")


def _fewest(refusal: str) -> int:
    """Greater for a refusal that names fewer mistakes."""
    return -refusal.count("\n")


def _serves(kind: str, config: Any) -> bool:
    """Whether the stage's own kinds of rows are what its data files hold."""
    library, uses = Library(), data_uses(kind, config)
    try:
        return bool(uses) and library.read(uses[0]).kind_found in (*uses[0].kinds, *_also(kind))
    except UserError:
        return False


def _also(kind: str) -> tuple[str, ...]:
    return ("comparison",) if kind == "reward" else ()
