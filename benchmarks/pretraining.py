"""Pretraining: steps end to end against the bare step on a resident batch."""

import statistics
from collections.abc import Callable
from copy import deepcopy
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import yaml
from lightning_fabric import Fabric
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.encoders import plain_encoder
from benchmarks.side_by_side import Row, divide, time_in_turn
from lymphocytosis.compute import keeping_memory, start_fabric
from lymphocytosis.encoders.autoencoder import build_autoencoder
from lymphocytosis.encoders.encoder import build_encoder
from lymphocytosis.encoders.pictures import to_unit
from lymphocytosis.parameters import ComputeParameters, PretextParameters
from lymphocytosis.pretext.task import build_task
from lymphocytosis.pretext.training import pretrain
from lymphocytosis.progress import Progress

CONF = Path(__file__).parents[1] / "conf/base/parameters.yml"
ENCODER = plain_encoder("tf_efficientnet_lite0", 1024)
SIDE, PICTURES, TURNS = 112, 256, 5
LARGE_BATCH, LARGE_STEPS = 128, 3


def measure() -> list[Row]:
    """Train on random pictures: the paper's batch of 16, and one of a contrastive task."""
    return [steps_row(), *large_batch_rows()]


def large_batch_rows() -> list[Row]:
    """What keeping memory and the channels' order are worth to an encoder's step of 128 views."""
    encoder = build_encoder(ENCODER, SIDE).model.train()
    ordered = deepcopy(encoder).to(memory_format=torch.channels_last)
    views = torch.rand(LARGE_BATCH, SIDE, SIDE, 3).permute(0, 3, 1, 2)

    def steps_of(model: nn.Module, pictures: torch.Tensor) -> Callable[[], None]:
        optimizer = torch.optim.Adam(model.parameters(), fused=True)

        def steps() -> None:
            for _ in range(LARGE_STEPS):
                optimizer.zero_grad()
                model(pictures).mean().backward()
                optimizer.step()

        return steps

    plain = steps_of(encoder, views.contiguous())
    ways = {
        "torch's own": plain,
        "keeping memory": keeping_memory()(plain),
        "channels last": keeping_memory()(steps_of(ordered, views)),
    }
    seconds = time_in_turn(ways, TURNS)
    return [
        Row(
            f"pretraining, a large batch: {way}, times faster",
            f"{before}, on a CPU",
            "",
            divide(seconds[before], seconds[way]),
            f"{ENCODER.name}, {SIDE} pixels, {LARGE_BATCH} views, {LARGE_STEPS} steps",
        )
        for before, way in pairwise(ways)
    ]


def steps_row() -> Row:
    """Compare an epoch of few pictures with as many bare steps."""
    pretext = PretextParameters(**yaml.safe_load(CONF.read_text())["pretext"] | {"epochs": 1})
    compute = ComputeParameters(
        accelerator="auto", precision="32-true", embed_batch_size=32, embed_backend="torch"
    )
    fabric = start_fabric(compute)
    images = np.random.default_rng(0).integers(0, 256, (PICTURES, SIDE, SIDE, 3), dtype=np.uint8)
    rows = np.arange(PICTURES)
    task = build_task(ENCODER, pretext, images, rows, 0)
    bare = build_autoencoder(ENCODER, SIDE, 0)
    if fabric.device.type == "cpu":
        bare = bare.to(memory_format=torch.channels_last)  # as `pretrain` does
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

    seconds = time_in_turn({"bare": keeping_memory()(steps), "end to end": epoch}, TURNS)
    # Of a forward, times three: torch counts too much for the way back of depthwise convolutions.
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(resident)
    made = 3 * counter.get_total_flops() * (PICTURES // pretext.batch_size)
    rate = made / statistics.median(seconds["bare"])
    return Row(
        "pretraining step, end to end: read, flip, turn, step, epoch's end",
        "the bare step on a resident batch",
        "at least 0.97 (GPU: 0.95)",
        divide(seconds["bare"], seconds["end to end"]),
        f"{ENCODER.name}, {SIDE} pixels, batch {pretext.batch_size}; an epoch of {PICTURES} "
        "pictures, whose end (weights copied, a figure drawn) weighs more than in a real one; the "
        f"bare step has {rate / product_rate(fabric, 2048):.0%} of a large matrix product's FLOP/s",
    )


def product_rate(fabric: Fabric, side: int) -> float:
    """Measure the FLOP/s of a large matrix product, as a stand-in for the device's peak."""
    left = torch.rand(side, side, device=fabric.device)

    def product() -> None:
        (left @ left).sum().item()

    return 2 * side**3 / statistics.median(time_in_turn({"product": product}, TURNS)["product"])
