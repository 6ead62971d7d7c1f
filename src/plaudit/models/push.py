"""A run's finished model → a repository on the Hugging Face hub, in one commit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, constants, get_token
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from plaudit.errors import UserError
from plaudit.runs import card
from plaudit.runs.checkpoints import MANIFEST
from plaudit.runs.records import PROVENANCE, RunFiles
from plaudit.stages import RUNS

_REFUSED = {
    401: "the token isn't valid (any more); make a new one and log in again: hf auth login",
    403: "the token may not write there; it needs the right to write, and the name before the slash must be yours",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """What goes to the hub."""

    repository: str
    files: Mapping[str, Path]
    """Name in the repository → file; the card is not among them."""
    card: str

    @property
    def sizes(self) -> dict[str, int]:
        """Name → bytes, the card's too."""
        own = {name: path.stat().st_size for name, path in self.files.items()}
        return dict(sorted({**own, card.NAME: len(self.card.encode())}.items()))


def pack(folder: Path, repository: str, *, name: str = "model", unfinished: bool = False) -> Parcel:
    """What of a run would go, with its card; nothing is asked of the hub.

    Raises: UserError for a folder without a model of that name, for a run that has not finished (unless `unfinished`)
        and for a name that the hub doesn't take.
    """
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise UserError(f"{repository!r} can't be a repository's name: {error}") from error
    if repository.count("/") != 1:
        raise UserError(f"{repository!r}: a repository is named OWNER/NAME")
    run = folder if (folder / PROVENANCE).is_file() else folder.parent
    name = name if run == folder else folder.name
    if not (run / PROVENANCE).is_file():
        raise UserError(f"{folder} is no run folder: it has no {PROVENANCE}")
    files = RunFiles(run)
    if files.provenance["stage"] == "pipeline":
        models = ", ".join(str(path.parent) for path in sorted(run.glob("*/model"))) or "none yet"
        raise UserError(f"{run} is a pipeline; name one of its stages that have a model: {models}")
    if RUNS[files.provenance["stage"]].leaves != "model" or not (run / name / "config.json").is_file():
        raise UserError(f"{run} has no folder {name}/ with a model")
    if not files.finished and not unfinished:
        raise UserError(f"{run} has not finished; go on with `plaudit resume {run}`, or push it as it is: --unfinished")
    model = run / name
    paths = {path.relative_to(model).as_posix(): path for path in sorted(model.rglob("*")) if path.is_file()}
    written = model / card.NAME  # by the run itself, while what it was made from lay where its config says
    text = written.read_text(encoding="utf-8") if written.is_file() else card.render(run, name)
    return Parcel(
        repository=repository,
        files={key: path for key, path in paths.items() if key not in (card.NAME, MANIFEST)},
        card=text.replace(card.HERE, repository),
    )


def send(parcel: Parcel, *, public: bool = False) -> str:
    """Make the repository where there is none (private, unless `public`) and put all files into it, in one commit.

    The token is HF_TOKEN's or that of the hub's own login. Returns the address. Raises: UserError.
    """
    if not get_token():
        raise UserError("no token: set HF_TOKEN, or log in with `hf auth login`; --dry-run needs none")
    api = HfApi()
    additions = [CommitOperationAdd(key, str(path)) for key, path in parcel.files.items()]
    additions.append(CommitOperationAdd(card.NAME, parcel.card.encode()))
    try:
        url = api.create_repo(parcel.repository, private=not public, exist_ok=True)
        api.create_commit(parcel.repository, additions, commit_message="A model made by plaudit")
    except OfflineModeIsEnabled as error:
        raise UserError("HF_HUB_OFFLINE is set, so nothing can be sent; unset it") from error
    except (GatedRepoError, RepositoryNotFoundError) as error:
        raise UserError(f"{parcel.repository}: not found, or not yours to write to: {_first(error)}") from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        reason = _REFUSED.get(status, "the hub refused it")
        raise UserError(f"{parcel.repository}: {reason}: {_first(error)}") from error
    except ValueError as error:  # the card's head
        raise UserError(f"{parcel.repository}: {error}") from error
    except Exception as error:  # of sockets, names, proxies, certificates
        if not isinstance(error, OSError) and not type(error).__module__.startswith("httpx"):
            raise
        raise UserError(f"{constants.ENDPOINT} can't be reached: {_first(error)}") from error
    return str(url)


def _first(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
