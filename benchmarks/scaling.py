"""Two processes of one thread against one process. Run: python -m benchmarks scaling.

The nodes are the project's own. Each is timed with little and with more work; the difference leaves
out what every run pays once: starting processes, choosing how to run the encoder.
"""

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
import yaml

from benchmarks.encoders import plain_encoder
from benchmarks.side_by_side import Row, divide
from lymphocytosis.encoders.autoencoder import AutoEncoder, build_autoencoder
from lymphocytosis.encoders.backend import portable_graph
from lymphocytosis.encoders.checkpoint import pack
from lymphocytosis.imaging.store import RECORDS, CellImages, map_pixels
from lymphocytosis.parameters import (
    ComputeParameters,
    EncoderParameters,
    ImageParameters,
    PretextParameters,
)
from lymphocytosis.pipelines.embed.nodes import embed_cells
from lymphocytosis.pipelines.ssl_pretrain.nodes import pretrain_encoder
from lymphocytosis.progress import Progress

CONF = Path(__file__).parents[1] / "conf/base/parameters.yml"
VIEWS = ["original", "horizontal", "vertical"]
TURNS = 2
# Processes, and the threads of all of them.
WAYS = {
    "1 process of 1 thread": (1, 1),
    "1 process of 2 threads": (1, 2),
    "2 processes of 1 thread each": (2, 2),
}
Work = Callable[[int, ComputeParameters, Progress], object]


def measure() -> list[Row]:
    """Embed 2 and 4 shards; pretrain for 1 and 2 epochs of 96 pictures."""
    encoder = plain_encoder("tf_efficientnet_lite0", 1024)
    return [
        *embedding_rows(encoder, 112, 352, (2, 4), TURNS, "onnx"),
        *pretraining_rows(encoder, 112, 96, (1, 2), TURNS, ("train", "per_process")),
    ]


def embedding_rows(
    encoder: EncoderParameters,
    side: int,
    each: int,
    shards: tuple[int, int],
    turns: int,
    backend: str,
) -> list[Row]:
    """Embed so many shards of `each` pictures."""
    with TemporaryDirectory() as folder:
        store = _store(Path(folder), side, each * shards[1])
        records = store.records
        model = build_autoencoder(encoder, side, 0)
        packed = pack(AutoEncoder, model.state_dict(), encoder, store.image, _pretext(), 0)
        graph = portable_graph(packed, None, _compute(backend, 1))

        def embed(count: int, compute: ComputeParameters, progress: Progress) -> None:
            cells = records.assign(row=records["row"].where(records["row"] < each * count))
            cells.to_parquet(store.folder / RECORDS)
            for _ in embed_cells(store, packed, graph, VIEWS, compute, progress):
                pass

        seconds = _seconds(embed, shards, turns, Path(folder), backend)
    what = f"{encoder.name}, {side} pixels, shards of {each} pictures in 3 views, {backend}"
    return _rows("embed", seconds, what)


def pretraining_rows(
    encoder: EncoderParameters,
    side: int,
    pictures: int,
    epochs: tuple[int, int],
    turns: int,
    batch_norms: Sequence[str],
) -> list[Row]:
    """Train the autoencoder for so many epochs, with the paper's batches of 16."""
    rows = []
    patients = pd.DataFrame({"patient_id": ["P"], "subset": ["train"]})
    with TemporaryDirectory() as folder:
        store = _store(Path(folder), side, pictures)
        for batch_norm in batch_norms:

            def train(
                count: int,
                compute: ComputeParameters,
                progress: Progress,
                batch_norm: str = batch_norm,
            ) -> None:
                pretext = _pretext(epochs=count, batch_norm=batch_norm)
                pretrain_encoder(
                    store, store.records, patients, None, encoder, pretext, compute, 0, progress
                )

            seconds = _seconds(train, epochs, turns, Path(folder), "torch")
            what = f"{encoder.name}, {side} pixels, batch 16 of all processes"
            rows += _rows(f"pretraining, batch_norm {batch_norm}", seconds, what)
    return rows


def _seconds(
    work: Work, amounts: tuple[int, int], turns: int, folder: Path, backend: str
) -> dict[str, list[float]]:
    """Time each way in turn: more work less little work."""

    def once(way: str, amount: int) -> float:
        processes, threads = WAYS[way]
        torch.set_num_threads(threads)
        start = time.perf_counter()
        work(amount, _compute(backend, processes), Progress(folder / "work"))
        took = time.perf_counter() - start
        shutil.rmtree(folder / "work")
        return took

    before = torch.get_num_threads()
    for way in WAYS:  # the first start is the slowest
        once(way, amounts[0])
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(turns):
        for way in WAYS:
            less, more = (once(way, amount) for amount in amounts)
            seconds[way].append(more - less)
    torch.set_num_threads(before)
    return seconds


def _compute(backend: str, processes: int) -> ComputeParameters:
    return ComputeParameters.model_validate(
        {
            "accelerator": "cpu", "precision": "32-true", "embed_batch_size": 32,
            "embed_backend": backend, "processes": processes,
        }
    )  # fmt: skip


def _rows(title: str, seconds: dict[str, list[float]], what: str) -> list[Row]:
    one, threads, two = WAYS
    return [
        Row(f"{title}: {two}", one, "at least 1.8", divide(seconds[one], seconds[two]), what),
        Row(f"{title}: {two}", threads, "at least 1", divide(seconds[threads], seconds[two]), what),
    ]


def _store(folder: Path, side: int, pictures: int) -> CellImages:
    drawn = np.random.default_rng(0).integers(0, 256, (pictures, side, side, 3), dtype=np.uint8)
    np.save(folder / "pixels-00000.npy", drawn)
    store = map_pixels(folder)
    names = [f"{number:06}" for number in range(pictures)]
    pd.DataFrame(
        {"patient_id": "P", "image_id": names, "sha256": names, "row": range(pictures)}
    ).astype({"row": "Int64"}).to_parquet(folder / RECORDS)
    shape = {"source_size": side, "crop": side, "size": side}
    refuse = dict.fromkeys(("unreadable", "other_size", "other_mode"), "refuse")
    store.image = ImageParameters.model_validate(shape | refuse)
    return store


def _pretext(**changes: object) -> PretextParameters:
    return PretextParameters.model_validate(
        yaml.safe_load(CONF.read_text())["pretext"] | {"early_epoch": 99} | changes
    )
