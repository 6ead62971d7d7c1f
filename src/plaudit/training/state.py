"""What a run must remember to go on exactly: a checkpoint's payload, and the frame every trainer runs in."""

import contextlib
import hashlib
import json
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from plaudit.data.clean import overlap
from plaudit.data.options import DataConfig
from plaudit.data.sources import load
from plaudit.data.splits import split_files
from plaudit.errors import SaveFailed, StopRequested, UserError
from plaudit.hardware.ranks import ALONE, Ranks, fingerprint
from plaudit.models.beside import base_facts
from plaudit.models.checkpoint import export, load_training_state, save_training_state, training_bytes
from plaudit.models.load import Loaded
from plaudit.records.text import KIND_OF, Row
from plaudit.runs.folder import Run
from plaudit.telemetry.console import say, warn
from plaudit.training.options import DescentConfig

R = TypeVar("R", bound=Row)
STATE_JSON = "state.json"


def load_data(run: Run, sources: Sequence[DataConfig], *records: type[R]) -> list[tuple[R, ...]]:
    """The rows of each file. A resumed run refuses files that are not what they were."""
    loaded = [load(source, *(KIND_OF[record] for record in records)) for source in sources]
    for source, one in zip(sources, loaded, strict=True):
        say(f"{source.path}: {one}")
    run.check_data(dict(item for one in loaded for item in one.fingerprints.items()))
    return [cast(tuple[R, ...], one.rows) for one in loaded]


def load_split(
    run: Run, config: DescentConfig, *learned: type[R], measured: Sequence[type[R]] = ()
) -> tuple[list[tuple[R, ...]], list[R]]:
    """Training rows of each file, and the held-out rows: of their own files, or set aside by hash of the prompt.

    `learned` are the records that are trained on; held-out files may hold `measured` ones instead (one for all files).
    """
    rows = load_data(run, config.data, *learned)
    if config.held_out:
        aside = [row for source in load_data(run, config.held_out, *(measured or learned)) for row in source]
        if len({type(row) for row in aside}) > 1:
            raise UserError("held_out: the files hold labels of different kinds; measure them one after the other")
        shared = overlap([row for source in rows for row in source], aside)
        if shared.prompts:
            warn(f"held_out: {shared.prompts} of its prompts are also trained on, e.g. {shared.examples[0]}")
        return rows, aside
    if not config.held_out_fraction:
        return rows, []
    paths = [source.path for source in config.data]
    parts = split_files(rows, config.held_out_fraction, config.seed, paths)
    for path, (_, aside) in zip(paths, parts, strict=True):
        if not aside:
            say(f"{path}: none of its rows is held out")
    return [trained for trained, _ in parts], [row for _, aside in parts for row in aside]


def check_weights(run: Run, name: str, parameters: Iterable[Tensor]) -> None:
    """A resumed run refuses a handed-in model whose `parameters`, which no checkpoint holds, are not what they were."""
    run.check_data({name: hashlib.sha256(json.dumps(fingerprint(parameters)).encode()).hexdigest()})


def save(
    run: Run,
    step: int,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: Mapping[str, Any],
    tensors: Mapping[str, Tensor] | None = None,
) -> None:
    """Commit a checkpoint: weights, optimiser, `state` (cursor and counters, JSON), and what else there is in tensors.

    The number of metric lines is kept too, so that a resumed run's log continues where its weights do. The state is the
    same on all ranks, which is checked: the first writes it, and a run may go on with another number of them.
    """
    run.ranks.check_same("the weights", fingerprint(module.parameters()))
    if not run.saves:
        return
    with run.checkpoint(step) as folder:
        save_training_state(folder, module, optimizer)
        if tensors:
            # Cloned: a file may not hold one tensor under two names.
            copies = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
            save_file(copies, folder / "extra.safetensors")
        facts = {**state, "metrics_lines": run.metrics_lines}
        (folder / STATE_JSON).write_text(json.dumps(facts), encoding="utf-8")


def restore(run: Run, module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Load the newest checkpoint into module and optimiser; what `save` was given comes back. Empty for a new run.

    Raises: UserError where the checkpoint is damaged, or holds another model's parameters, and where the disk has no
        room for another one.
    """
    run.check_space(training_bytes(module))
    folder = run.latest()
    if folder is None:
        run.truncate_metrics(0)
        run.ranks.check_same("the initial weights", fingerprint(module.parameters()))
        return {}, {}
    try:
        load_training_state(folder, module, optimizer)
    except ValueError as error:
        raise UserError(f"{error}. A resumed run keeps its model, tokenizer and trained part.") from error
    state = json.loads((folder / STATE_JSON).read_text(encoding="utf-8"))
    run.truncate_metrics(state.pop("metrics_lines"))
    iteration = state.get("cursor", {}).get("iteration")
    where = "" if iteration is None else f", iteration {iteration + 1}"
    say(f"{run.stage}: going on from checkpoint {folder.name}{where}")
    extra = Path(folder) / "extra.safetensors"
    return state, load_file(extra) if extra.is_file() else {}


def save_policy(run: Run, loaded: Loaded, name: str = "model") -> None:
    """Write the policy as a model folder of the run."""
    note_base(run)
    if run.saves:
        with run.save_model(name) as folder:
            export(folder, loaded, {"kind": "policy", "stage": run.stage})


def note_base(run: Run) -> None:
    """Write down what the run began from and under which licence that stands, for the model's card."""
    base = base_facts(str(run.config.get("model", {}).get("path", "")))
    if base != run.provenance.get("base"):
        run.add_provenance({"base": base})


def keep_batch(
    run: Run, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], not_finite: str = "NaN or infinity"
) -> None:
    """Write down the batch of a step that could not be taken, to be looked at: batch.json and batch.safetensors."""
    with run.keep_batch(step) as folder:
        if tensors:
            save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, folder / "batch.safetensors")
        (folder / "batch.json").write_text(json.dumps(dict(facts), ensure_ascii=False), encoding="utf-8")
    where = f" Its batch lies in {run.folder}/skipped/{step:06d}" if run.saves else ""
    warn(f"optimiser step {step + 1} was not taken: {not_finite}.{where}")


@contextlib.contextmanager
def saved_on_stop(save_now: Callable[[], None], run: Run, ranks: Ranks = ALONE) -> Generator[None]:
    """SIGINT and SIGTERM end the block at a safe point (`run.check_stop`); what was done is saved first. So it is where
    a mistake comes up on the way, such as a judge's: of a single process, since others may not know of it.
    """
    try:
        yield
    except StopRequested:
        save_now()
        raise
    except UserError as error:
        if ranks.is_alone and run.saves and run.metrics_lines and not isinstance(error, SaveFailed):
            with contextlib.suppress(UserError):
                save_now()
                say(f"what was learned until here is saved in {run.folder}")
        raise
