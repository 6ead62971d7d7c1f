"""`plaudit` commands without the wait: torch is imported once by a server, and each command runs in a fork of it.

    python tools/warm.py FOLDER     serves; FOLDER has a `plaudit` then, and a `python` for scripts from the input

The documentation's commands are tested so: a shell runs them, each in a process of its own, but the seconds that
importing torch and transformers takes are paid once.
"""

import json
import os
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
if name == "python" and sys.argv[1:] != ["-"]:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
request = json.dumps([name, sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(server, [len(request).to_bytes(4, "big")], [0, 1, 2])
server.sendall(request)
sys.exit(int(server.recv(16) or b"70"))
"""


def main(folder: Path) -> None:
    import plaudit.evaluation.compare
    import plaudit.report.views
    import plaudit.training.policy.loop
    import plaudit.training.reward.loop
    import plaudit.training.sft  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks: each tells its client how it ended
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
        server.listen()
        for client in (folder / "plaudit", folder / "python"):
            client.write_text(CLIENT.format(python=sys.executable, address=str(folder / "socket")), encoding="utf-8")
            client.chmod(client.stat().st_mode | stat.S_IXUSR)
        print("ready", flush=True)
        while True:
            connection, _ = server.accept()
            if os.fork() == 0:
                answer(connection)
            connection.close()


def answer(connection: socket.socket) -> None:
    """The fork: becomes the command, in its client's folder, environment and terminal."""
    code = 70
    try:
        size, descriptors, _, _ = socket.recv_fds(connection, 4, 3)
        with connection.makefile("rb") as stream:
            name, arguments, folder, environment = json.loads(stream.read(int.from_bytes(size, "big")))
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = [name, *arguments]
        if name == "python":
            exec(compile(sys.stdin.read(), "<stdin>", "exec"), {"__name__": "__main__"})
            code = 0
        else:
            from plaudit.cli import main as plaudit

            code = plaudit()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        connection.sendall(str(code or 0).encode())
        os._exit(code or 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
