"""What the fault tests run in processes of their own: savers that get killed, full disks, stopped runs.

python run_folder_worker.py WHAT FOLDER; prints JSON lines.
"""

import json
import os
import random
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from plaudit.errors import StopRequested, UserError
from plaudit.runs.checkpoints import latest_checkpoint, step_of
from plaudit.runs.folder import Run
from plaudit.telemetry.log import read_metrics


def tell(**facts: object) -> None:
    print(json.dumps(facts), flush=True)


def payload(step: int) -> bytes:
    return random.Random(step).randbytes(50_000)


def save(run: Run, step: int) -> None:
    with run.checkpoint(step) as folder:
        (folder / "a.bin").write_bytes(payload(step))
        (folder / "deep").mkdir()
        (folder / "deep" / "b.bin").write_bytes(payload(step + 1))


def whole(folder: Path | None) -> bool:
    """Whether a checkpoint is what was saved at its step, judged by content and not by the manifest."""
    if folder is None:
        return False
    step = step_of(folder)
    files = (folder / "a.bin", step), (folder / "deep" / "b.bin", step + 1)
    return all(path.read_bytes() == payload(number) for path, number in files)


def in_child(work: Callable[[], None]) -> int:
    """Run work in a forked child; the process id."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return pid


def save_forever(folder: Path, ready: int) -> None:
    with Run.open(folder) as run:
        os.write(ready, b"!")
        latest = run.latest()
        step = 0 if latest is None else step_of(latest)
        while True:
            step += 1
            run.log(step, {"loss_over_tokens": step})
            save(run, step)


def random_kills(folder: Path) -> None:
    """50 kills at random moments; each time the newest checkpoint must be whole and no step may be lost."""
    began = time.monotonic()
    with Run.create(folder, "sft", {}) as run:
        for step in (1, 2, 3):
            run.log(step, {})
            save(run, step)
    one_save = (time.monotonic() - began) / 3  # the delays fit the machine and its load
    delays = random.Random(0)
    is_ready, ready = os.pipe()
    for _ in range(50):
        pid = in_child(lambda: save_forever(folder, ready))
        os.read(is_ready, 1)
        time.sleep(delays.uniform(0, 2 * one_save))
        os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
        found = latest_checkpoint(folder)
        before, step = step, step_of(found) if found is not None else 0
        lines = read_metrics(folder)
        tell(killed=os.WIFSIGNALED(status), found=found is None or whole(found), forward=step >= before, step=step,
             logged=len(lines) >= step and all(set(line) >= {"step", "time"} for line in lines))  # fmt: skip
    with Run.open(folder) as run:
        tell(left=[path.name for path in folder.rglob(".tmp-*")], resumed=run.latest() == latest_checkpoint(folder))


def kill_at_operation(folder: Path, number: int) -> None:
    """From now on, die by SIGKILL just before the number-th operation that changes the file system."""
    changing = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "open"}
    count = 0

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal count
        if event not in changing or (event == "open" and not int(arguments[2]) & (os.O_WRONLY | os.O_RDWR)):
            return
        count += 1
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def every_kill(folder: Path, again: bool) -> None:
    """A save of step 3 (a second save of step 3, if `again`) killed before each of its operations in turn."""
    os.fsync = lambda _: None  # a killed process, not a power cut: the kernel keeps what was written
    with Run.create(folder / "start", "sft", {}, keep=1) as run:
        for step in (1, 2, 3) if again else (1, 2):
            save(run, step)
    number = 0
    while True:
        number += 1
        here = folder / str(number)
        shutil.copytree(folder / "start", here)

        def work(here: Path = here, number: int = number) -> None:
            with Run.open(here, keep=1) as run:
                kill_at_operation(here, number)
                save(run, 3)

        killed = os.WIFSIGNALED(os.waitpid(in_child(work), 0)[1])
        found = latest_checkpoint(here)
        good = whole(found)
        with Run.open(here, keep=1) as run:
            clean = not list(here.rglob(".tmp-*"))
            same = run.latest() == found
            save(run, 4)
            after = sorted(path.name for path in (here / "checkpoints").iterdir())
        tell(killed=killed, whole=good, step=step_of(found) if found else 0, clean=clean, same=same,
             after=after)  # fmt: skip
        if not killed:
            return


def disk_full(folder: Path) -> None:
    """The kernel refuses to write files beyond 60 kB, then 200 bytes, as a full disk would."""
    with Run.create(folder, "sft", {}) as run:
        save(run, 1)
        run.log(1, {"loss_over_tokens": 1.0})
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))
        try:
            with run.checkpoint(2) as temp:
                (temp / "a.bin").write_bytes(payload(1) * 2)
        except UserError as error:
            tell(error=str(error))
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, resource.RLIM_INFINITY))
        for step in range(2, 6):
            run.log(step, {"loss_over_tokens": 1.0})
        run.write_rollouts(5, [{"text": payload(1).hex()}])
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        run.log(6, {"loss_over_tokens": 1.0})
        tell(names=sorted(path.name for path in (folder / "checkpoints").iterdir()), whole=whole(run.latest()),
             steps=[line["step"] for line in read_metrics(folder)], left=len(list(folder.rglob(".tmp-*"))))  # fmt: skip


def train(folder: Path) -> None:
    """A run that can be stopped: two children hold it up when the step is to be long."""
    try:
        with Run.create(folder, "sft", {}) as run:
            tell(pid=os.getpid())
            for step in range(1, 10_000):
                time.sleep(0.02)
                if run.signals.requested:
                    save(run, step)
                run.check_stop()
    except StopRequested as stop:
        sys.exit(stop.exit_code)


def stuck(folder: Path) -> None:
    """A run in the middle of a save that takes no notice of the first signal."""
    with Run.create(folder, "sft", {}) as run:
        save(run, 1)
        with run.checkpoint(2) as temp:
            (temp / "a.bin").write_bytes(b"half")
            tell(pid=os.getpid())
            while True:
                time.sleep(0.02)


def orphan(folder: Path) -> None:
    """A parent that dies while its forked worker lives on: the lock must not live on with the worker."""
    run = Run.create(folder, "sft", {})
    begun, begin = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(begin, b"!")  # what runs after a fork has run by now
        time.sleep(60)
        os._exit(0)
    os.read(begun, 1)
    tell(worker=pid, holder=run is not None)
    os.kill(os.getpid(), signal.SIGKILL)


def slow_orphan(folder: Path) -> None:
    """The parent dies before its forked worker came to let go of the lock, as on a busy machine."""
    run = Run.create(folder, "sft", {})
    assert run._lock is not None
    still_held = os.dup(run._lock._lock._context.lock_file_fd)  # the descriptor that a worker has until it first runs
    pid = os.fork()
    if pid == 0:
        time.sleep(0.5)
        os.close(still_held)
        time.sleep(60)
        os._exit(0)
    tell(worker=pid)
    os.kill(os.getpid(), signal.SIGKILL)


def closed_output(folder: Path) -> None:
    """stdout and stderr are closed pipes by now."""
    from plaudit.telemetry.console import say, warn
    from plaudit.telemetry.progress import Progress

    time.sleep(0.2)
    with Run.create(folder, "sft", {}) as run, Progress("sft", 3, interval=0) as progress:
        for step in (1, 2, 3):
            say("hello")
            warn("mind")
            progress.update(step)
            save(run, step)
        run.finish({})


def as_nobody(folder: Path) -> None:
    """Whoever runs the tests may be root, who may write anywhere; nobody may not."""
    if os.geteuid() == 0:
        os.setuid(65534)
    for name in (folder, folder / "below"):
        try:
            Run.create(name, "sft", {})
        except UserError as error:
            tell(error=str(error))


if __name__ == "__main__":
    what, where = sys.argv[1], Path(sys.argv[2])
    jobs: dict[str, Callable[[Path], None]] = {
        "every_kill": lambda folder: every_kill(folder, again=False),
        "every_kill_again": lambda folder: every_kill(folder, again=True),
    }
    for job in (random_kills, disk_full, train, stuck, orphan, slow_orphan, closed_output, as_nobody):
        jobs[job.__name__] = job
    jobs[what](where)
