"""A vLLM server from outside: requests with deadlines, what it must say of itself, and how one is started.

What plaudit needs of it beyond generation (new weights, their version, its settings) are routes that vLLM has in
development mode only. They let anyone who can reach the server load any file: it belongs on 127.0.0.1 or behind a wall.
"""

import contextlib
import functools
import http.client
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import weakref
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import IO, Any, TypeVar

from plaudit.engines.options import VllmHttpConfig
from plaudit.errors import UserError

DEV_MODE = "VLLM_SERVER_DEV_MODE"
PAUSE_SECONDS = 0.5
"""Between two tries to reach a server that doesn't answer."""
CONNECT_SECONDS = 5.0
"""The longest that one try may wait for a connection, which nothing can interrupt."""
LISTEN_SECONDS = 0.2
"""So often a wait for answers looks whether the run is to stop."""
NOBODY = frozenset({502, 503, 504})
"""Statuses by which something in front of a server says that nothing answers there."""
FLAGS = (
    *("--load-format", "dummy", "--generation-config", "vllm", "--logprobs-mode", "processed_logprobs"),
    *("--hf-overrides", '{"tie_word_embeddings": false}'),
)
"""Weights come from the trainer, so none are read first. Sampling defaults are nobody's. Log-probs are those of the
distribution that was sampled, temperature and all. The output matrix is its own even where the model ties it to the
embeddings: on CPUs vLLM keeps a repacked copy of a tied one, which new weights don't reach."""
LOG = "server.log"
_DIES_WITH_US = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15); "
    "os.execv(sys.executable, [sys.executable, '-m', 'vllm.entrypoints.openai.api_server', *sys.argv[1:]])"
)
"""PR_SET_PDEATHSIG: the kernel ends the server when this process is gone, however it went."""


T = TypeVar("T")


class Unreachable(Exception):
    """No whole answer: nobody listens, or the connection broke."""


class VllmRefuses(UserError):
    """The server answered with a status of 400 or above."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def command(model: str, *, longest: int, python: str = "python", dtype: str = "float32") -> list[str]:
    """What starts a server that plaudit can use; in an environment with `VLLM_SERVER_DEV_MODE=1`.

    Args: `model`: folder or hub name of the policy, for shape and tokenizer; `longest`: tokens of prompt and answer.
    """
    module = ("-m", "vllm.entrypoints.openai.api_server")  # the CPU build's `vllm serve` looks for another package
    return [
        python,
        *module,
        "--model",
        model,
        "--host",
        "127.0.0.1",
        "--max-model-len",
        str(longest),
        "--dtype",
        dtype,
        *FLAGS,
    ]


def shown_command(model: str, longest: int) -> str:
    """The same as one line of a shell."""
    return f"{DEV_MODE}=1 {shlex.join(command(model, longest=longest))}"


class VllmServer:
    """Requests to one server. Every method raises UserError where the server refuses, or where nobody answers within
    `seconds`; whatever may be asked twice is tried again until then.

    Args:
        check_alive: called when nothing answers; raises UserError where waiting is in vain.
        check_stop: called now and then while the server is waited for; may raise to interrupt it.
    """

    def __init__(
        self,
        url: str,
        *,
        seconds: float,
        check_alive: Callable[[], None] = lambda: None,
        check_stop: Callable[[], None] = lambda: None,
    ):
        parts = urllib.parse.urlsplit(url)
        self.url, self.seconds, self.check_alive, self.check_stop = url, seconds, check_alive, check_stop
        self._secure, self._host = parts.scheme == "https", parts.hostname or ""
        self._port, self._path = parts.port, parts.path.rstrip("/")
        self._open = set[http.client.HTTPConnection]()
        self._lock = threading.Lock()
        self._stopped = False

    # ---- asking

    def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        seconds: float | None = None,
        repeats: bool = True,
    ) -> Any:
        """The answer's JSON (None where it has none). `repeats`: whether the server's own errors (5xx) are asked again
        too, not only where nothing answers."""
        (answer,) = self.at_once([functools.partial(self.await_answer, method, path, body, seconds, repeats)])
        return answer

    def at_once(self, tasks: Sequence[Callable[[], T]], most: int = 1) -> list[T]:
        """What the tasks return, in order; they run in threads, `most` at a time, and ask by `await_answer`. Where one
        raises, or `check_stop`, requests under way end too; vLLM stops writing when its client is gone."""
        pool = ThreadPoolExecutor(max(1, min(most, len(tasks))))
        try:
            futures = [pool.submit(task) for task in tasks]
            waiting = set(futures)
            while waiting:
                self.check_stop()
                done, waiting = wait(waiting, timeout=LISTEN_SECONDS, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
            return [future.result() for future in futures]
        except BaseException:
            with self._lock:
                self._stopped = True
                for sock in [connection.sock for connection in self._open if connection.sock]:
                    with contextlib.suppress(OSError):
                        sock.shutdown(socket.SHUT_RDWR)
            raise
        finally:
            pool.shutdown(cancel_futures=True)
            self._stopped = False

    def await_answer(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        seconds: float | None = None,
        repeats: bool = True,
    ) -> Any:
        """As `ask`, in a thread that nobody interrupts but `at_once`."""
        deadline = time.monotonic() + (self.seconds if seconds is None else seconds)
        while True:
            try:
                return self.ask_once(method, path, body, seconds=max(0.1, deadline - time.monotonic()))
            except (Unreachable, VllmRefuses) as error:
                if isinstance(error, VllmRefuses) and (error.status < 500 or not repeats):
                    raise
                self.check_alive()
                if self._stopped or time.monotonic() + PAUSE_SECONDS >= deadline:
                    if isinstance(error, VllmRefuses):
                        raise
                    raise UserError(f"engine: no vLLM server answers at {self.url} ({error})") from error
                time.sleep(PAUSE_SECONDS)

    def ask_once(self, method: str, path: str, body: Mapping[str, Any] | None = None, *, seconds: float) -> Any:
        """One try. Raises: Unreachable; VllmRefuses; UserError for an answer that is no JSON."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if data else {}
        with self._connection(seconds) as connection:
            connection.request(method, self._path + path, data, headers)
            reply = connection.getresponse()
            text = reply.read().decode("utf-8", "replace")
        if reply.status in NOBODY:
            raise Unreachable(f"{path}: {reply.status} {text[:500]!r}")
        if reply.status >= 400:
            message = f"engine: the vLLM server at {self.url} answers {path} with {reply.status} {text[:500]!r}"
            raise VllmRefuses(message, reply.status)
        try:
            return json.loads(text) if text else None
        except (ValueError, RecursionError) as error:
            raise self._is_no_vllm(path, text) from error

    def _is_no_vllm(self, path: str, answer: object) -> UserError:
        return UserError(
            f"engine: what answers at {self.url} is no vLLM server: it says {str(answer)[:100]!r} to {path}; "
            "engine.url is where the server listens, without /v1"
        )

    @contextlib.contextmanager
    def _connection(self, seconds: float) -> Generator[http.client.HTTPConnection]:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=min(seconds, CONNECT_SECONDS))
        try:
            connection.connect()
            connection.sock.settimeout(seconds)
            with self._lock:
                if self._stopped:
                    raise Unreachable("stopped")
                self._open.add(connection)
            yield connection
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"{type(error).__name__}: {error}".removesuffix(": ")) from error
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()

    # ---- what it says of itself

    def wait(self, seconds: float) -> None:
        """Until it can be asked."""
        self.ask("GET", "/health", seconds=seconds)

    def model(self) -> Mapping[str, Any]:
        """Name (`id`) and the most tokens (`max_model_len`) of what it serves."""
        return self._entry("data", "GET", "/v1/models")[0]

    def settings(self) -> Mapping[str, Any]:
        """vLLM's own configuration. UserError where it isn't in development mode."""
        try:
            return self._entry("vllm_config", "GET", "/server_info?config_format=json")
        except VllmRefuses as error:
            if error.status != 404:
                raise
            raise UserError(
                f"engine: the vLLM server at {self.url} takes no new weights: start it with {DEV_MODE}=1 in its "
                "environment (docs/vllm.md has the whole command)"
            ) from error

    def tokens(self, text: str) -> list[int]:
        """How its tokenizer reads a text."""
        return self._entry("tokens", "POST", "/tokenize", {"prompt": text, "add_special_tokens": False})

    def _entry(self, name: str, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        answer = self.ask(method, path, body)
        if not isinstance(answer, dict) or not answer.get(name):
            raise self._is_no_vllm(path, answer)
        return answer[name]

    # ---- weights

    def version(self) -> str:
        """The name that the last push gave its weights; vLLM's own for a server that was started since."""
        return str(self._entry("weight_version", "GET", "/weight_info"))

    def load(self, folder: Path, version: str) -> None:
        """Take the weights in a folder of safetensors files, and forget what was computed with others."""
        for method, more in (
            ("update_config", {"args": [{"load_config": {"load_format": "safetensors"}}]}),
            ("reload_weights", {"kwargs": {"weights_path": str(folder)}}),
        ):
            self.ask("POST", "/collective_rpc", {"method": method, **more}, repeats=False)
        if not self.ask("POST", "/reset_prefix_cache")["success"]:
            raise UserError(f"engine: the vLLM server at {self.url} keeps its prefix cache: who else is using it?")
        self.ask("POST", "/update_weight_version", {"new_version": version})


# ---------------------------------------------------------------------------------------------------------- a child


def started(
    config: VllmHttpConfig, model: Path, *, longest: int, dtype: str, threads: int, check_stop: Callable[[], None]
) -> VllmServer:
    """A server of our own, which ends with this process at the latest, and the folder `model` with it. UserError, with
    what it said, where it doesn't come up."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    words = command(str(model), longest=longest, python=config.python or sys.executable, dtype=dtype)
    if sys.platform == "linux":
        words[1:3] = ["-c", _DIES_WITH_US]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {DEV_MODE: "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(threads)}
    environment.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB; else vLLM takes four
    environment.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    log = model / LOG
    out = log.open("wb")
    try:
        child = subprocess.Popen(
            [*words, "--port", str(port)], stdout=out, stderr=out, env=environment, cwd=model, start_new_session=True
        )
    except OSError as error:
        raise UserError(f"engine.python: {words[0]!r} can't be started ({error.strerror})") from error

    def check_alive() -> None:
        if child.poll() is not None:
            raise UserError(f"engine: the vLLM server ended with {child.returncode}. Its last lines:\n{_tail(log)}")

    url, seconds = f"http://127.0.0.1:{port}", config.answer_seconds
    server = VllmServer(url, seconds=seconds, check_alive=check_alive, check_stop=check_stop)
    weakref.finalize(server, _end, child, out, model, os.getpid())
    server.wait(seconds)
    return server


def _end(child: subprocess.Popen[bytes], out: IO[bytes], folder: Path, parent: int) -> None:
    """The server and what it started: its own group, by its id. A fork of `parent` leaves it alone."""
    if os.getpid() != parent:
        return
    if child.poll() is None:
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(10)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    out.close()
    shutil.rmtree(folder, ignore_errors=True)


def _tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def has_vllm(python: str) -> bool:
    """Is vLLM installed in that environment? Asked without importing it, which takes seconds."""
    words: Sequence[str] = (python, "-c", "import importlib.util as u, sys; sys.exit(u.find_spec('vllm') is None)")
    try:
        return subprocess.run(words, capture_output=True, cwd="/", timeout=60, check=False).returncode == 0
    except OSError:
        return False
