"""Pretraining: steps end to end against the bare step on a resident batch."""

import statistics
from pathlib import Path

import numpy as np
import torch
import yaml
from lightning_fabric import Fabric
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.encoders import plain_encoder
from benchmarks.side_by_side import Row, divide, time_in_turn
from lymphocytosis.compute import keeping_memory, start_fabric
from lymphocytosis.encoders.autoencoder import build_autoencoder
from lymphocytosis.encoders.pictures import to_unit
from lymphocytosis.parameters import ComputeParameters, PretextParameters
from lymphocytosis.pretext.task import build_task
from lymphocytosis.pretext.training import pretrain
from lymphocytosis.progress import Progress

CONF = Path(__file__).parents[1] / "conf/base/parameters.yml"
ENCODER = plain_encoder("tf_efficientnet_lite0", 1024)
SIDE, PICTURES, TURNS = 112, 256, 5


def measure() -> list[Row]:
    """Train on random pictures, the paper's batch of 16."""
    return steps_rows()


def steps_rows() -> list[Row]:
    """Compare an epoch of few pictures with as many bare steps, and these with torch's own."""
    pretext = PretextParameters(**yaml.safe_load(CONF.read_text())["pretext"] | {"epochs": 1})
    compute = ComputeParameters(
        accelerator="auto", precision="32-true", embed_batch_size=32, embed_backend="torch"
    )
    fabric = start_fabric(compute)
    images = np.random.default_rng(0).integers(0, 256, (PICTURES, SIDE, SIDE, 3), dtype=np.uint8)
    rows = np.arange(PICTURES)
    task = build_task(ENCODER, pretext, images, rows, 0)
    bare = build_autoencoder(ENCODER, SIDE, 0)
    optimizer = torch.optim.Adam(bare.parameters(), lr=pretext.learning_rate, fused=True)
    model, optimizer = fabric.setup(bare, optimizer)
    model.train()
    resident = to_unit(fabric.to_device(torch.from_numpy(images[: pretext.batch_size])))

    def steps() -> None:
        for _ in range(PICTURES // pretext.batch_size):
            loss = F.mse_loss(model(resident), resident)
            optimizer.zero_grad()
            fabric.backward(loss)
            optimizer.step()
        loss.item()

    def epoch() -> None:
        pretrain(task, images, rows, rows[:1], pretext, compute, 0, Progress(None))

    def keeping() -> None:
        with keeping_memory():
            steps()

    ways = {"as it comes": steps, "bare": keeping, "end to end": epoch}
    seconds = time_in_turn(ways, TURNS)
    # Of a forward, times three: torch counts too much for the way back of depthwise convolutions.
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(resident)
    made = 3 * counter.get_total_flops() * (PICTURES // pretext.batch_size)
    rate = made / statistics.median(seconds["bare"])
    share = f"{rate / product_rate(fabric, 2048):.0%} of a large matrix product's FLOP/s"
    kind = f"{ENCODER.name}, {SIDE} pixels, batch {pretext.batch_size}"
    return [
        Row(
            "pretraining step, end to end: read, flip, turn, step, epoch's end",
            "the bare step on a resident batch",
            "at least 0.97 (GPU: 0.95)",
            divide(seconds["bare"], seconds["end to end"]),
            f"{kind}; an epoch of {PICTURES} pictures, whose end (weights copied, a figure drawn) "
            f"weighs more than in a real one; the bare step has {share}",
        ),
        Row(
            "pretraining: the bare step, times faster",
            "with memory given back to the system when it is freed, as glibc does",
            "",
            divide(seconds["as it comes"], seconds["bare"]),
            kind,
        ),
    ]


def product_rate(fabric: Fabric, side: int) -> float:
    """Measure the FLOP/s of a large matrix product, as a stand-in for the device's peak."""
    left = torch.rand(side, side, device=fabric.device)

    def product() -> None:
        (left @ left).sum().item()

    return 2 * side**3 / statistics.median(time_in_turn({"product": product}, TURNS)["product"])
