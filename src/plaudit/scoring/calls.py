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
from typing import Any

RewardFunction = Callable[..., Any]

OURS = frozenset({"prompts", "completions", "completion_ids"})
"""Arguments that we make; no option may bear these names."""


def call(function: RewardFunction, arguments: Mapping[str, Any]) -> Any:
    """The function's result, awaited where it is a coroutine."""
    result = function(**arguments)
    return wait_for(result) if inspect.isawaitable(result) else result


def parameters(function: RewardFunction) -> Mapping[str, inspect.Parameter] | None:
    """The function's parameters by name; None where Python cannot tell (some functions written in C)."""
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return None


def named_parameters(function: RewardFunction) -> dict[str, inspect.Parameter]:
    """The parameters that can be given by name."""
    return {
        name: parameter
        for name, parameter in (parameters(function) or {}).items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }


def takes_any(function: RewardFunction) -> bool:
    """Whether the function takes `**columns` (or Python cannot tell)."""
    known = parameters(function)
    return known is None or any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())


def declared_columns(function: RewardFunction) -> tuple[str, ...] | None:
    """What the function says it reads (`texts.uses`); None where it says nothing."""
    return getattr(function, "data_columns", None)


def can_hang(function: RewardFunction) -> bool:
    """Whether a built-in function says that some texts may keep it for ever (`texts.may_hang`)."""
    return getattr(function, "may_hang", False)


def accepted(function: RewardFunction, names: Iterable[str]) -> set[str]:
    """Which of `names` to pass: all where the function takes `**columns`, unless it declares the columns it reads."""
    known, declared = named_parameters(function), declared_columns(function)
    if declared is not None:
        return {name for name in names if name in declared or (name in OURS and name in known)}
    return set(names) if takes_any(function) else {name for name in names if name in known}


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
