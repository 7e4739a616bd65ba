import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lymphocytosis.encoders.pooled import build_pooled_encoder
from lymphocytosis.errors import UserError
from lymphocytosis.parameters import ComputeParameters, EncoderParameters
from lymphocytosis.pretext.task import build_task
from lymphocytosis.pretext.training import pretrain
from lymphocytosis.progress import Progress
from tests.conftest import POOLED

ENCODER = EncoderParameters(name="test_efficientnet", weights="random", small_dim=8, **POOLED)
COMPUTE = ComputeParameters(
    accelerator="cpu", precision="32-true", embed_batch_size=4, embed_backend="torch"
)
SHOWN = np.array([0, 3])


@pytest.fixture
def lightly():
    return pytest.importorskip("lightly", reason="needs the extra ssl")


@pytest.fixture(scope="module")
def images():
    ramp = np.linspace(0, 1, 64)[None, :, None, None] * np.ones((1, 1, 64, 1))
    colour = np.random.default_rng(0).uniform(60, 255, (9, 1, 1, 3))
    return (ramp * colour).astype(np.uint8)


@pytest.fixture(scope="module")
def run(images, pretext_parameters):
    """A function that trains a task on all pictures but those left out."""

    def train(name, seed=0, pictures=9, **changes):
        pretext = pretext_parameters(name=name, **changes)
        rows = np.arange(pictures)
        task = build_task(ENCODER, pretext, images, rows, seed)
        return pretrain(task, images, rows, SHOWN, pretext, COMPUTE, seed, Progress(None))

    return train


def nt_xent(first, second, temperature):
    """SimCLR's equation 1, pair by pair."""
    both = F.normalize(torch.cat([first, second]), dim=1).double()
    n, losses = len(first), []
    for i in range(2 * n):
        j = (i + n) % (2 * n)
        others = sum(torch.exp(both[i] @ both[k] / temperature) for k in range(2 * n) if k != i)
        losses.append(-torch.log(torch.exp(both[i] @ both[j] / temperature) / others))
    return sum(losses) / (2 * n)


def vicreg(first, second, invariance, variance, covariance):
    """VICReg's equations 1 to 6; the hinge is averaged over both views, as in the authors' code."""

    def deviation(z):
        return torch.clamp(1 - torch.sqrt(z.var(dim=0) + 1e-4), min=0).mean()

    def spread(z):
        z = z - z.mean(dim=0)
        matrix = z.T @ z / (len(z) - 1)
        return (matrix**2).sum().sub((matrix.diagonal() ** 2).sum()) / z.shape[1]

    apart = ((first - second) ** 2).mean()
    hinge = (deviation(first) + deviation(second)) / 2
    return invariance * apart + variance * hinge + covariance * (spread(first) + spread(second))


def epps_pulley(projected, directions):
    """LeJEPA's test that projections are standard normal in each direction, at 17 frequencies."""
    t = torch.linspace(0, 3, 17, dtype=torch.double)
    target = torch.exp(-(t**2) / 2)
    of_directions = []
    for direction in directions.T:
        angles = (projected @ direction)[:, None] * t
        gap = (angles.cos().mean(dim=0) - target) ** 2 + angles.sin().mean(dim=0) ** 2
        # Over negative frequencies, too, where the integrand is the same.
        of_directions.append(2 * torch.trapezoid(gap * target, t) * len(projected))
    return torch.stack(of_directions).mean()


def cross_entropy(teacher, student, centre, temperatures):
    """DINO's equation 3 over views that differ."""
    terms = [
        -(((t - centre) / temperatures[0]).softmax(1) * (s / temperatures[1]).log_softmax(1))
        .sum(1).mean()
        for i, t in enumerate(teacher) for j, s in enumerate(student) if i != j
    ]  # fmt: skip
    return sum(terms) / len(terms)


def still(pretext_parameters):
    return dict.fromkeys(pretext_parameters().jitter.model_dump(), 0)


@pytest.mark.usefixtures("lightly")
class TestLejepa:
    def test_the_loss_is_the_papers(self, pretext_parameters, images):
        pretext = pretext_parameters(name="lejepa", jitter=still(pretext_parameters))
        task = build_task(ENCODER, pretext, images, np.arange(9), 0)
        views = list(torch.rand(3, 5, 3, 64, 64))
        module = task.module.train()
        torch.manual_seed(4)
        loss = task.loss(module, views, torch.Generator())
        projected = torch.stack([module(view) for view in views]).double()
        torch.manual_seed(4)
        directions = torch.randn(8, 64)
        directions = (directions / directions.norm(dim=0)).double()
        apart = ((projected - projected[:2].mean(dim=0)) ** 2).mean()
        spread = torch.stack([epps_pulley(view, directions) for view in projected]).mean()
        expected = 0.05 * spread + 0.95 * apart
        torch.testing.assert_close(loss.double(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("lightly")
class TestDino:
    def test_the_loss_is_the_papers_and_the_teacher_follows(self, pretext_parameters, images):
        pretext = pretext_parameters(name="dino", jitter=still(pretext_parameters))
        task = build_task(ENCODER, pretext, images, np.arange(9), 0)
        module = task.module.train()
        weight = "head.last_layer.weight_v"
        with torch.no_grad():
            module.student.get_parameter(weight).add_(1)
        teacher = module.teacher.get_parameter(weight).clone()
        views = list(torch.rand(2, 5, 3, 64, 64))
        loss = task.loss(module, views, torch.Generator())
        followed = 0.9 * teacher + 0.1 * module.student.get_parameter(weight)
        torch.testing.assert_close(module.teacher.get_parameter(weight), followed)
        # The centre was zero; it moves after the loss.
        said = [[part(view) for view in views] for part in (module.teacher, module.student)]
        expected = cross_entropy(*said, torch.zeros(16), (0.04, 0.1))
        torch.testing.assert_close(loss, expected, rtol=1e-3, atol=1e-4)
        centre = 0.1 * torch.cat(said[0]).mean(dim=0)
        torch.testing.assert_close(module.criterion.center.flatten(), centre, rtol=1e-3, atol=1e-4)
        loss.backward()
        assert all(weight.grad is None for weight in module.teacher.parameters())

    def test_the_teacher_is_kept(self, run):
        trained = run("dino", epochs=1)
        assert set(trained.state) == set(build_pooled_encoder(ENCODER, 64, 0).state_dict())
        kept = trained.training["module"]
        for name, value in trained.state.items():
            assert torch.equal(value, kept[f"teacher.pooled.{name}"])


@pytest.mark.usefixtures("lightly")
class TestJointEmbedding:
    @pytest.mark.parametrize("name", ["simclr", "vicreg"])
    def test_the_loss_is_the_papers(self, pretext_parameters, images, name):
        pretext = pretext_parameters(name=name, jitter=still(pretext_parameters))
        task = build_task(ENCODER, pretext, images, np.arange(9), 0)
        views = list(torch.rand(2, 5, 3, 64, 64))
        module = task.module.train()
        loss = task.loss(module, views, torch.Generator())
        projected = [module(view) for view in views]
        expected = (
            nt_xent(*projected, 0.1) if name == "simclr" else vicreg(*projected, 25.0, 25.0, 1.0)
        )
        torch.testing.assert_close(loss.double(), expected.double(), rtol=1e-3, atol=1e-3)

    @pytest.mark.parametrize("name", ["simclr", "vicreg", "lejepa"])
    def test_the_loss_falls(self, run, name):
        losses = run(name, epochs=10, learning_rate=0.01, batch_size=8).history["loss"]
        assert losses.iloc[-1] < 0.9 * losses.iloc[0]

    def test_the_head_is_trained_and_not_kept(self, run):
        state = run("simclr").state
        initial = build_pooled_encoder(ENCODER, 64, 0).state_dict()
        assert set(state) == set(initial)
        assert not torch.equal(state["narrow.weight"], initial["narrow.weight"])
        assert not torch.equal(
            state["encoder.model.conv_stem.weight"], initial["encoder.model.conv_stem.weight"]
        )

    def test_a_last_picture_joins_the_batch_before_it(self, run):
        # 9 pictures in batches of 4: VICReg and BatchNorm would refuse the ninth by itself.
        assert len(run("vicreg", batch_size=4).history) == 2

    def test_one_picture_alone_is_refused(self, run):
        with pytest.raises(UserError, match=r"'simclr' compares pictures, and there is only one"):
            run("simclr", pictures=1)

    def test_two_different_views_are_shown(self, run, images):
        shown = run("simclr").shown
        assert list(shown) == ["original", "view 1", "view 2"]
        assert all(p.shape == (2, 64, 64, 3) and p.dtype == np.uint8 for p in shown.values())
        assert not np.array_equal(shown["view 1"], shown["view 2"])
        assert not np.array_equal(shown["view 1"], images[SHOWN])


class TestIgpt:
    def test_the_loss_falls_below_that_of_chance(self, run):
        losses = run("igpt", epochs=15, learning_rate=0.01).history["loss"]
        assert losses.iloc[0] < 1.2 * np.log(16)
        assert losses.iloc[-1] < 0.7 * np.log(16)

    def test_quantised_and_predicted_pictures_are_shown(self, run):
        trained = run("igpt", epochs=3, early_epoch=2)
        shown = trained.shown
        assert list(shown) == [
            "original", "quantised", "predicted, epoch 2", "predicted, epoch 3",
        ]  # fmt: skip
        palette = (trained.state["palette"] * 255).round().int().tolist()
        for title in list(shown)[1:]:
            assert shown[title].shape == (2, 64, 64, 3)
            colours = np.unique(shown[title].reshape(-1, 3), axis=0).tolist()
            assert all(colour in palette for colour in colours)


@pytest.mark.parametrize("name", ["simclr", "vicreg", "dino", "lejepa", "igpt"])
class TestSameSeed:
    def test_same_seed_same_bits(self, run, request, name):
        if name != "igpt":
            request.getfixturevalue("lightly")
        first, again, other = run(name, seed=5), run(name, seed=5), run(name, seed=6)
        assert first.history.equals(again.history)
        assert all(torch.equal(first.state[k], again.state[k]) for k in first.state)
        assert all(np.array_equal(first.shown[k], again.shown[k]) for k in first.shown)
        assert not other.history.equals(first.history)

    def test_it_leaves_torchs_global_generator_alone(self, run, request, name):
        if name != "igpt":
            request.getfixturevalue("lightly")
        before = torch.get_rng_state()
        run(name, epochs=1)
        assert torch.equal(torch.get_rng_state(), before)
