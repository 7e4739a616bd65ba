import copy

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from lymphocytosis.encoders import pictures
from lymphocytosis.encoders.autoencoder import build_autoencoder
from lymphocytosis.encoders.embed import embed_in_shards, embed_pictures
from lymphocytosis.imaging.views import view_of
from lymphocytosis.parameters import ComputeParameters, EncoderParameters
from tests.conftest import POOLED

VIEWS = ["original", "horizontal", "vertical"]
ENCODER = EncoderParameters(name="test_efficientnet", weights="random", small_dim=8, **POOLED)
COMPUTE = ComputeParameters(
    accelerator="cpu", precision="32-true", embed_batch_size=4, embed_backend="torch"
)


def embed(images, rows):
    model = build_autoencoder(ENCODER, 64, 0).eval()
    parts = list(embed_pictures(model, images, rows, VIEWS, view_of, COMPUTE))
    return model, *(np.concatenate(column) for column in zip(*parts, strict=True))


def test_each_picture_in_each_view_is_embedded_as_if_alone():
    images = np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3), dtype=np.uint8)
    asked = np.array([0, 2, 3, 5, 7, 8, 9, 11, 10])
    model, rows, large, small = embed(images, asked)
    assert np.array_equal(rows, asked)
    flipped = {"original": lambda p: p, "horizontal": np.fliplr, "vertical": np.flipud}
    for i, row in enumerate(asked):
        for v, view in enumerate(VIEWS):
            picture = flipped[view](images[row]).astype(np.float32) / 255
            with torch.no_grad():
                alone = model.embed(torch.from_numpy(picture.transpose(2, 0, 1)[None].copy()))
            np.testing.assert_allclose(large[i, v], alone[0][0], rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(small[i, v], alone[1][0], rtol=1e-4, atol=1e-5)


def test_a_symmetric_picture_has_three_equal_views():
    half = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    quarter = np.concatenate([half, half[:, ::-1]], axis=1)
    symmetric = np.concatenate([quarter, quarter[::-1]], axis=0)[None]
    _, _, large, small = embed(symmetric, np.array([0]))
    assert np.array_equal(large[0, 0], large[0, 1])
    assert np.array_equal(small[0, 0], small[0, 2])


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_mixed_precision_gives_nearly_the_same_features(precision):
    images = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
    model, _, *expected = embed(images, np.arange(6))
    compute = COMPUTE.model_copy(update={"precision": precision})
    parts = zip(*embed_pictures(model, images, np.arange(6), VIEWS, view_of, compute), strict=True)
    _, *found = (np.concatenate(part) for part in parts)
    for ours, exact in zip(found, expected, strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, exact, atol=0.05 * np.abs(exact).max())


@pytest.mark.parametrize("shards_done", [1, 2, 3])
def test_after_a_kill_all_shards_are_the_same_to_the_bit(after_a_kill, shards_done):
    images = np.random.default_rng(0).integers(0, 256, (22, 64, 64, 3), dtype=np.uint8)
    model = build_autoencoder(ENCODER, 64, 0).eval()
    rows = np.arange(22)[::-1].copy()
    cells = pd.DataFrame({"patient_id": "P", "image_id": [f"I{row}" for row in rows]}, index=rows)

    def work(progress):
        # 20 embeddings are 7 pictures in three views, and so two batches of four.
        return list(embed_in_shards(model, images, cells, VIEWS, view_of, COMPUTE, progress, 20))

    plain = embed_pictures(model, images, rows, VIEWS, view_of, COMPUTE)
    _, *expected = (np.concatenate(part) for part in zip(*plain, strict=True))
    found = pa.concat_tables(after_a_kill(work, shards_done))
    assert found["image_id"].to_pylist() == [f"I{row}" for row in rows for _ in VIEWS]
    for name, values in zip(("large", "small"), expected, strict=True):
        flat = found[name].combine_chunks().flatten().to_numpy()
        assert np.array_equal(flat.reshape(values.shape), values)


@pytest.mark.gpu
@pytest.mark.parametrize("resident", [True, False])
def test_a_gpu_gives_the_features_of_the_cpu(monkeypatch, resident):
    monkeypatch.setattr(pictures, "SHARE_OF_MEMORY", 0.25 if resident else 0)
    images = np.random.default_rng(0).integers(0, 256, (10, 64, 64, 3), dtype=np.uint8)
    model = build_autoencoder(ENCODER, 64, 0).eval()
    found, expected = (
        [
            np.concatenate(part)
            for part in zip(
                *embed_pictures(
                    copy.deepcopy(model), images, np.arange(10)[::-1].copy(), VIEWS, view_of,
                    COMPUTE.model_copy(update={"accelerator": accelerator}),
                ),
                strict=True,
            )
        ]
        for accelerator in ("cuda", "cpu")
    )  # fmt: skip
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=5e-3 * np.abs(b).max())
