import pytest
import torch

from lymphocytosis.compute import start_fabric
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


@pytest.mark.gpu
def test_auto_takes_the_gpu():
    assert start_fabric(compute("auto")).device.type == "cuda"
