"""A vLLM server from outside: requests with deadlines, what it must say of itself, and how one is started.

What plaudit needs of it beyond generation (new weights, their version, its settings) are routes that vLLM has in
development mode only. They let anyone who can reach the server load any file: it belongs on 127.0.0.1 or behind a wall.
"""

import contextlib
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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from plaudit.engines.options import VllmHttpConfig
from plaudit.errors import UserError

DEV_MODE = "VLLM_SERVER_DEV_MODE"
PAUSE_SECONDS = 0.5
"""Between two tries to reach a server that doesn't answer."""
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


class Unreachable(Exception):
    """No whole answer: nobody listens, the connection broke, or the server is ill (5xx)."""


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
    `seconds`; whatever may be asked twice is tried again until then."""

    def __init__(self, url: str, *, seconds: float, check_alive: Callable[[], None] = lambda: None):
        parts = urllib.parse.urlsplit(url)
        self.url, self.seconds, self.check_alive = url, seconds, check_alive
        self._secure, self._host = parts.scheme == "https", parts.hostname or ""
        self._port, self._path = parts.port, parts.path.rstrip("/")
        self._open = set[http.client.HTTPConnection]()
        self._lock = threading.Lock()
        self._stopped = False

    # ---- asking

    def ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, seconds: float | None = None
    ) -> Any:
        """The answer's JSON (None where it has none)."""
        deadline = time.monotonic() + (self.seconds if seconds is None else seconds)
        while True:
            try:
                return self.ask_once(method, path, body, seconds=max(0.1, deadline - time.monotonic()))
            except Unreachable as error:
                self.check_alive()
                if self._stopped or time.monotonic() + PAUSE_SECONDS >= deadline:
                    raise UserError(f"engine: no vLLM server answers at {self.url} ({error})") from error
                time.sleep(PAUSE_SECONDS)

    def ask_once(self, method: str, path: str, body: Mapping[str, Any] | None = None, *, seconds: float) -> Any:
        """One try. Raises: Unreachable; UserError where the server says that the request is wrong."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if data else {}
        with self._connection(seconds) as connection:
            connection.request(method, self._path + path, data, headers)
            reply = connection.getresponse()
            text = reply.read().decode("utf-8", "replace")
        if reply.status >= 500:
            raise Unreachable(f"{path}: {reply.status} {text[:500]}")
        if reply.status >= 400:
            raise UserError(f"engine: the vLLM server at {self.url} refuses {path}: {reply.status} {text[:500]}")
        return json.loads(text) if text else None

    @contextlib.contextmanager
    def _connection(self, seconds: float) -> Generator[http.client.HTTPConnection]:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=seconds)
        try:
            connection.connect()
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

    @contextlib.contextmanager
    def threads(self, count: int) -> Generator[ThreadPoolExecutor]:
        """To ask several things at once. Where the block ends by an exception, requests under way end too; vLLM stops
        writing when its client is gone."""
        pool = ThreadPoolExecutor(count)
        try:
            yield pool
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

    # ---- what it says of itself

    def wait(self, seconds: float) -> None:
        """Until it can be asked."""
        self.ask("GET", "/health", seconds=seconds)

    def model(self) -> Mapping[str, Any]:
        """Name (`id`) and the most tokens (`max_model_len`) of what it serves."""
        return self.ask("GET", "/v1/models")["data"][0]

    def settings(self) -> Mapping[str, Any]:
        """vLLM's own configuration. UserError where it isn't in development mode."""
        try:
            return self.ask("GET", "/server_info?config_format=json")["vllm_config"]
        except UserError as error:
            if " 404 " not in str(error):
                raise
            raise UserError(
                f"engine: the vLLM server at {self.url} takes no new weights: start it with {DEV_MODE}=1 in its "
                "environment (docs/vllm.md has the whole command)"
            ) from error

    def tokens(self, text: str) -> list[int]:
        """How its tokenizer reads a text."""
        return self.ask("POST", "/tokenize", {"prompt": text, "add_special_tokens": False})["tokens"]

    # ---- weights

    def version(self) -> str:
        """The name that the last push gave its weights; vLLM's own for a server that was started since."""
        return str(self.ask("GET", "/weight_info")["weight_version"])

    def load(self, folder: Path, version: str) -> None:
        """Take the weights in a folder of safetensors files, and forget what was computed with others."""
        for method, more in (
            ("update_config", {"args": [{"load_config": {"load_format": "safetensors"}}]}),
            ("reload_weights", {"kwargs": {"weights_path": str(folder)}}),
        ):
            self.ask("POST", "/collective_rpc", {"method": method, **more})
        if not self.ask("POST", "/reset_prefix_cache")["success"]:
            raise UserError(f"engine: the vLLM server at {self.url} keeps its prefix cache: who else is using it?")
        self.ask("POST", "/update_weight_version", {"new_version": version})


# ---------------------------------------------------------------------------------------------------------- a child


def started(config: VllmHttpConfig, model: Path, *, longest: int, dtype: str, threads: int) -> VllmServer:
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

    server = VllmServer(f"http://127.0.0.1:{port}", seconds=config.answer_seconds, check_alive=check_alive)
    weakref.finalize(server, _end, child, out, model, os.getpid())
    server.wait(config.answer_seconds)
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
