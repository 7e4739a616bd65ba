import importlib.util
import os
import signal
import threading
import time
from multiprocessing import active_children

import numpy as np
import pandas as pd
import pytest
import torch
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from lymphocytosis.encoders.autoencoder import AutoEncoder, build_autoencoder
from lymphocytosis.encoders.checkpoint import pack
from lymphocytosis.errors import UserError
from lymphocytosis.imaging.store import map_pixels
from lymphocytosis.parameters import JOINT_EMBEDDING, ComputeParameters, EncoderParameters
from lymphocytosis.pipelines.embed.nodes import embed_cells
from lymphocytosis.pipelines.ssl_pretrain.nodes import pretrain_encoder
from lymphocytosis.pretext.task import build_task
from lymphocytosis.pretext.training import pretrain
from lymphocytosis.progress import Progress

ENCODER = EncoderParameters(
    name="test_efficientnet", weights="random", small_dim=8, pool="mean", layers=1, zooms=(1.0,)
)
VIEWS = ["original", "horizontal", "vertical"]


def compute_of(processes):
    return ComputeParameters(
        accelerator="cpu", precision="32-true", embed_batch_size=4, embed_backend="torch",
        processes=processes,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread():
    # As many as each of several processes has on two cores: other numbers give other last bits.
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def store(tmp_path_factory, image_parameters):
    """An image store of four patients, and its table of cells."""
    path = tmp_path_factory.mktemp("store") / "pixels.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (120, 64, 64, 3), dtype=np.uint8))
    images = map_pixels(path)
    keys = {"patient_id": np.repeat(list("ABCD"), 30), "image_id": [f"{n:03}" for n in range(120)]}
    images.records = pd.DataFrame({**keys, "sha256": keys["image_id"], "row": range(120)})
    images.image = image_parameters(source_size=64, crop=64, size=64)
    return images


@pytest.fixture(scope="module")
def embed(store, pretext_parameters):
    """A function that runs the node of `embed`, and returns the union of its tables."""
    model = build_autoencoder(ENCODER, 64, 0)
    packed = pack(AutoEncoder, model.state_dict(), ENCODER, store.image, pretext_parameters(), 0)

    def run(processes, progress, rows_per_group=20):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("lymphocytosis.pipelines.embed.nodes.ROWS_PER_GROUP", rows_per_group)
            compute = compute_of(processes)
            return list(embed_cells(store, store.records, packed, VIEWS, compute, progress))

    return run


@pytest.fixture(scope="module")
def alone(embed):
    torch.set_num_threads(1)
    return embed(1, Progress(None))


class TestEmbedding:
    @pytest.mark.parametrize("processes", [2, 4])
    def test_the_table_is_that_of_one_process(self, embed, alone, tmp_path, processes):
        progress = Progress(tmp_path / "embeddings")
        assert embed(processes, progress) == alone
        assert len(list(progress.folder.glob("shard-*.pt"))) == len(alone) == 15

    def test_after_a_kill_only_unfinished_shards_are_done_again(self, embed, alone, tmp_path):
        progress = Progress(tmp_path / "embeddings")
        finished, killed = {}, []

        def kill():
            while not (found := list(progress.folder.glob("shard-*.pt"))):
                time.sleep(0.001)
            killed.append(active_children()[-1].pid)
            os.kill(killed[0], signal.SIGKILL)
            finished.update({path: path.stat().st_ino for path in found})

        killer = threading.Thread(target=kill)
        killer.start()
        found = embed(3, progress)
        killer.join()
        assert found == alone
        assert 0 < len(finished) < len(alone)
        assert all(path.stat().st_ino == inode for path, inode in finished.items())


# What a task needs that has more than one process: a batch of 8 is split, the last one of 3 is not.
TASKS = {
    "autoencoder": {"name": "autoencoder"},
    "sum": {"name": "autoencoder", "reduction": "sum", "batch_norm": "fixed"},
    "simclr": {"name": "simclr"},
    "vicreg": {"name": "vicreg"},
    "dino": {"name": "dino"},
    "lejepa": {"name": "lejepa"},
    "igpt": {"name": "igpt"},
}


def train(given, together):
    """Train on 11 pictures; the losses of the epochs, and the gradients."""
    torch.set_num_threads(1)
    pretext, compute = given
    images = np.random.default_rng(0).integers(0, 256, (11, 64, 64, 3), dtype=np.uint8)
    rows = np.arange(11)
    task = build_task(ENCODER, pretext, images, rows, 0)
    shown, nowhere = np.array([0, 3]), Progress(None)
    done = pretrain(task, images, rows, shown, pretext, compute, 0, nowhere, together=together)
    # Adam's mean gradients: its steps would not show gradients that are too large.
    states = done.training["optimizer"]["state"].values()
    gradients = torch.cat([state["exp_avg"].flatten() for state in states])
    return done.history["loss"].to_numpy(), gradients.numpy()


def train_all(given):
    return {name: train(of_task, together=True) for name, of_task in given.items()}


@pytest.fixture(scope="module")
def of_tasks(pretext_parameters):
    # A rate so small that rounding, which Adam blows up, does not lead the two apart.
    settings = {"epochs": 2, "batch_size": 8, "learning_rate": 2e-5}
    given = {n: (pretext_parameters(**settings | c), compute_of(1)) for n, c in TASKS.items()}
    if importlib.util.find_spec("lightly") is None:
        given = {n: g for n, g in given.items() if g[0].name not in JOINT_EMBEDDING}
    return given


@pytest.fixture(scope="module")
def by_two(of_tasks):
    """What `train` gives for each task, in each of two processes."""
    config = LaunchConfig(
        1, 1, 2, run_id="tasks", rdzv_backend="c10d", rdzv_endpoint="localhost:0",
        start_method="forkserver", max_restarts=0,
    )  # fmt: skip
    first, second = elastic_launch(config, train_all)(of_tasks).values()
    for name in of_tasks:
        assert all(np.array_equal(*both) for both in zip(first[name], second[name], strict=True))
    return first


class TestPretraining:
    @pytest.mark.parametrize("name", TASKS)
    def test_losses_and_gradients_are_those_of_one_process(self, of_tasks, by_two, name):
        if name not in of_tasks:
            pytest.skip("needs the extra ssl")
        losses, gradients = train(of_tasks[name], together=False)
        np.testing.assert_allclose(by_two[name][0], losses, rtol=1e-5)
        difference = np.linalg.norm(by_two[name][1] - gradients) / np.linalg.norm(gradients)

        assert difference < 1e-4
