import numpy as np
import pytest
import torch

from lymphocytosis.encoders.igpt import IGPT, pixels_of
from lymphocytosis.encoders.pooled import random_projection
from lymphocytosis.parameters import IgptParameters


def parameters(**changes):
    small = {"side": 4, "colours": 6, "layers": 4, "width": 12, "heads": 3}
    return IgptParameters(**(small | changes))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (8, 40, 40, 3), dtype=np.uint8)


def build():
    """iGPT with a palette and a projection."""
    torch.manual_seed(0)
    model = IGPT(parameters(), 5)
    model.palette.copy_(torch.rand(6, 3))
    model.projection.copy_(random_projection(36, 5, 0))
    return model


@pytest.fixture
def model():
    model = build().eval()
    # Larger weights than those of the start, so that every path shows in the results.
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for values in model.parameters():
            values.copy_(torch.randn(values.shape, generator=generator) * 0.5)
    return model


class TestPrediction:
    @pytest.mark.parametrize("changed", [0, 5, 14, 15])
    def test_a_pixel_changes_later_predictions_and_no_earlier_one(self, model, changed):
        colours = torch.zeros(1, 16, dtype=torch.int64)
        other = colours.clone()
        other[0, changed] = 3
        with torch.no_grad():
            same = torch.isclose(model(colours), model(other), rtol=0, atol=1e-6).all(dim=2)[0]
        assert same[: changed + 1].all()
        assert not same[changed + 1 :].any()

    def test_places_differ(self, model):
        with torch.no_grad():
            logits = model(torch.zeros(1, 16, dtype=torch.int64))[0]
        assert len(torch.unique(logits, dim=0)) == 16

    def test_a_layer_is_gpt2s_by_torchs_own_parts(self, model):
        block, hidden = model.blocks[0], torch.randn(2, 16, 12)
        attention = torch.nn.MultiheadAttention(12, 3, batch_first=True)
        with torch.no_grad():
            attention.in_proj_weight.copy_(block.attend.weight)
            attention.in_proj_bias.copy_(block.attend.bias)
            attention.out_proj.load_state_dict(block.join.state_dict())
            normed = block.norm1(hidden)
            later = torch.ones(16, 16).triu(1).bool()
            expected = hidden + attention(normed, normed, normed, attn_mask=later)[0]
            wide = torch.nn.functional.gelu(block.widen(block.norm2(expected)))
            expected = expected + block.narrow(wide)
            torch.testing.assert_close(block(hidden), expected, rtol=1e-4, atol=1e-4)

    def test_training_lowers_the_cross_entropy_below_that_of_chance(self, images):
        # One picture, learnt by heart.
        model = build()
        colours = model.quantise(torch.from_numpy(images[:1]).permute(0, 3, 1, 2) / 255)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(60):
            loss = torch.nn.functional.cross_entropy(model(colours)[0], colours[0])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert loss < 0.1 * np.log(6)


class TestQuantisation:
    def test_it_is_the_nearest_colour_of_the_mean_of_the_pixels_around(self, model, images):
        chosen = model.quantise(torch.from_numpy(images).permute(0, 3, 1, 2) / 255)
        palette = model.palette.double().numpy()
        for i, image in enumerate(images):
            for place in range(16):
                row, column = 10 * (place // 4), 10 * (place % 4)
                mean = image[row : row + 10, column : column + 10].mean(axis=(0, 1)) / 255
                apart = np.linalg.norm(palette - mean, axis=1)
                assert apart[chosen[i, place]] == pytest.approx(apart.min(), abs=1e-6)

    def test_drawing_gives_the_palettes_colours_in_their_places(self, model):
        colours = torch.arange(16)[None] % 6
        drawn = model.draw(colours)
        assert drawn.shape == (1, 3, 4, 4)
        for place in range(16):
            assert torch.equal(drawn[0, :, place // 4, place % 4], model.palette[colours[0, place]])

    def test_shrinking_commutes_with_flips_and_turns(self):
        picture = torch.rand(1, 3, 30, 30)
        places = torch.arange(49).view(7, 7)
        for change in (lambda p: p.flip(-1), lambda p: p.flip(-2), lambda p: p.rot90(1, (-2, -1))):
            then = pixels_of(change(picture), 7)
            now = pixels_of(picture, 7)[:, change(places).flatten()]
            torch.testing.assert_close(then, now)


class TestEmbedding:
    @pytest.mark.parametrize(
        ("layers", "middle"),
        [(2, [1]), (3, [1, 2]), (4, [1, 2, 3]), (12, [4, 5, 6, 7, 8]), (24, [10, 11, 12, 13, 14])],
    )
    def test_the_middle_layers(self, layers, middle):
        assert list(IGPT(parameters(layers=layers), 5).middle) == middle

    def test_it_pools_what_the_middle_layers_attend_to(self, model, images):
        pictures = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
        seen = []
        for block in model.blocks[1:]:
            block.register_forward_pre_hook(lambda block, given: seen.append(block.norm1(*given)))
        with torch.no_grad():
            large, small = model.embed(pictures)
        expected = torch.cat([layer.mean(dim=1) for layer in seen], dim=1)
        assert torch.equal(large, expected)
        torch.testing.assert_close(small, large @ model.projection.T)
        assert (large.shape, small.shape) == ((8, 36), (8, 5))

    def test_the_projection_and_the_palette_are_not_trained(self, model):
        trained = {name for name, _ in model.named_parameters()}
        assert trained.isdisjoint({"projection", "palette"})
        assert torch.linalg.matrix_rank(model.projection) == 5


def test_igpt_s_of_the_paper_has_its_76_million_weights():
    with torch.device("meta"):
        model = IGPT(parameters(side=32, colours=512, layers=24, width=512, heads=8), 1024)
    assert sum(values.numel() for values in model.parameters()) == pytest.approx(76e6, rel=0.02)
    assert model.projection.shape == (1024, 2560)
