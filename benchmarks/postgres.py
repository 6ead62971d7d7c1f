"""A PostgreSQL server of one's own: in a temporary folder, on a free port, gone afterwards."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Generator
from pathlib import Path


def programs() -> Path | None:
    """The folder of initdb and pg_ctl, which Debian keeps away from the path; None where there are none."""
    near = shutil.which("initdb")
    folders = [Path(near).resolve().parent] if near else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "pg_ctl").exists()), None)


class Server:
    """A cluster in a folder; run by `postgres` where we are root, which PostgreSQL refuses to be."""

    def __init__(self, bin_folder: Path, folder: Path) -> None:
        self.folder, self.bin = folder / "cluster", bin_folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        folder.chmod(0o777)
        self.call("initdb", "-D", str(self.folder), "-U", "plaudit", "-A", "trust", "-E", "UTF8", "--no-sync")
        self.start()

    def call(self, program: str, *arguments: str) -> None:
        command = [*self.user, str(self.bin / program), *arguments]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd="/")
        log = self.folder / "log"
        assert done.returncode == 0, done.stderr + (log.read_text(encoding="utf-8") if log.exists() else "")

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder}"
        self.call("pg_ctl", "-D", str(self.folder), "-o", options, "-l", str(self.folder / "log"), "-w", "start")

    def stop(self) -> None:
        """At once, as a power cut would."""
        self.call("pg_ctl", "-D", str(self.folder), "-m", "immediate", "-w", "stop")

    def url(self, name: str) -> str:
        """Of a new data base."""
        self.call("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "plaudit", name)
        return f"postgresql://plaudit@127.0.0.1:{self.port}/{name}"


@contextlib.contextmanager
def server() -> Generator[Server]:
    """Raises: FileNotFoundError where PostgreSQL isn't installed."""
    bin_folder = programs()
    if bin_folder is None:
        raise FileNotFoundError("no PostgreSQL server programs (Debian: apt install postgresql)")
    with tempfile.TemporaryDirectory(prefix="plaudit-postgres-") as folder:
        running = Server(bin_folder, Path(folder))
        try:
            yield running
        finally:
            running.stop()
