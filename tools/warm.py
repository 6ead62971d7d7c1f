"""Commands without the wait: torch is imported once by a server, and each command runs in a fork of it.

    python tools/warm.py FOLDER     serves; FOLDER has a `plaudit` then, and a `python` for scripts

Tests whose subject isn't the start of Python use it: the documentation's commands, which a shell runs, and scripts
whose processes are killed or compute together. Each is a process of its own, but the seconds that importing torch and
transformers takes are paid once. The call returns when the server is ready; the server ends when nobody holds
FOLDER/users locked any more: whoever needs it takes that lock, shared.
"""

import fcntl
import json
import os
import runpy
import signal
import socket
import stat
import sys
import traceback
from pathlib import Path

CLIENT = """\
#!{python} -IS
import json, os, socket, sys
name = os.path.basename(sys.argv[0])
if name == "python" and not (sys.argv[1:] == ["-"] or sys.argv[1:] and sys.argv[1].endswith(".py")):
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
request = json.dumps([name, sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(server, [len(request).to_bytes(4, "big")], [0, 1, 2])
server.sendall(request)
sys.exit(int(server.recv(16) or b"70"))
"""
LOOK_EVERY = 1.0
"""Seconds between looks at whether the server is still needed."""


def main(folder: Path) -> None:
    import plaudit.evaluation.compare
    import plaudit.report.views
    import plaudit.training.policy.loop
    import plaudit.training.reward.loop
    import plaudit.training.sft  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks: each tells its client how it ended
    with socket.socket(socket.AF_UNIX) as server, (folder / "users").open("w") as users:
        server.bind(str(folder / "socket"))
        server.listen()
        server.settimeout(LOOK_EVERY)
        for client in (folder / "plaudit", folder / "python"):
            client.write_text(CLIENT.format(python=sys.executable, address=str(folder / "socket")), encoding="utf-8")
            client.chmod(client.stat().st_mode | stat.S_IXUSR)
        if os.fork():
            os._exit(0)
        leave_terminal()
        while is_used(users.fileno()):
            try:
                connection, _ = server.accept()
            except TimeoutError:
                continue
            if os.fork() == 0:
                server.close()
                users.close()
                answer(connection)
            connection.close()


def leave_terminal() -> None:
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nowhere, number)


def is_used(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def answer(connection: socket.socket) -> None:
    """The fork: becomes the command, in its client's folder, environment and terminal."""
    code = 70
    try:
        connection.settimeout(None)
        fcntl.fcntl(connection, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(connection, fcntl.F_SETFL, os.O_RDWR | os.O_ASYNC)  # the client's end is ours too, by SIGIO
        size, descriptors, _, _ = socket.recv_fds(connection, 4, 3)
        with connection.makefile("rb") as stream:
            name, arguments, folder, environment = json.loads(stream.read(int.from_bytes(size, "big")))
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
            os.close(descriptor)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        code = run(name, arguments)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        connection.sendall(str(code or 0).encode())
        os._exit(code or 0)


def run(name: str, arguments: list[str]) -> int:
    """`plaudit …`, `python script.py …` or `python -`; its exit status."""
    sys.argv = [name, *arguments]
    if name == "plaudit":
        from plaudit.cli import main as plaudit

        return plaudit()
    if arguments == ["-"]:
        exec(compile(sys.stdin.read(), "<stdin>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = arguments
        sys.path[0] = str(Path(arguments[0]).resolve().parent)
        runpy.run_path(arguments[0], run_name="__main__")
    return 0


if __name__ == "__main__":
    main(Path(sys.argv[1]))
