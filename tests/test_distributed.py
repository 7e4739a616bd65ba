import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from multiprocessing import active_children

import numpy as np
import pandas as pd
import pytest
import torch
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from benchmarks import scaling
from lymphocytosis import distributed
from lymphocytosis.distributed import is_first, share
from lymphocytosis.encoders.autoencoder import AutoEncoder, build_autoencoder
from lymphocytosis.encoders.checkpoint import pack
from lymphocytosis.errors import UserError
from lymphocytosis.parameters import JOINT_EMBEDDING, ComputeParameters, EncoderParameters
from lymphocytosis.pipelines.embed.nodes import embed_cells
from lymphocytosis.pipelines.ssl_pretrain.nodes import pretrain_encoder
from lymphocytosis.pretext.task import build_task
from lymphocytosis.pretext.training import pretrain
from lymphocytosis.progress import Progress
from tests import two_machines
from tests.conftest import POOLED

ENCODER = EncoderParameters(name="test_efficientnet", weights="random", small_dim=8, **POOLED)
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
def store(store_of, image_parameters):
    """An image store of four patients, and its table of cells."""
    pixels = np.random.default_rng(0).integers(0, 256, (120, 64, 64, 3), dtype=np.uint8)
    keys = {"patient_id": np.repeat(list("ABCD"), 30), "image_id": [f"{n:03}" for n in range(120)]}
    records = pd.DataFrame({**keys, "sha256": keys["image_id"], "row": range(120)})
    return store_of(pixels, records, image_parameters(source_size=64, crop=64, size=64))


@pytest.fixture(scope="module")
def embed(store, pretext_parameters):
    """A function that runs the node of `embed`, and returns the union of its tables."""
    model = build_autoencoder(ENCODER, 64, 0)
    packed = pack(AutoEncoder, model.state_dict(), ENCODER, store.image, pretext_parameters(), 0)

    def run(processes, progress, rows_per_group=20):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("lymphocytosis.pipelines.embed.nodes.ROWS_PER_GROUP", rows_per_group)
            compute = compute_of(processes)
            return list(embed_cells(store, packed, None, VIEWS, compute, progress))

    return run


@pytest.fixture(scope="module")
def alone(embed):
    torch.set_num_threads(1)
    return embed(1, Progress(None))


@contextmanager
def a_process_killed_after(folder, part):
    """Kill one of the processes as soon as a part is saved; yields the saved ones, by inode."""
    finished = {}

    def kill():
        while not (found := list(folder.glob(part))):
            time.sleep(0.001)
        os.kill(active_children()[-1].pid, signal.SIGKILL)
        finished.update({path: path.stat().st_ino for path in found})

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    yield finished
    killer.join()


class TestEmbedding:
    @pytest.mark.parametrize("processes", [2, 4])
    def test_the_table_is_that_of_one_process(self, embed, alone, tmp_path, processes):
        progress = Progress(tmp_path / "embeddings")
        assert embed(processes, progress) == alone
        assert len(list(progress.folder.glob("shard-*.parquet"))) == len(alone) == 15

    def test_after_a_kill_only_unfinished_shards_are_done_again(self, embed, alone, tmp_path):
        progress = Progress(tmp_path / "embeddings")
        with a_process_killed_after(progress.folder, "shard-*.parquet") as finished:
            found = embed(3, progress)
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


@pytest.fixture(scope="module")
def pretrain_by(store, pretext_parameters):
    """A function that runs the node of `ssl_pretrain`."""
    patients = pd.DataFrame({"patient_id": ["A"], "subset": "train"})

    def run(folder, processes, epochs, earlier=None, **changes):
        pretext = pretext_parameters(
            epochs=epochs, batch_size=12, learning_rate=1e-4, early_epoch=9, **changes
        )
        compute, progress = compute_of(processes), Progress(folder)
        return pretrain_encoder(
            store, store.records, patients, earlier, ENCODER, pretext, compute, 0, progress
        )

    return run


class TestPretraining:
    @pytest.mark.parametrize("name", TASKS)
    def test_losses_and_gradients_are_those_of_one_process(self, of_tasks, by_two, name):
        if name not in of_tasks:
            pytest.skip("needs the extra ssl")
        losses, gradients = train(of_tasks[name], together=False)
        np.testing.assert_allclose(by_two[name][0], losses, rtol=1e-5)
        difference = np.linalg.norm(by_two[name][1] - gradients) / np.linalg.norm(gradients)

        assert difference < 1e-4

    def test_a_local_run_goes_on_from_a_shared_one_and_the_other_way(self, pretrain_by, tmp_path):
        packed, history, shown, _ = pretrain_by(tmp_path / "all", 1, 2)
        for first, then in ((2, 1), (1, 2)):
            begun = pretrain_by(tmp_path / f"begun-{first}", first, 1)[-1]
            found, losses, drawn, _ = pretrain_by(tmp_path / f"ended-{then}", then, 2, begun)
            # The first epoch is not done again: its loss is the one that was kept.
            assert losses["loss"][0] == begun["state"]["losses"][0]
            np.testing.assert_allclose(losses["loss"], history["loss"], rtol=1e-4)
            assert found["parameters"] == packed["parameters"]
            assert drawn.keys() == shown.keys()

    def test_after_a_kill_it_goes_on_after_the_last_epoch(self, pretrain_by, tmp_path):
        _, history, _, _ = pretrain_by(tmp_path / "alone", 1, 4)
        with a_process_killed_after(tmp_path / "shared", "epoch.pt") as finished:
            _, found, _, training = pretrain_by(tmp_path / "shared", 2, 4)
        assert len(finished) == 1
        np.testing.assert_allclose(found["loss"], history["loss"], rtol=1e-4)
        assert len(training["state"]["losses"]) == 4

    def test_an_interrupt_ends_all_processes_and_the_next_one_is_this_ones(
        self, pretrain_by, tmp_path
    ):
        before = signal.getsignal(signal.SIGINT)
        others = set(active_children())  # joblib keeps those of another test

        def interrupt():
            while not (tmp_path / "epoch.pt").exists():
                time.sleep(0.001)
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=interrupt, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            pretrain_by(tmp_path, 2, 1000)
        assert set(active_children()) <= others
        assert signal.getsignal(signal.SIGINT) is before

    def test_a_batch_too_small_to_share_is_refused(self, pretrain_by, tmp_path):
        with pytest.raises(
            UserError, match=r"pretext\.batch_size is 12, which 7 .* give 14 or more"
        ):
            pretrain_by(tmp_path, 7, 1)


def one_of_two(rendezvous, timeout=1):
    return compute_of(1).model_copy(
        update={"nodes": 2, "rendezvous": rendezvous, "rendezvous_timeout": timeout}
    )


class TestFailures:
    def test_what_a_user_can_fix_is_told_at_once(self, tmp_path):
        progress, job = Progress(tmp_path / "w"), {"compute": compute_of(2).model_dump()}
        with pytest.raises(UserError, match="autoencoder"):
            share("embeddings", progress, {**job, "autoencoder": {"kind": "none"}}, compute_of(2))

    def test_a_process_that_fails_is_told_with_its_own_message(self, tmp_path, monkeypatch):
        monkeypatch.setattr(distributed, "RESTARTS", 0)
        progress, job = Progress(tmp_path / "w"), {"compute": compute_of(2).model_dump()}
        with pytest.raises(
            UserError, match=r"embeddings: a process failed 1 times.*KeyError"
        ) as told:
            share("embeddings", progress, job, compute_of(2))
        assert "\n" not in str(told.value)

    def test_machines_that_do_not_meet_are_told_where_and_how_long(self, tmp_path):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        with pytest.raises(
            UserError, match=rf"127\.0\.0\.1:{port}: 2 machines did not meet there within 1 s"
        ):
            share("embeddings", Progress(tmp_path), {}, one_of_two(f"127.0.0.1:{port}"))


def test_one_process_loads_nothing_of_the_agent():
    code = (
        "import sys; import lymphocytosis.distributed, lymphocytosis.pipelines.embed.nodes; "
        "assert not [name for name in sys.modules if name.startswith('torch')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


class TestFirstMachine:
    def test_it_is_the_one_that_the_address_names(self):
        assert is_first(compute_of(2))
        assert is_first(one_of_two("localhost:29400"))
        assert not is_first(one_of_two("192.0.2.1:29400"))

    def test_an_unknown_name_is_refused(self):
        with pytest.raises(
            UserError, match=r"compute\.rendezvous is nowhere\.invalid:29400.*no such"
        ):
            is_first(one_of_two("nowhere.invalid:29400"))


def test_the_benchmark_of_scaling_runs(monkeypatch):
    monkeypatch.setattr(scaling, "_rows", lambda title, seconds, what: [seconds])
    monkeypatch.setattr(scaling, "WAYS", {"one": (1, 1)})  # the tests above start several
    (seconds,) = scaling.embedding_rows(ENCODER, 64, 32, (1, 2), 1, "torch")
    assert len(seconds["one"]) == 1
    (seconds,) = scaling.pretraining_rows(ENCODER, 64, 16, (1, 2), 1, ("train",))
    assert len(seconds["one"]) == 1


def test_two_machines_work_together_and_the_first_one_saves(tmp_path):
    try:
        told = two_machines.meet(tmp_path)
    except two_machines.NotPermittedError as error:
        pytest.skip(f"no network namespaces: {error}")
    first, second = (" ".join(lines.split()) for lines in told.values())
    assert "autoencoder: 1 process(es) on each of 2 machine(s)" in first
    assert "helped with autoencoder, embeddings, large_classifiers. The first" in second
    assert "The first machine, 10.77.18.1, saves the results." in second
