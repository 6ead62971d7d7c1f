"""Find a reward function by what the user wrote: a built-in name, `module:function`, or `path.py:function`.

Loading executes the named file or module: only what the user names is ever loaded, nothing from a checkpoint.
"""

import contextlib
import difflib
import functools
import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from plaudit.config.objects import behind
from plaudit.errors import UserError
from plaudit.scoring.builtin import BUILTIN
from plaudit.scoring.calls import RewardFunction


def load_function(spec: str) -> RewardFunction:
    """The function that `spec` names, or that stands behind it; paths are relative to the working folder.

    Raises: UserError saying what was not found.
    """
    if (function := behind(spec)) is not None:
        return function
    source, colon, name = spec.rpartition(":")
    if not colon:
        if spec not in BUILTIN:
            hint = near(spec, BUILTIN) or f"; there are {', '.join(BUILTIN)}"
            own = "your own: `module:function` or `path.py:function`"
            raise UserError(f"no built-in reward function {spec!r} ({own}){hint}")
        return BUILTIN[spec]
    if not source or not name:
        raise UserError(f"reward function {spec!r}: write `module:function` or `path.py:function`")
    is_file = source.endswith(".py") or "/" in source or "\\" in source
    module = _module_of_file(source, spec) if is_file else _module_of_name(source, spec)
    return _function_of(module, name, spec)


def file_of(spec: str) -> Path | None:
    """The file that `spec` names, or in which its module stands; None for built-in functions and Python objects."""
    source, colon, _ = spec.rpartition(":")
    if behind(spec) is not None or not colon or source.startswith("plaudit."):
        return None
    path = Path(source).expanduser()
    if not (source.endswith(".py") or "/" in source or "\\" in source):
        with _importing_from(Path.cwd()), contextlib.suppress(ImportError, ValueError, AttributeError):
            module = importlib.util.find_spec(source)
            path = Path(module.origin) if module is not None and module.origin else Path()
    return path if path.is_file() else None


def near(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or nothing where no known name is near."""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""


def _function_of(module: ModuleType, name: str, spec: str) -> RewardFunction:
    if not hasattr(module, name):
        functions = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        there = near(name, functions) or f"; it has {', '.join(functions) or 'no function at all'}"
        raise UserError(f"reward function {spec!r}: {module.__file__ or module.__name__} has no {name!r}{there}")
    function = getattr(module, name)
    if isinstance(function, type) or not callable(function):
        what = "a class" if isinstance(function, type) else f"of type {type(function).__name__}"
        raise UserError(f"reward function {spec!r}: {name!r} is {what}, not a function")
    return function


def _module_of_file(source: str, spec: str) -> ModuleType:
    path = Path(source).expanduser()
    if not path.is_file():
        folder = path.parent
        beside = [file.name for file in folder.glob("*.py")] if folder.is_dir() else []
        raise UserError(f"reward function {spec!r}: there is no file {path.absolute()}{near(path.name, beside)}")
    path = path.resolve()
    with _explained(spec, f"loading {path}"):
        return _executed(path, path.stat().st_mtime_ns)


@functools.cache
def _executed(path: Path, changed: int) -> ModuleType:
    """The file as a module, executed once however many functions are taken from it; again when it has `changed`."""
    name = f"plaudit_rewards_{hashlib.sha256(str(path).encode('utf-8', 'surrogateescape')).hexdigest()[:12]}"
    description = importlib.util.spec_from_file_location(name, path)
    if description is None or description.loader is None:
        raise ImportError(f"{path.name} is not a Python file")
    module = importlib.util.module_from_spec(description)
    sys.modules[name] = module  # dataclasses and the like look their own module up
    try:
        with _importing_from(path.parent):
            description.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _module_of_name(source: str, spec: str) -> ModuleType:
    with _explained(spec, f"importing {source}"), _importing_from(Path.cwd()):
        try:
            return importlib.import_module(source)
        except ModuleNotFoundError as error:
            if error.name is not None and (source == error.name or source.startswith(error.name + ".")):
                raise UserError(f"reward function {spec!r}: there is no module {error.name!r}") from error
            raise


@contextmanager
def _importing_from(folder: Path) -> Generator[None]:
    """What lies beside the file can be imported by it, as if it were run as a script."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        if str(folder) in sys.path:
            sys.path.remove(str(folder))


@contextmanager
def _explained(spec: str, doing: str) -> Generator[None]:
    """What the user's code raises, as a UserError with the line that raised it."""
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<frozen")]
        position = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
        reason = f"{type(error).__name__}: {error}{position}"
        raise UserError(f"reward function {spec!r}: {doing} failed: {reason}") from error
