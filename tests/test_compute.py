import ctypes
import re
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch

from lymphocytosis.compute import (
    finite_losses,
    give_memory_back,
    in_batches,
    keeping_memory,
    start_fabric,
)
from lymphocytosis.errors import UserError
from lymphocytosis.parameters import ComputeParameters


def compute(accelerator):
    return ComputeParameters(
        accelerator=accelerator, precision="32-true", embed_batch_size=1, embed_backend="torch"
    )


@pytest.mark.parametrize("accelerator", ["auto", "cpu", "cuda"])
def test_without_a_gpu_the_cpu_is_used_unless_a_gpu_is_asked_for(monkeypatch, accelerator):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    if accelerator == "cuda":
        with pytest.raises(UserError, match=r"compute\.accelerator is 'cuda'.*no GPU"):
            start_fabric(compute(accelerator))
    else:
        assert start_fabric(compute(accelerator)).device == torch.device("cpu")


def test_a_cpu_says_that_it_takes_bf16_for_16_mixed(caplog):
    asked = compute("cpu").model_copy(update={"precision": "16-mixed"})
    with start_fabric(asked).autocast():
        assert (torch.ones(1, 1) @ torch.ones(1, 1)).dtype == torch.bfloat16
    assert "16-mixed" in caplog.text
    assert "bf16-mixed" in caplog.text


class TestFiniteLosses:
    def test_finite_ones_are_given_back(self):
        losses = torch.tensor([0.5, 0.25])
        assert finite_losses(losses, 1, "a model", "the.rate").tolist() == [0.5, 0.25]

    def test_the_first_that_is_no_number_is_named(self):
        losses = torch.tensor([0.5, torch.inf, torch.nan])
        with pytest.raises(UserError, match=r"a model .*epoch 3, batch 2 is inf. Lower the\.rate"):
            finite_losses(losses, 3, "a model", "the.rate")


@pytest.mark.gpu
def test_auto_takes_the_gpu():
    assert start_fabric(compute("auto")).device.type == "cuda"


@pytest.mark.parametrize("n", range(2, 14))
def test_batches_hold_each_number_once_and_none_alone(n):
    batches = in_batches(np.arange(n), 4)
    assert np.array_equal(np.concatenate(batches), np.arange(n))
    assert all(2 <= len(batch) <= 5 for batch in batches)


def test_batches_of_one_are_not_merged():
    assert [part.tolist() for part in in_batches(np.arange(3), 1)] == [[0], [1], [2]]


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="this C library can't be asked"
)
def test_memory_between_pieces_in_use_is_given_back():
    def resident():
        status = Path("/proc/self/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024

    def hold_some():
        pieces = [bytearray(50_000) for _ in range(2_000)]
        kept = pieces[::50]
        pieces.clear()
        before.append(resident())
        give_memory_back()
        after.append(resident())
        return kept

    before, after = [], []
    thread = Thread(target=hold_some)
    thread.start()
    thread.join()
    assert before[0] - after[0] > 80_000_000


class MemoryInUse(ctypes.Structure):
    """What glibc's mallinfo2 returns."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd",
            "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    ]  # fmt: skip


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="not a glibc of 2021 or on")
def test_memory_is_lent_by_the_kernel_anew_only_outside_the_body():
    info, size = ctypes.CDLL(None).mallinfo2, 256 * 2**20
    info.restype = MemoryInUse

    def lent_and_kept():
        """Bytes that the kernel lends for one tensor, and bytes free once it is gone."""
        before = info().hblkhd
        tensor = torch.empty(size // 4)
        lent = info().hblkhd - before
        del tensor
        return lent, info().fordblks

    with keeping_memory():
        lent, kept = lent_and_kept()
        assert lent == 0
        assert kept >= size
    lent, _ = lent_and_kept()
    assert lent >= size
