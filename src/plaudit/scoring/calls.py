"""How a reward function is called: what it takes, and waiting for it where it is `async`.

`call` is the one place where somebody else's code runs: in the worker process of `isolate.py`, or in this one.
"""

import asyncio
import atexit
import functools
import inspect
import os
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

RewardFunction = Callable[..., Any]

OURS = frozenset({"prompts", "completions", "completion_ids"})
"""Arguments that we make; no option may bear these names."""


def call(function: RewardFunction, arguments: Mapping[str, Any]) -> Any:
    """The function's result, awaited where it is a coroutine."""
    result = function(**arguments)
    return wait_for(result) if inspect.isawaitable(result) else result


@dataclass(frozen=True, slots=True, kw_only=True)
class Takes:
    """What a function can be given by name."""

    parameters: Mapping[str, bool]
    """Its parameters, and whether each has a default."""
    any_name: bool
    """It takes `**columns`, or Python cannot tell (some functions written in C)."""
    columns: tuple[str, ...] | None
    """The data columns that it says it reads (`texts.uses`); None where it says nothing."""

    def accepted(self, names: Iterable[str]) -> set[str]:
        """Which of `names` to pass: all where it takes any, unless it declares the columns that it reads."""
        if self.columns is not None:
            return {name for name in names if name in self.columns or (name in OURS and name in self.parameters)}
        return {name for name in names if self.any_name or name in self.parameters}


def takes(function: RewardFunction) -> Takes:
    """Read off the signature; a function in another process brings it along."""
    if isinstance(known := getattr(function, "takes", None), Takes):
        return known
    columns = getattr(function, "data_columns", None)
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return Takes(parameters={}, any_name=True, columns=columns)
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    has_default = {p.name: p.default is not p.empty for p in named}
    return Takes(parameters=has_default, any_name=any(p.kind is p.VAR_KEYWORD for p in parameters), columns=columns)


def wait_for(awaitable: Awaitable[Any]) -> Any:
    """Run to its end on the one loop that all calls share, so that a client kept between calls stays usable."""

    async def guarded() -> Any:
        try:
            return await awaitable
        except SystemExit as error:  # it would end the loop, and every later call would wait for ever
            raise RuntimeError(f"called sys.exit({error.code!r})") from error

    future = asyncio.run_coroutine_threadsafe(guarded(), _loop(os.getpid()))
    try:
        return future.result()
    finally:
        future.cancel()  # without effect once it is done; on Ctrl-C the function stops too


@functools.cache
def _loop(process: int) -> asyncio.AbstractEventLoop:
    """An event loop in a thread of its own, started on first use; works inside a notebook's running loop too.

    One for each `process`: a forked child inherits the loop without its thread.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="plaudit-reward-functions", daemon=True)
    thread.start()

    def close() -> None:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=5.0)
        if not thread.is_alive():
            loop.close()

    atexit.register(close)
    return loop
