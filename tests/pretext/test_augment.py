from collections import Counter

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torchvision.transforms.v2 import functional

from lymphocytosis.parameters import JitterParameters
from lymphocytosis.pretext.augment import (
    blur,
    flip_and_turn,
    hide_surroundings,
    jitter,
    recolour,
    restain,
)


def dihedral(picture):
    """All eight flips and turns of a picture, by NumPy."""
    turned = [np.rot90(picture, k) for k in range(4)]
    return [p.tobytes() for t in turned for p in (t, t[:, ::-1])]


def drawn(n, upright_weight=1.0, seed=0):
    picture = np.arange(5 * 5 * 3, dtype=np.uint8).reshape(5, 5, 3)
    batch = torch.from_numpy(np.repeat(picture[None], n, axis=0))
    changed = flip_and_turn(batch, upright_weight, torch.Generator().manual_seed(seed))
    return picture, [p.numpy().tobytes() for p in changed]


def test_every_flip_and_turn_is_drawn_and_nothing_else():
    picture, changed = drawn(2000)
    counts = Counter(changed)
    # Sixteen equally likely draws make each of the eight forms twice.
    assert set(counts) == set(dihedral(picture))
    assert all(abs(count - 250) < 5 * np.sqrt(250 * 7 / 8) for count in counts.values())


def test_upright_is_drawn_as_often_as_its_weight_says():
    _, changed = drawn(4000, upright_weight=3)
    picture, _ = drawn(1)
    # No turn (of weight 3 in 6) with any flips, or a half turn (1 in 6) with any flips, keep rows
    # as rows; quarter turns (2 in 6) do not.
    as_rows = {p.tobytes() for t in (picture, picture[::-1]) for p in (t, t[:, ::-1])}
    share = sum(form in as_rows for form in changed) / len(changed)
    assert abs(share - 4 / 6) < 5 * np.sqrt(2 / 9 / 4000)


def test_each_picture_is_its_flips_and_then_its_turns():
    batch = torch.randint(0, 256, (200, 4, 4, 3), dtype=torch.uint8)
    changed = flip_and_turn(batch, 2.0, torch.Generator().manual_seed(5))
    draws = torch.Generator().manual_seed(5)
    weights = torch.tensor([2.0, 1.0, 1.0, 1.0])
    turns = torch.multinomial(weights, 200, replacement=True, generator=draws)
    flips = torch.randint(0, 2, (200, 2), generator=draws)
    for picture, k, (across, down), found in zip(batch, turns, flips, changed, strict=True):
        expected = picture.numpy()
        expected = np.fliplr(expected) if across else expected
        expected = np.flipud(expected) if down else expected
        assert np.array_equal(np.rot90(expected, int(k)), found)
    # A convolution rounds by how its input lies in memory.
    assert changed.is_contiguous()


def test_same_seed_same_draws():
    assert drawn(50, seed=3)[1] == drawn(50, seed=3)[1]
    assert drawn(50, seed=3)[1] != drawn(50, seed=4)[1]


class TestJitter:
    @pytest.fixture
    def images(self):
        return torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    def strengths(self, **changes):
        none = dict.fromkeys(JitterParameters.model_fields, 0)
        return JitterParameters(**(none | changes))

    def jittered(self, images, seed=0, **changes):
        return jitter(images, self.strengths(**changes), torch.Generator().manual_seed(seed))

    def test_no_strength_changes_nothing(self, images):
        torch.testing.assert_close(self.jittered(images), images, rtol=0, atol=1e-5)

    @pytest.mark.parametrize("name", list(JitterParameters.model_fields))
    def test_each_strength_changes_each_picture_by_a_draw_of_its_own(self, images, name):
        alike = images[:1].expand(6, -1, -1, -1)
        strength = {name: 1.0 if name in ("blur", "background") else 0.1}
        changed = self.jittered(alike, **strength)
        assert changed.shape == images.shape
        assert changed.min() >= 0
        assert changed.max() <= 1
        assert len(torch.unique(changed.flatten(1), dim=0)) == 6
        assert torch.equal(changed, self.jittered(alike, **strength))
        assert not torch.equal(changed, self.jittered(alike, seed=1, **strength))

    def test_the_cell_stays_in_the_picture(self):
        # A disc of the middle half of the side: at the strongest, all of it must still be there.
        places = torch.linspace(-1, 1, 64)
        disc = (places[:, None] ** 2 + places**2 < 0.25).float().expand(200, 3, 64, 64)
        moved = self.jittered(disc, shift=0.1, scale=0.2)
        edge = torch.cat([moved[..., 0], moved[..., -1], moved[..., 0, :], moved[..., -1, :]])
        assert edge.max() == 0
        areas = moved[:, 0].sum(dim=(1, 2)) / disc[0, 0].sum()
        assert areas.min() > 0.78**2
        assert areas.max() < 1.22**2

    def test_stain_scales_optical_density(self):
        colour = torch.tensor([0.8, 0.4, 0.6])[None, :, None, None]
        scale = torch.tensor([1.1, 0.9, 1.0])[None, :, None, None]
        shift = torch.tensor([0.0, 0.05, -0.05])[None, :, None, None]
        light = (255 * colour.numpy() + 1) / 256  # the share of light that passes
        expected = (light ** scale.numpy()) * np.exp(-shift.numpy())
        passes = (255 * restain(colour, scale, shift).numpy() + 1) / 256
        np.testing.assert_allclose(passes, expected, rtol=1e-5)

    def test_white_stays_white_whatever_the_amount_of_stain(self):
        white = torch.ones(4, 3, 2, 2)
        scale = torch.rand(4, 3, 1, 1) + 0.5
        torch.testing.assert_close(restain(white, scale, torch.zeros(4, 3, 1, 1)), white)

    def test_colours_change_as_in_torchvision(self, images):
        factors = torch.tensor([0.8, 0.9, 1.0, 1.1, 1.2, 1.3])
        one = torch.ones(6)
        for position, adjust in enumerate(
            (functional.adjust_brightness, functional.adjust_contrast, functional.adjust_saturation)
        ):
            three = [one, one, one]
            three[position] = factors
            changed = recolour(images, *(values[:, None, None, None] for values in three))
            expected = torch.stack(
                [adjust(i, f) for i, f in zip(images, factors.tolist(), strict=True)]
            )
            torch.testing.assert_close(changed, expected, rtol=0, atol=2e-3)

    def test_blur_is_scipys_gaussian(self, images):
        sigma = torch.tensor([0.0, 0.3, 0.5, 0.7, 0.9, 1.0])
        blurred = blur(images, sigma[:, None, None, None], 3)
        for picture, given, width in zip(images, blurred, sigma.tolist(), strict=True):
            expected = (
                gaussian_filter(picture.numpy(), width, axes=(1, 2), mode="mirror", radius=3)
                if width
                else picture.numpy()
            )
            np.testing.assert_allclose(given, expected, rtol=0, atol=1e-5)


@pytest.mark.gpu
def test_a_gpu_flips_and_turns_by_the_same_draws():
    batch = torch.randint(0, 256, (64, 6, 6, 3), dtype=torch.uint8)
    on_cpu, on_gpu = (
        flip_and_turn(batch.to(device), 2, torch.Generator().manual_seed(1)).cpu()
        for device in ("cpu", "cuda")
    )
    assert torch.equal(on_cpu, on_gpu)


class TestSurroundings:
    def test_only_what_is_outside_the_disc_is_replaced(self):
        images = torch.rand(2, 3, 40, 40)
        radius = torch.tensor([0.2, 0.4])[:, None, None, None]
        colour = torch.tensor([[0.1, 0.5, 0.9], [1.0, 0.0, 0.5]])[:, :, None, None]
        hidden = hide_surroundings(images, radius, colour)
        for i, r in enumerate((0.2, 0.4)):
            for row, column in np.ndindex(40, 40):
                distance = np.hypot(row - 19.5, column - 19.5) / 40
                pixel = hidden[i, :, row, column]
                if distance < r - 0.03:
                    assert torch.equal(pixel, images[i, :, row, column])
                if distance > r + 0.03:
                    torch.testing.assert_close(pixel, colour[i].flatten())

    def test_about_the_share_asked_for_is_changed(self):
        strengths = dict.fromkeys(JitterParameters.model_fields, 0.0) | {"background": 0.3}
        images = torch.rand(400, 3, 16, 16)
        generator = torch.Generator().manual_seed(0)
        changed = jitter(images, JitterParameters(**strengths), generator)
        corner = (changed - images)[:, :, 0, 0].abs().amax(dim=1) > 0.01
        assert 0.2 < corner.float().mean() < 0.4
        torch.testing.assert_close(changed[:, :, 8, 8], images[:, :, 8, 8], rtol=0, atol=1e-3)
