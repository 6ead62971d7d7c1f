"""Which machine is meant by a word, and what is said where it isn't there."""

import json
import subprocess
import sys

import pytest
import torch

from plaudit.errors import UserError
from plaudit.hardware.machine import Machine, machine, peak_memory_bytes
from plaudit.hardware.options import DeviceConfig


def test_cpu():
    place = machine(DeviceConfig(device="cpu"))
    assert place == Machine(torch.device("cpu"), "fp32")
    threads = torch.get_num_threads()
    assert str(place) == f"cpu, fp32, {threads} thread{'s' * (threads != 1)}"


@pytest.mark.parametrize(("there", "chosen"), [(True, "cuda"), (False, "cpu")])
def test_auto_takes_the_gpu_where_there_is_one(there, chosen, monkeypatch):
    asked = []
    real = torch.zeros

    def zeros(*shape, device, **more):
        asked.append(device.type)
        return real(*shape, **more)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(torch, "zeros", zeros)
    assert machine(DeviceConfig()).device.type == chosen
    assert asked == [chosen]


@pytest.mark.parametrize("name", ["cuda", "cuda:7", "gpu", "cpu:x", "mps"])
def test_a_device_that_is_not_here(name):
    if name == "cuda" and torch.cuda.is_available():
        pytest.skip("it is here")
    with pytest.raises(UserError, match=rf"device: '{name}' can't be used here .*try `device: auto`"):
        machine(DeviceConfig(device=name))


def test_a_device_without_float64_is_refused(monkeypatch):
    """As mps: sampling inverts a cumulative distribution, and fp32 hasn't the digits."""

    def zeros(*_, dtype, **__):
        raise TypeError("Cannot convert a MPS Tensor to float64") if dtype == torch.float64 else AssertionError

    monkeypatch.setattr(torch, "zeros", zeros)
    with pytest.raises(UserError, match="float64"):
        machine(DeviceConfig(device="cpu"))


def test_autocast_is_bf16_or_nothing():
    weight = torch.ones(2, 2)
    with Machine(torch.device("cpu"), "bf16").autocast():
        assert (weight @ weight).dtype == torch.bfloat16
    with Machine(torch.device("cpu"), "fp32").autocast():
        assert (weight @ weight).dtype == torch.float32


def test_threads(warm):
    """In a process of its own: the number is the whole process's."""
    code = (
        "import torch; from plaudit.hardware.machine import *; before = torch.get_num_threads(); "
        "machine(DeviceConfig(device='cpu')); assert torch.get_num_threads() == before; "
        "machine(DeviceConfig(device='cpu', threads=2)); assert torch.get_num_threads() == 2"
    )
    subprocess.run([warm / "python", "-"], input=code, text=True, check=True, timeout=120)


def test_peak_memory_is_resident_memory_where_no_gpu_was_used(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    before = peak_memory_bytes()
    assert 50 * 2**20 < before < 64 * 2**30
    held = torch.ones(32 * 2**20)  # 128 MiB of fp32, written to
    assert peak_memory_bytes() >= before
    del held
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 123)
    assert peak_memory_bytes() == 123


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_freed_memory_is_kept_for_the_next_tensor(warm, tmp_path):
    """Else a tensor of 80 MB is mapped anew each time, and each of its 20,000 pages is a fault. In a new process:
    what many tests have left in between is no part of it."""
    script = tmp_path / "faults.py"
    script.write_text(FAULTS, encoding="utf-8")
    done = subprocess.run([warm / "python", str(script)], capture_output=True, text=True, check=True)
    assert min(json.loads(done.stdout)) < 5000


FAULTS = """
import json, resource, torch
from plaudit.hardware.machine import machine
from plaudit.hardware.options import DeviceConfig

machine(DeviceConfig(device="cpu"))
faults = []
for _ in range(8):  # a small object may now and then take a piece of the block that was freed
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2 * 10**7)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(json.dumps(faults))
"""
