"""What is measured decides, and a run that goes on keeps what it began with."""

import pytest
import torch

from plaudit.hardware import machine as module
from plaudit.hardware import probe
from plaudit.hardware.machine import computes_bf16, machine, machine_of
from plaudit.hardware.options import DeviceConfig
from plaudit.runs.folder import Run
from tests.kills import kills

AUTO = DeviceConfig(device="cpu", precision="auto", threads=None)


@pytest.fixture
def measured(monkeypatch):
    """Speeds by precision and seconds by threads, as a machine would have them; what was measured is counted."""
    speeds, asked = {torch.float32: 100e9, torch.bfloat16: 250e9}, []
    monkeypatch.setattr(probe, "matmul_speed", lambda device, dtype: speeds[dtype])
    monkeypatch.setattr(module, "matmul_speed", lambda device, dtype: speeds[dtype])
    monkeypatch.setattr(module, "best_threads", lambda: asked.append("threads") or 1)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    yield speeds, asked
    torch.set_num_threads(before)


@kills(
    "hardware/probe.py",
    old="matmul_speed(device, torch.bfloat16) > PAYS",
    new="PAYS * matmul_speed(device, torch.bfloat16) > 1.0",
    why="a machine on which bf16 is hardly faster rounds for nothing",
)
@pytest.mark.parametrize(("bf16", "chosen"), [(250e9, "bf16"), (110e9, "fp32"), (2e9, "fp32")])
def test_precision_is_what_products_are_faster_in(measured, capsys, bf16, chosen):
    measured[0][torch.bfloat16] = bf16
    assert machine(DeviceConfig(device="cpu", precision="auto")).precision == chosen
    assert f"device.precision: {chosen}; matmuls, GFLOP/s: fp32 100, bf16 {bf16 / 1e9:.0f}" in capsys.readouterr().err
    assert computes_bf16(machine(DeviceConfig(device="cpu"))) is (chosen == "bf16")


def test_the_defaults_measure_nothing(measured, capsys):
    threads = torch.get_num_threads()
    here = machine(DeviceConfig(device="cpu"))
    assert (here.precision, torch.get_num_threads()) == ("fp32", threads)
    assert measured[1] == []
    assert "device." not in capsys.readouterr().err


def test_a_number_of_threads_from_outside_stands(measured, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    machine(DeviceConfig(device="cpu", threads=None))
    assert measured[1] == []


def test_a_resumed_run_keeps_what_was_measured(measured, tmp_path):
    with Run.create(tmp_path / "run", "sft", {}) as run:
        assert machine_of(run, AUTO).precision == "bf16"
        assert run.provenance["measured"] == {"precision": "bf16", "threads": 1}
    measured[0][torch.bfloat16] = 1e9  # it goes on elsewhere
    with Run.open(tmp_path / "run") as run:
        assert machine_of(run, AUTO).precision == "bf16"
        assert measured[1] == ["threads"]
        plain = DeviceConfig(device="cpu", precision="fp32")
        assert machine_of(run, plain).precision == "fp32", "what the options say counts"
    with Run.create(tmp_path / "other", "sft", {}) as run:
        machine_of(run, DeviceConfig(device="cpu"))
        assert "measured" not in run.provenance


def test_threads_are_those_that_run_a_layer_fastest(monkeypatch):
    threads = torch.get_num_threads()
    chosen = []
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    for seconds, best in (([1.0, 0.5, 0.3], 4), ([1.0, 0.9, 0.9], 1), ([1.0, 0.6, 0.58], 2)):
        times = iter(seconds)
        monkeypatch.setattr(probe, "fastest", lambda work, times=times: next(times))
        assert probe.best_threads(4) == best
    assert chosen[:4] == [1, 2, 4, threads], "torch's own number is put back"


def test_fastest_calls_twice_at_least():
    calls = []
    assert 0 <= probe.fastest(lambda: calls.append(1), 0) < 1
    assert len(calls) == 2
