"""What holds for every test: no network, one thread, no hub, the same hypothesis settings."""

import os

# Before torch and the tokenizers are imported: two xdist workers with one thread each are faster than two with two,
# and sums are only bit-for-bit repeatable at a fixed number of threads.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"

import gc
import ipaddress
import re
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, ClassVar

import hypothesis
import jaxtyping
import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[1]

# Deadlines measure the neighbours' load, not our code; the printed blob replays a failure anywhere.
hypothesis.settings.register_profile("plaudit", deadline=None, print_blob=True)
hypothesis.settings.load_profile("plaudit")


CHECKED_ALIKE = 10
"""Calls of one function with tensors of the same shapes, in one test, that jaxtyping checks. Only loops make more (PPO
makes a thousand an iteration), where checking the same over and over would be a fifth of the time."""


class SparingConfig(type(jaxtyping.config)):
    """jaxtyping asks its configuration before each check, in a wrapper that knows `fn`, `args` and `kwargs`."""

    calls: ClassVar[Counter[tuple[object, ...]]] = Counter()

    @property
    def jaxtyping_disable(self) -> bool:
        asked = sys._getframe(1).f_locals
        given = (*asked["args"], *asked["kwargs"].values())
        call = (asked["fn"], *[value.shape for value in given if hasattr(value, "shape")])
        self.calls[call] = count = self.calls[call] + 1
        return count > CHECKED_ALIKE


jaxtyping.config.__class__ = SparingConfig

ARRAYS = re.compile(r"\b(?:Float|Int|Bool|Shaped|Num|Integer|Real)\d*\[")


class SparingDecorator:
    """Stands where jaxtyping's import hook looks for its decorator, and makes the same checks for less.

    A function without shapes is checked by beartype alone, without jaxtyping's memory of axes. A function inside
    another is made anew with each call of the other: the first one made is checked, not the thousandth.
    """

    def __init__(self) -> None:
        self.whole, self.made = jaxtyping.jaxtyped, set[CodeType]()

    def __call__(self, fn: Any = None, *, typechecker: Callable[..., Any]) -> Any:
        if fn is None:
            return partial(self, typechecker=typechecker)
        if not isinstance(fn, FunctionType):
            return self.whole(fn, typechecker=typechecker)
        if "<locals>" in fn.__qualname__:
            if fn.__code__ in self.made:
                return fn
            self.made.add(fn.__code__)
        has_shapes = any(ARRAYS.search(str(annotation)) for annotation in fn.__annotations__.values())
        return self.whole(fn, typechecker=typechecker) if has_shapes else typechecker(fn)


jaxtyping.jaxtyped = SparingDecorator()


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Every other worker imports from behind: pytest rewrites each file's asserts once and keeps what it made, so that
    each of two finds half of the files done."""
    report = yield
    if os.environ.get("PYTEST_XDIST_WORKER", "gw0")[-1] in "13579" and isinstance(collector, pytest.Directory):
        report.result.reverse()
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path)  # all workers must say the same order


def pytest_collection_finish() -> None:
    """What was imported stays: the collector needn't look through torch and transformers again and again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    SparingConfig.calls.clear()


class NetworkBlocked(RuntimeError):
    """A test tried to leave this machine."""


def _is_local(host: object) -> bool:
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if host in (None, "", "localhost"):
        return True
    try:
        return ipaddress.ip_address(str(host)).is_loopback
    except ValueError:
        return False


def _address_guard(original: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(self: socket.socket, *args: Any) -> Any:
        address = args[-1]  # connect(address), connect_ex(address), sendto(data[, flags], address)
        internet = self.family in (socket.AF_INET, socket.AF_INET6)
        if internet and not _is_local(address[0]):
            raise NetworkBlocked(f"tests have no network, but something wants to reach {address!r}")
        return original(self, *args)

    return guarded


def _name_guard(original: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(host: object, *args: Any, **kwargs: Any) -> Any:
        if not _is_local(host):
            raise NetworkBlocked(f"tests have no network, but something looks up {host!r}")
        return original(host, *args, **kwargs)

    return guarded


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a `plaudit` and a `python` (for scripts) that have torch already: tools/warm.py, one for all.

    Not for tests of a process's start, of signals to it or of its death: what is started is a client of the fork.
    """
    import fcntl  # not on Windows, which has no fork either

    root = tmp_path_factory.getbasetemp()
    folder = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "warm"
    folder.mkdir(exist_ok=True)
    with FileLock(folder / "starting"), (folder / "users").open("a") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        with socket.socket(socket.AF_UNIX) as server:
            if server.connect_ex(str(folder / "socket")):
                (folder / "socket").unlink(missing_ok=True)
                subprocess.run([sys.executable, str(ROOT / "tools" / "warm.py"), str(folder)], check=True)
        lent = os.dup(users.fileno())
    yield folder
    os.close(lent)


@pytest.fixture(autouse=True, scope="session")
def no_network() -> Iterator[None]:
    """Only AF_UNIX and loopback answer; anything else raises at once instead of waiting for a time-out."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex", "sendto"):
            patch.setattr(socket.socket, name, _address_guard(getattr(socket.socket, name)))
        patch.setattr(socket, "getaddrinfo", _name_guard(socket.getaddrinfo))
        yield


@pytest.fixture(autouse=True, scope="session")
def no_waiting_for_disks() -> Iterator[None]:
    """A kill loses nothing that was written; only a power cut would, and no test cuts the power."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(autouse=True, scope="session")
def fewer_draws() -> Iterator[None]:
    """Intervals by a fifth of the bootstrap's draws: each draw is a dozen calls whose shapes are checked."""
    with pytest.MonkeyPatch.context() as patch:
        if "torch" in sys.modules:  # or no test here computes
            for module in ("intervals", "standings"):
                patch.setattr(f"plaudit.evaluation.{module}.RESAMPLES", 40)
        yield
