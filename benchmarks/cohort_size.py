"""Memory and time at 1, 10 and 100 times the cohort. Run: python -m benchmarks cohort_size.

The nodes, datasets and loops are the project's own, schemas included. The files are in no folder: a
few small JPEGs are drawn, and each file is one of them with a number of its own at its end. The
encoder is as small as can be, so that what remains is what the cohort's size costs. No torch is
imported where the project imports none.
"""

from __future__ import annotations

import io
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from unittest import mock

import numpy as np
import pandas as pd
from PIL import Image

from lymphocytosis.cohort.pictures import PatientFolder, PictureFiles
from lymphocytosis.datasets.embeddings import EmbeddingsDataset
from lymphocytosis.datasets.image_store import ImageStoreDataset
from lymphocytosis.datasets.whole import ParquetDataset
from lymphocytosis.parameters import ImageParameters
from lymphocytosis.pipelines.embed.nodes import embed_cells
from lymphocytosis.pipelines.ingest.nodes import decode_cells, tabulate_cells
from lymphocytosis.progress import Progress

if TYPE_CHECKING:
    from benchmarks.side_by_side import Row

SIZES = (16_711, 167_110, 1_671_100)
SIDE, OF_A_PATIENT, DRAWN = 33, 80, 64
TASKS = {
    "ingest": "read, decode, check, write the store; tell and save the cells",
    "embed": "map and check the store, embed one view by the smallest encoder, save",
}
IMAGE = ImageParameters(
    source_size=SIDE,
    crop=SIDE,
    size=SIDE,
    unreadable="refuse",
    other_size="refuse",
    other_mode="refuse",
)


def measure() -> list[Row]:
    """Run both tasks at all sizes, each in a process of its own."""
    from benchmarks.side_by_side import Row, divide

    took: dict[str, list[dict[str, float]]] = {task: [] for task in TASKS}
    for pictures in SIZES:
        with TemporaryDirectory() as folder:
            for task in TASKS:
                command = [sys.executable, "-m", "benchmarks.cohort_size", task, folder]
                done = subprocess.run(  # noqa: S603
                    [*command, str(pictures)], stdout=subprocess.PIPE, text=True, check=True
                )
                took[task].append(json.loads(done.stdout.splitlines()[-1]))
    return [
        Row(
            f"cohort size: {task}, {pictures:,} pictures of {SIDE}x{SIDE}, peak memory",
            f"{SIZES[0]:,} pictures",
            "at most 1.2",
            divide([there["mib"]], [took[task][0]["mib"]]),
            f"{there['mib']:.0f} MiB, "
            f"{1024**2 * (there['mib'] - took[task][0]['mib']) / (pictures - SIZES[0]):.0f} bytes "
            f"a picture more; {1e6 * there['cpu'] / pictures:.0f} us of processor time and "
            f"{1e6 * there['wall'] / pictures:.0f} us a picture: {about}",
        )
        for task, about in TASKS.items()
        for pictures, there in list(zip(SIZES, took[task], strict=True))[1:]
    ]


def cohort(pictures: int) -> PictureFiles:
    """Name so many files, without a folder to hold them."""
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(DRAWN):
        file = io.BytesIO()
        pixels = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file, "JPEG", quality=95)
        drawn.append(file.getvalue())
    names = [sys.intern(f"{number:06}.jpg") for number in range(OF_A_PATIENT)]

    def folder(first: int) -> PatientFolder:
        patient = f"P{first // OF_A_PATIENT}"

        def read(name: str) -> bytes:
            number = first + int(name[:6])
            return drawn[number % DRAWN] + number.to_bytes(8, "big")

        own = names[: min(OF_A_PATIENT, pictures - first)]
        return PatientFolder("train", patient, f"trainset/{patient}", list(own), read)

    return PictureFiles(folder(first) for first in range(0, pictures, OF_A_PATIENT))


def _ingest(folder: Path, pictures: int) -> None:
    files = cohort(pictures)
    ids = list(dict.fromkeys(file.patient_id for file in files))
    patients = pd.DataFrame({"patient_id": ids, "subset": "train"})
    patients["label"] = pd.array([number % 2 for number in range(len(ids))], dtype="Int8")
    store = ImageStoreDataset(filepath=str(folder / "cell_images"))
    store.save(decode_cells(files, patients, IMAGE))
    del files
    _, cells, _ = tabulate_cells(store.load(), patients, [], [])
    ParquetDataset(filepath=str(folder / "cells.parquet")).save(cells)


def _embed(folder: Path, pictures: int) -> None:
    from benchmarks.memory import COMPUTE, tiny_model
    from lymphocytosis.encoders import checkpoint

    images = ImageStoreDataset(filepath=str(folder / "cell_images")).load()
    packed = {"kind": "pooled", "parameters": {}, "state_dict": {}}
    progress = Progress(folder / "shards")
    with mock.patch.object(checkpoint, "unpack", lambda _: (tiny_model().eval(), IMAGE)):
        tables = embed_cells(images, packed, {}, ["original"], COMPUTE, progress)
        EmbeddingsDataset(filepath=str(folder / "embeddings.parquet")).save(tables)


if __name__ == "__main__":
    begun = time.monotonic()
    {"ingest": _ingest, "embed": _embed}[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            {
                "mib": used.ru_maxrss / 1024,
                "cpu": used.ru_utime + used.ru_stime,
                "wall": time.monotonic() - begun,
            }
        )
    )
