"""Embedding: end to end against the bare forward, and ONNX Runtime against torch."""

import itertools
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Literal
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
from kedro.io import Version

from benchmarks.encoders import plain_encoder
from benchmarks.side_by_side import Row, divide, time_in_turn
from lymphocytosis.compute import start_fabric
from lymphocytosis.datasets.embeddings import EmbeddingsDataset
from lymphocytosis.encoders import embed
from lymphocytosis.encoders.autoencoder import build_autoencoder
from lymphocytosis.encoders.backend import fastest_embed
from lymphocytosis.encoders.pictures import to_unit
from lymphocytosis.imaging.store import map_pixels
from lymphocytosis.imaging.views import view_of
from lymphocytosis.parameters import ComputeParameters, EncoderParameters
from lymphocytosis.progress import Progress

ENCODER = plain_encoder("tf_efficientnet_lite0", 1024)
VIEWS = ["original", "horizontal", "vertical"]
SIDE, PICTURES, BATCH, TURNS = 112, 704, 32, 5  # two shards


def measure() -> list[Row]:
    """Embed random pictures by a small encoder."""
    return embed_rows(ENCODER, SIDE, PICTURES, BATCH)


@torch.inference_mode()
def embed_rows(
    encoder: EncoderParameters,
    side: int,
    pictures: int,
    batch: int,
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true",
    turns: int = TURNS,
    backend: Literal["onnx", "torch"] = "onnx",
) -> list[Row]:
    """Embed random pictures end to end, and by the bare forward."""
    compute = ComputeParameters(
        accelerator="auto", precision=precision, embed_batch_size=batch, embed_backend=backend
    )
    fabric = start_fabric(compute)
    drawn = np.random.default_rng(0).integers(0, 256, (pictures, side, side, 3), dtype=np.uint8)
    # Two of the same: to be run fast, an embedder's weights are laid out anew.
    embedder, plain = (build_autoencoder(encoder, side, 0).eval() for _ in range(2))
    rows = np.arange(pictures)
    ids = pd.DataFrame({"patient_id": "P", "image_id": [f"{i:06d}.jpg" for i in rows]})
    resident = fabric.to_device(torch.from_numpy(np.concatenate([drawn[:batch]] * len(VIEWS))))
    start = time.perf_counter()
    fast = fastest_embed(embedder, resident, compute, fabric)
    chosen = time.perf_counter() - start
    plain = fabric.to_device(plain)

    def forward() -> None:
        for _ in range(pictures // batch):
            fast(resident)[0].sum().item()

    def once() -> None:
        fast(resident)[0].sum().item()

    def eager() -> None:
        plain.embed(to_unit(resident).contiguous())[0].sum().item()

    versions = itertools.count()
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "pixels-00000.npy", drawn)
        images = map_pixels(Path(folder))

        def end_to_end() -> None:
            shards = Progress(Path(folder) / "shards")
            tables = embed.embed_in_shards(
                embedder, images, ids, VIEWS, view_of, compute, shards, 1024
            )
            path = Path(folder) / "embeddings.parquet"
            EmbeddingsDataset(
                filepath=str(path),
                version=Version(None, f"2026-01-01T00.00.00.{next(versions):03d}Z"),
            ).save(tables)
            shards.clear()

        # `embed_pictures` chooses once a call how to run the encoder; that is not timed.
        with patch.object(embed, "fastest_embed", lambda *_: fast):
            seconds = time_in_turn({"forward": forward, "end to end": end_to_end}, turns)
    seconds |= time_in_turn({"once": once, "eager": eager}, turns)
    far = float((fast(resident)[0] - plain.embed(to_unit(resident))[0]).abs().max())
    far /= float(plain.embed(to_unit(resident))[0].abs().max())
    by_torch = backend == "torch" or fabric.device.type == "cuda"
    runner = "torch" if by_torch else f"ONNX Runtime {version('onnxruntime')}"
    rate = pictures * len(VIEWS) / statistics.median(seconds["end to end"])
    what = f"{encoder.name}, {side} pixels, batches of {batch} x 3 views, {precision}"
    return [
        Row(
            f"embed, end to end: read from the store, three views, {runner}, Parquet",
            "the same forward on a resident batch",
            "at least 0.97 (GPU: 0.90)",
            divide(seconds["forward"], seconds["end to end"]),
            f"{what}; pictures are decoded once, by ingest; choosing how to run the encoder comes "
            f"on top, once a run: {chosen:.0f} s; {rate:,.0f} views a second",
        ),
        Row(
            f"embed: {runner}",
            f"torch {torch.__version__}, eager fp32",
            "at least 1.3",
            divide(seconds["eager"], seconds["once"]),
            f"{what}; features differ by {far:.1e} of the greatest",
        ),
    ]
