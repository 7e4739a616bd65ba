import numpy as np
import pytest
import torch

from lymphocytosis.encoders import pictures
from lymphocytosis.encoders.pictures import Pictures

IMAGES = np.random.default_rng(0).integers(0, 256, (9, 5, 5, 3), dtype=np.uint8)
ROWS = np.array([7, 0, 3])
CPU = torch.device("cpu")


def test_reads_the_rows_asked_for():
    read = Pictures(IMAGES, CPU).read(ROWS)
    assert np.array_equal(read.numpy(), IMAGES[ROWS])


def test_on_a_cpu_the_store_is_not_copied():
    assert Pictures(IMAGES, CPU).resident is None


@pytest.mark.gpu
class TestOnAGPU:
    @pytest.mark.parametrize("share", [0.25, 0.0])
    @pytest.mark.parametrize("at_once", [2, 1024])
    def test_reads_the_rows_asked_for(self, monkeypatch, share, at_once):
        monkeypatch.setattr(pictures, "SHARE_OF_MEMORY", share)
        monkeypatch.setattr(pictures, "_COPIED_AT_ONCE", at_once)
        store = Pictures(IMAGES, torch.device("cuda"))
        assert (store.resident is None) == (share == 0)
        assert np.array_equal(store.read(ROWS).cpu().numpy(), IMAGES[ROWS])
