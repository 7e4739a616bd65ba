from contextlib import contextmanager
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from lymphocytosis.encoders.autoencoder import build_autoencoder
from lymphocytosis.errors import UserError
from lymphocytosis.parameters import ComputeParameters, EncoderParameters
from lymphocytosis.pretext.augment import flip_and_turn
from lymphocytosis.pretext.task import build_task
from lymphocytosis.pretext.training import _batches, pretrain
from lymphocytosis.progress import Progress
from tests.conftest import POOLED

ENCODER = EncoderParameters(name="test_efficientnet", weights="random", small_dim=8, **POOLED)
COMPUTE = ComputeParameters(
    accelerator="cpu", precision="32-true", embed_batch_size=4, embed_backend="torch"
)
SHOWN = np.array([0, 3])
NOTHING = Progress(None)


@pytest.fixture(scope="module")
def images():
    # Smooth gradients of differing colour: something that can be learnt.
    ramp = np.linspace(0, 1, 64)[None, :, None, None] * np.ones((1, 1, 64, 1))
    colour = np.random.default_rng(0).uniform(60, 255, (10, 1, 1, 3))
    return (ramp * colour).astype(np.uint8)


@pytest.fixture(scope="module")
def run(pretext_parameters):
    """A function that trains the autoencoder."""

    def train(images, seed=0, rows=None, progress=NOTHING, earlier=None, **changes):
        rows = np.arange(len(images)) if rows is None else rows
        pretext = pretext_parameters(**changes)
        task = build_task(ENCODER, pretext, images, rows, seed)
        progress = progress or Progress(None)
        return pretrain(
            task, images, rows, SHOWN, pretext, COMPUTE, seed, progress, earlier=earlier
        )

    return train


def plain_loop(images, epochs, batch_size, reduction):
    """The same training, written down once more: Adam's default form, no Fabric."""
    model = build_autoencoder(ENCODER, 64, 0).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.002)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(epochs):
        order = torch.randperm(len(images), generator=generator).numpy()
        of_epoch = []
        for start in range(0, len(order), batch_size):
            pixels = torch.from_numpy(images[order[start : start + batch_size]])
            target = flip_and_turn(pixels, 1.0, generator).permute(0, 3, 1, 2) / 255
            error = (model(target) - target) ** 2
            loss = error.mean() if reduction == "mean" else error.sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            of_epoch.append(loss.item())
        losses.append(np.mean(of_epoch))
    return model.state_dict(), losses


class TestTraining:
    @pytest.mark.parametrize("reduction", ["mean", "sum"])
    def test_it_equals_a_plain_loop(self, run, images, reduction):
        trained = run(images, reduction=reduction)
        state, losses = plain_loop(images, epochs=2, batch_size=4, reduction=reduction)
        np.testing.assert_allclose(trained.history["loss"], losses, rtol=1e-4)
        # Biases before a BatchNorm have no gradient but rounding, which Adam blows up: the scales
        # after it show whether every step was the same.
        for name in (f"decoder.blocks.{i}.1.weight" for i in range(5)):
            torch.testing.assert_close(trained.state[name], state[name], rtol=1e-3, atol=1e-4)

    def test_the_loss_falls(self, run, images):
        losses = run(images, epochs=12, learning_rate=0.01).history["loss"]
        assert losses.iloc[-1] < 0.6 * losses.iloc[0]

    def test_same_seed_same_bits(self, run, images):
        first, second = run(images, seed=5), run(images, seed=5)
        assert first.history.equals(second.history)
        assert all(torch.equal(first.state[name], second.state[name]) for name in first.state)
        assert not run(images, seed=6).history.equals(first.history)

    def test_it_leaves_torchs_global_generator_alone(self, run, images):
        torch.manual_seed(1)
        undisturbed = torch.rand(3)
        torch.manual_seed(1)
        run(images, epochs=1)
        assert torch.equal(torch.rand(3), undisturbed)

    def test_a_long_epoch_shows_how_its_loss_goes(self, images, pretext_parameters, monkeypatch):
        from lymphocytosis.pretext import training as module

        told, work = [], Mock()

        @contextmanager
        def watched(title, total, unit, note):
            work.advance = lambda count: told.append(note(0))
            yield work

        monkeypatch.setattr(module, "working", watched)
        monkeypatch.setattr(module, "_LOOK", 2)
        task = build_task(ENCODER, pretext_parameters(), images, np.arange(10), 0)
        losses = iter(range(100))
        true_loss = task.loss
        task = replace(task, loss=lambda *given: true_loss(*given) * 0 + next(losses))
        pretext = pretext_parameters(epochs=2, batch_size=2)
        pretrain(task, images, np.arange(10), SHOWN, pretext, COMPUTE, 0, NOTHING)
        # Five batches an epoch, with losses 0 to 4 and 5 to 9; a look after every second one, and
        # at the end of an epoch its mean.
        said = [line.rpartition("loss ")[2] for line in told]
        assert said == ["epoch 1 of 2"] * 2 + ["0.5"] * 2 + ["2.5"] + ["2"] * 2 + ["5.5"] * 2 + [
            "7.5"
        ]

    def test_only_the_rows_asked_for_are_seen(self, run, images):
        changed = images.copy()
        changed[5:] = 0
        rows = np.arange(5)
        assert run(images, rows=rows).history.equals(run(changed, rows=rows).history)


class TestWhatIsKept:
    def test_the_last_epoch(self, run, images):
        # The history up to an epoch does not depend on how many follow it.
        longer = run(images, epochs=3)
        assert list(longer.history["epoch"]) == [1, 2, 3]
        assert run(images, epochs=2).history.equals(longer.history.iloc[:2])

    def test_the_best_epoch(self, run, images):
        # So large a rate that the loss rises again.
        trained = run(images, epochs=5, learning_rate=0.3, keep="best")
        best = int(trained.history["loss"].argmin()) + 1
        until_best = run(images, epochs=best, learning_rate=0.3, keep="last")
        assert all(torch.equal(v, until_best.state[k]) for k, v in trained.state.items())

    def test_reconstructions_of_an_early_and_the_last_epoch(self, run, images):
        shown = run(images, epochs=3, early_epoch=2).shown
        assert list(shown) == ["original", "epoch 2", "epoch 3"]
        assert all(p.shape == (2, 64, 64, 3) and p.dtype == np.uint8 for p in shown.values())
        assert np.array_equal(shown["original"], images[SHOWN])
        assert list(run(images, epochs=1, early_epoch=2).shown) == ["original", "epoch 1"]


def test_a_loss_that_is_no_number_stops_the_run(run, images, monkeypatch):
    monkeypatch.setattr(
        "lymphocytosis.pretext.training.to_unit",
        lambda pixels: torch.full((len(pixels), 3, 64, 64), float("nan")),
    )
    with pytest.raises(UserError, match=r"loss of epoch 1, batch 1 is nan.*pretext\.learning_rate"):
        run(images)


class TestLongerTraining:
    @pytest.mark.parametrize("keep", ["last", "best"])
    def test_it_goes_on_from_a_shorter_one_to_the_same_bits(self, run, images, keep):
        changes = {"batch_size": 3, "early_epoch": 2, "keep": keep}
        shorter = run(images, epochs=3, **changes)
        at_once = run(images, epochs=5, **changes)
        longer = run(images, epochs=5, earlier=shorter.training, **changes)
        assert longer.history.equals(at_once.history)
        assert list(longer.shown) == ["original", "epoch 2", "epoch 5"]
        assert all(np.array_equal(longer.shown[k], v) for k, v in at_once.shown.items())
        assert all(torch.equal(longer.state[k], v) for k, v in at_once.state.items())


class TestBatches:
    @pytest.mark.parametrize("patients", [1, 2, 3])
    @pytest.mark.parametrize("sizes", [(7, 5, 9, 30, 4), (1, 5, 9, 30, 2), (1,) * 7, (4, 1)])
    def test_hold_cells_of_so_many_patients_each_once(self, pretext_parameters, patients, sizes):
        owner = np.repeat(np.arange(len(sizes)), sizes)
        pretext = pretext_parameters(batch_size=8, patients_per_batch=patients)
        generator = torch.Generator().manual_seed(0)
        batches = _batches(len(owner), owner, pretext, generator)
        assert sorted(np.concatenate(batches)) == list(range(len(owner)))
        assert all(len(batch) > 1 for batch in batches)
        # More where a patient has a single cell, which joins others.
        if min(sizes) > 1:
            assert all(len(np.unique(owner[batch])) <= patients for batch in batches)
        again = _batches(len(owner), owner, pretext, generator)
        assert [b.tolist() for b in again] != [b.tolist() for b in batches]

    def test_the_paper_mixes_patients(self, pretext_parameters):
        pretext = pretext_parameters(batch_size=8)
        batches = _batches(21, None, pretext, torch.Generator().manual_seed(0))
        order = torch.randperm(21, generator=torch.Generator().manual_seed(0))
        assert np.concatenate(batches).tolist() == order.tolist()
        assert [len(batch) for batch in batches] == [8, 8, 5]


class TestWhatIsTrained:
    def test_the_first_layers_stay_as_they_are(self, run, images):
        initial = build_autoencoder(ENCODER, 64, 0).state_dict()
        trained = run(images, fixed_share=0.5).state
        names = [n for n in initial if n.startswith("encoder.") and "running" not in n]
        moved = [not torch.equal(trained[n], initial[n]) for n in names if "num_" not in n]
        first = moved.index(True)
        assert 0 < first < len(moved) - 1
        assert not torch.equal(trained["narrow.weight"], initial["narrow.weight"])

    def test_batch_norms_keep_their_statistics(self, run, images):
        initial = build_autoencoder(ENCODER, 64, 0).state_dict()
        trained = run(images, batch_norm="fixed").state
        names = [n for n in initial if "running_mean" in n]
        same = {n: torch.equal(trained[n], initial[n]) for n in names}
        assert all(same[n] for n in names if n.startswith("encoder."))
        assert not any(same[n] for n in names if n.startswith("decoder."))


class TestAfterAKill:
    @pytest.mark.parametrize("epochs_done", [1, 3])
    @pytest.mark.parametrize("keep", ["last", "best"])
    def test_all_is_the_same_to_the_bit(self, run, images, after_a_kill, epochs_done, keep):
        changes = {"epochs": 4, "batch_size": 3, "early_epoch": 2, "keep": keep}
        undisturbed = run(images, **changes)
        resumed = after_a_kill(lambda p: run(images, progress=p, **changes), epochs_done)
        assert resumed.history.equals(undisturbed.history)
        assert list(resumed.shown) == list(undisturbed.shown)
        assert all(np.array_equal(resumed.shown[k], v) for k, v in undisturbed.shown.items())
        assert resumed.state.keys() == undisturbed.state.keys()
        assert all(torch.equal(resumed.state[k], v) for k, v in undisturbed.state.items())

    def test_what_dropout_draws_is_the_same_too(self, images, after_a_kill, pretext_parameters):
        pretext = pretext_parameters(epochs=3, batch_size=5)

        def train(progress):
            rows = np.arange(len(images))
            task = build_task(ENCODER, pretext, images, rows, 0)
            # As swin's drop path: it draws from torch's global generator.
            task.module.narrow = torch.nn.Sequential(task.module.narrow, torch.nn.Dropout(0.5))
            torch.rand(np.random.default_rng().integers(1, 99))  # what else a process has drawn
            return pretrain(task, images, rows, SHOWN, pretext, COMPUTE, 0, progress)

        undisturbed, resumed = train(NOTHING), after_a_kill(train, 1)
        assert resumed.history.equals(undisturbed.history)
        assert all(torch.equal(resumed.state[k], v) for k, v in undisturbed.state.items())

    def test_a_loss_that_is_no_number_keeps_the_last_good_epoch(
        self, run, images, tmp_path, monkeypatch
    ):
        from lymphocytosis.pretext import training as module

        look = module.finite_losses

        def spoiled(losses, epoch, *said):
            return look(losses * float("nan") if epoch == 3 else losses, epoch, *said)

        monkeypatch.setattr(module, "finite_losses", spoiled)
        progress = Progress(tmp_path / "work")
        with pytest.raises(UserError, match=r"the loss of epoch 3, batch 1 is nan"):
            run(images, epochs=4, batch_size=3, progress=progress)
        assert len(progress.values("epoch")["losses"]) == 2

    @pytest.mark.parametrize("keep", ["last", "best"])
    def test_a_gradient_that_is_no_number_keeps_the_last_good_epoch(
        self, images, tmp_path, pretext_parameters, keep
    ):
        """Though every loss is finite: it is the gradient of an epoch's last batch."""
        pretext = pretext_parameters(epochs=3, batch_size=5, keep=keep)
        task = build_task(ENCODER, pretext, images, np.arange(10), 0)
        batches = []

        def loss(*given):
            value = task.loss(*given)
            batches.append(value)
            if len(batches) == 4:  # the second of epoch 2
                value.register_hook(lambda gradient: gradient * torch.nan)
            return value

        progress = Progress(tmp_path / "work")
        spoiled = replace(task, loss=loss)
        with pytest.raises(UserError, match=r"after epoch 2 the weight .* not finite.*precision"):
            pretrain(spoiled, images, np.arange(10), SHOWN, pretext, COMPUTE, 0, progress)
        kept = progress.values("epoch")
        assert len(kept["losses"]) == 1
        assert all(value.isfinite().all() for value in kept["module"].values())
        assert all(value.isfinite().all() for value in batches)
