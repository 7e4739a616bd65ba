"""Memory at ten times the cohort, measured against once. Run: python -m benchmarks memory.

The nodes, datasets and loops are the project's own. Only the networks are replaced by tiny ones,
whose memory depends on the batch and never on the cohort; and the pictures are small and black: a
sparse file, whose pages the kernel maps into memory like any other's.
"""

import re
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import yaml
from numpy.lib import format as npy

from benchmarks.encoders import plain_encoder
from benchmarks.side_by_side import Row, divide
from lymphocytosis.cohort.inventory import CELL_COLUMNS
from lymphocytosis.datasets.embeddings import EmbeddingsDataset
from lymphocytosis.datasets.image_store import ImageStoreDataset
from lymphocytosis.imaging.store import CellImages
from lymphocytosis.parameters import (
    ComputeParameters,
    ImageParameters,
    PretextParameters,
)
from lymphocytosis.progress import Progress

COHORT, TIMES, SIDE = 16_711, 10, 40
PATIENTS = 152
CONF = Path(__file__).parents[1] / "conf/base/parameters.yml"
IMAGE = ImageParameters(
    source_size=SIDE,
    crop=SIDE,
    size=SIDE,
    unreadable="refuse",
    other_size="refuse",
    other_mode="refuse",
)
COMPUTE = ComputeParameters(
    accelerator="cpu", precision="32-true", embed_batch_size=256, embed_backend="torch"
)
ENCODER = plain_encoder("test_efficientnet", 8)


def measure() -> list[Row]:
    """Run both tasks at both sizes, each in a process of its own."""
    rows = []
    with TemporaryDirectory() as folder:
        stores = {times: Path(folder) / f"{times}" for times in (1, TIMES)}
        for times, store in stores.items():
            _write_store(store, times * COHORT)
        for task in ("embedding", "pretraining"):
            peaks = {times: _peak_of_process(task, store) for times, store in stores.items()}
            rows.append(
                Row(
                    f"memory: {task}, {TIMES * COHORT:,} pictures of {SIDE}x{SIDE}",
                    f"{COHORT:,} pictures",
                    "at most 1.2",
                    divide([peaks[TIMES]], [peaks[1]]),
                    f"peak resident memory: {peaks[TIMES]:.0f} MiB, {peaks[1]:.0f} MiB; the store: "
                    f"{TIMES * COHORT * SIDE**2 * 3 / 2**20:.0f} MiB",
                )
            )
    return rows


def _peak_of_process(task: str, store: Path) -> float:
    command = [sys.executable, "-m", "benchmarks.memory", task, str(store)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
    return float(done.stdout.split()[-1])


def _run(task: str, folder: Path) -> None:
    """Run a task's node from the store to what it gives; print this process's peak in MiB."""
    store = ImageStoreDataset(filepath=str(folder)).load()
    if task == "embedding":
        _embed(store, folder / "embeddings.parquet")
    else:
        _pretrain(store, pd.read_parquet(folder / "cells.parquet"))
    status = Path("/proc/self/status").read_text()
    print(int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024)


def _embed(store: CellImages, file: Path) -> None:
    from lymphocytosis.encoders import checkpoint
    from lymphocytosis.pipelines.embed.nodes import embed_cells

    packed: dict[str, Any] = {"kind": "pooled", "parameters": {}, "state_dict": {}}
    with mock.patch.object(checkpoint, "unpack", lambda _: (tiny_model().eval(), IMAGE)):
        tables = embed_cells(
            store, packed, None, ["original"], COMPUTE, Progress(file.with_name("shards"))
        )
        EmbeddingsDataset(filepath=str(file)).save(tables)


def _pretrain(store: CellImages, cells: pd.DataFrame) -> None:
    from lymphocytosis.encoders import checkpoint
    from lymphocytosis.pipelines.ssl_pretrain.nodes import pretrain_encoder
    from lymphocytosis.pretext import task as tasks

    model = tiny_model()
    task = tasks.Task(
        module=model,
        kept=model,
        views=1,
        loss=lambda module, views, _: module(views[0]).square().mean(),
        show=lambda _, pictures, epoch: {epoch: pictures},
    )
    settings = yaml.safe_load(CONF.read_text())["pretext"]
    pretext = PretextParameters(**settings | {"epochs": 1, "batch_size": 256, "images": "all"})
    patients = pd.DataFrame({"patient_id": cells["patient_id"].unique(), "subset": "train"})
    with (
        mock.patch.object(tasks, "build_task", lambda *_: task),
        mock.patch.object(checkpoint, "pack", lambda model, state, *_: state),
    ):
        pretrain_encoder(store, cells, patients, None, ENCODER, pretext, COMPUTE, 0, Progress(None))


def tiny_model() -> Any:
    """Build a network whose memory depends on the batch alone."""
    from torch import Tensor, nn
    from torch.nn import functional as F

    class Tiny(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.narrow = nn.Linear(48, ENCODER.small_dim)

        def embed(self, images: Tensor) -> tuple[Tensor, Tensor]:
            large = F.adaptive_avg_pool2d(images, 4).flatten(1)
            return large, self.narrow(large)

        def forward(self, images: Tensor) -> Tensor:
            return self.embed(images)[1]

    return Tiny()


def _write_store(folder: Path, pictures: int) -> None:
    folder.mkdir()
    shape = (pictures, SIDE, SIDE, 3)
    with (folder / "pixels-00000.npy").open("wb") as file:
        npy.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        file.truncate(file.tell() + int(np.prod(shape)))
    image_id = [f"{number:06d}.jpg" for number in range(pictures)]
    patient = [f"P{number * PATIENTS // pictures}" for number in range(pictures)]
    records = pd.DataFrame(
        {
            "patient_id": patient,
            "image_id": image_id,
            "subset": "train",
            "path": [f"trainset/{p}/{i}" for p, i in zip(patient, image_id, strict=True)],
            "sha256": [sha256(name.encode()).hexdigest() for name in image_id],
            "status": "taken",
            "reason": "",
            "row": pd.array(range(pictures), dtype="Int64"),
        }
    )
    records.to_parquet(folder / "records.parquet", index=False)
    records[CELL_COLUMNS].to_parquet(folder / "cells.parquet")
    (folder / "image.json").write_text(IMAGE.model_dump_json())


if __name__ == "__main__":
    _run(sys.argv[1], Path(sys.argv[2]))
