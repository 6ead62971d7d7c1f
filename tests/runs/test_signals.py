"""Stop signals inside one process; what a whole process does is in tests/faults."""

import signal
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from plaudit.errors import StopRequested
from plaudit.runs.folder import Run
from plaudit.runs.signals import StopSignals


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_is_a_request(signum: int, code: int, capfd: pytest.CaptureFixture[str]) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    with StopSignals() as stop:
        assert stop.requested == 0
        signal.raise_signal(signum)
        assert stop.requested == signum
        assert StopRequested(stop.requested).exit_code == code
    assert {number: signal.getsignal(number) for number in before} == before
    told = capfd.readouterr().err
    assert signal.Signals(signum).name in told and told.count("\n") == 1


def test_hangup_is_ignored() -> None:
    with StopSignals() as stop:
        signal.raise_signal(signal.SIGHUP)
        assert stop.requested == 0


def test_no_except_exception_swallows_a_stop() -> None:
    assert not issubclass(StopRequested, Exception)


def test_a_stage_inside_a_pipeline_shares_the_request() -> None:
    with StopSignals() as outer:
        with StopSignals() as inner:
            assert inner.requested == 0
            signal.raise_signal(signal.SIGTERM)
            assert inner.requested == signal.SIGTERM
        assert outer.requested == signal.SIGTERM
        assert signal.getsignal(signal.SIGTERM) == outer._handle


def test_other_threads_install_nothing() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def work() -> None:
        with StopSignals() as stop:
            seen.append((signal.getsignal(signal.SIGTERM), stop.requested))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(before, 0)]


def test_inside_ipython_signals_stay_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=object))
    before = signal.getsignal(signal.SIGINT)
    with StopSignals() as stop:
        assert signal.getsignal(signal.SIGINT) == before
        stop.request(signal.SIGINT)
        assert stop.requested == signal.SIGINT


def test_a_run_passes_the_request_on(tmp_path: Path) -> None:
    with Run.create(tmp_path, "sft", {}) as run:
        run.check_stop()
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(StopRequested):
            run.check_stop()
