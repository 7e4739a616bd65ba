import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from lymphocytosis.compute import start_fabric
from lymphocytosis.datasets.state_dict import StateDictDataset
from lymphocytosis.encoders import backend
from lymphocytosis.encoders.autoencoder import build_autoencoder
from lymphocytosis.encoders.backend import fastest_embed
from lymphocytosis.encoders.checkpoint import fingerprint, pack, unpack, without_training
from lymphocytosis.encoders.pictures import to_unit
from lymphocytosis.parameters import ComputeParameters, EncoderParameters
from tests.conftest import POOLED

ENCODER = EncoderParameters(name="test_efficientnet", weights="random", small_dim=8, **POOLED)


def settings(embed_backend="onnx", accelerator="cpu", precision="32-true"):
    return ComputeParameters(
        accelerator=accelerator,
        precision=precision,
        embed_batch_size=4,
        embed_backend=embed_backend,
    )


@pytest.fixture(scope="module")
def embedder():
    return build_autoencoder(ENCODER, 64, 0).eval()


@pytest.fixture(scope="module")
def pixels():
    return torch.from_numpy(
        np.random.default_rng(0).integers(0, 256, (7, 64, 64, 3), dtype=np.uint8)
    )


@pytest.fixture(autouse=True)
def as_embed_pictures_calls_it():
    with torch.inference_mode():
        yield


def features(embedder, pixels):
    return embedder.embed(to_unit(pixels))


def assert_near(found, expected):
    for ours, plain in zip(found, expected, strict=True):
        assert (ours - plain).abs().max() <= 1e-5 * plain.abs().max()


class TestOnnx:
    def test_gives_torchs_features_whatever_the_batch(self, embedder, pixels, caplog):
        embed = fastest_embed(embedder, pixels[:1], settings(), start_fabric(settings()))
        ours = [record for record in caplog.records if record.name == backend.__name__]
        assert not [record for record in ours if record.levelno >= logging.WARNING]
        for n in (1, 3, 7):
            assert_near(embed(pixels[:n]), features(embedder, pixels[:n]))

    def test_what_it_can_not_run_torch_runs_and_a_message_says_so(
        self, embedder, pixels, caplog, monkeypatch
    ):
        def fail(*args):
            raise ImportError("No module named 'onnxruntime'")

        monkeypatch.setattr(backend, "export_onnx", fail)
        embed = fastest_embed(embedder, pixels, settings(), start_fabric(settings()))
        assert_near(embed(pixels), features(embedder, pixels))
        assert "torch runs it" in caplog.text
        assert "No module named 'onnxruntime'" in caplog.text

    @pytest.mark.parametrize("factor", [1 + 1e-4, np.nan])
    def test_different_features_are_rejected(self, embedder, pixels, caplog, monkeypatch, factor):
        def wrong(*args):
            return lambda x: tuple(v * factor for v in features(embedder, x))

        monkeypatch.setattr(backend, "_onnx", wrong)
        embed = fastest_embed(embedder, pixels, settings(), start_fabric(settings()))
        assert_near(embed(pixels), features(embedder, pixels))
        assert "other features than torch" in caplog.text

    def test_is_not_tried_where_torch_is_asked_for(self, embedder, pixels, monkeypatch):
        monkeypatch.setattr(backend, "_onnx", None)
        embed = fastest_embed(embedder, pixels, settings("torch"), start_fabric(settings()))
        assert_near(embed(pixels), features(embedder, pixels))


class TestBits:
    """A picture gets the same bits whatever else is embedded with it."""

    @pytest.mark.parametrize("way", ["onnx", "torch"])
    def test_alone_among_others_and_in_any_place(self, embedder, pixels, way):
        embed = fastest_embed(embedder, pixels[:4], settings(way), start_fabric(settings()))
        large, small = embed(pixels)
        for order in ([6, 5, 4, 3, 2, 1, 0], [3], [0, 0, 0], [5, 1]):
            found = embed(pixels[order])
            assert torch.equal(found[0], large[order])
            assert torch.equal(found[1], small[order])

    def test_an_encoder_sees_batches_of_one_size_only(self, pixels):
        seen = []

        def embed(batch):
            seen.append(len(batch))
            flat = batch.flatten(1)
            return flat[:, :3], flat[:, 3:5]

        large, small = backend.of_one_shape(embed, 3)(pixels)
        assert seen == [3, 3, 3]
        assert torch.equal(large, pixels.flatten(1)[:, :3])
        assert torch.equal(small, pixels.flatten(1)[:, 3:5])

    def test_a_graph_that_was_kept_gives_what_a_new_one_gives(self, embedder, pixels, monkeypatch):
        graph = backend.export_onnx(embedder, pixels)
        fabric = start_fabric(settings())
        new = fastest_embed(embedder, pixels, settings(), fabric)(pixels)
        monkeypatch.setattr(backend, "export_onnx", None)
        kept = fastest_embed(embedder, pixels, settings(), fabric, graph)(pixels)
        assert all(torch.equal(*pair) for pair in zip(kept, new, strict=True))


@pytest.fixture(scope="module")
def packed(embedder, image_parameters, pretext_parameters):
    image = image_parameters(source_size=64, crop=64, size=64)
    state = dict(embedder.state_dict())
    return pack(type(embedder), state, ENCODER, image, pretext_parameters(), 0)


@pytest.fixture(scope="module")
def kept(packed):
    return backend.portable_graph(packed, None, settings())


class TestPortableGraph:
    def test_it_holds_no_path_of_this_machine(self, kept, packed):
        import onnx

        graph = kept["onnx"].numpy().tobytes()
        paths = [str(Path(__file__).parents[2]), str(Path.home()), "site-packages", ".py"]
        assert not [path for path in paths if path.encode() in graph]
        assert "doc_string" not in str(onnx.load_from_string(graph))
        again = backend.portable_graph(packed, None, settings())
        assert torch.equal(again["onnx"], kept["onnx"])

    def test_one_that_was_kept_is_not_exported_again(self, kept, packed, monkeypatch, tmp_path):
        dataset = StateDictDataset(filepath=str(tmp_path / "graph.pt"))
        dataset.save(kept)
        monkeypatch.setattr(backend, "export_onnx", None)
        found = backend.portable_graph(packed, dataset.load(), settings())
        assert torch.equal(found["onnx"], kept["onnx"])
        assert found["of"] == kept["of"] == fingerprint(packed)

    @pytest.mark.parametrize("change", ["encoder", "software"])
    def test_that_of_another_encoder_or_of_other_versions_is_exported_again(
        self, kept, packed, monkeypatch, change
    ):
        if change == "encoder":
            parameters = {**packed["parameters"], "seed": 1}
            packed = {**packed, "parameters": parameters}
        else:
            monkeypatch.setattr(backend, "software", lambda: {"the version of torch": "0"})
        monkeypatch.setattr(backend, "_by_onnx", lambda *_: (None, b"new"))
        found = backend.portable_graph(packed, kept, settings())
        assert bytes(found["onnx"]) == b"new"
        assert found["of"] == fingerprint(packed)

    def test_it_is_empty_where_torch_is_to_run_the_encoder(self, kept, packed):
        assert backend.portable_graph(packed, kept, settings("torch")) == {}
        assert backend.portable_graph(packed, kept, settings(precision="bf16-mixed")) == {}

    def test_and_where_it_can_not_be_exported(self, packed, monkeypatch, caplog):
        monkeypatch.setattr(backend, "export_onnx", lambda *_: 1 / 0)
        assert backend.portable_graph(packed, None, settings()) == {}
        assert "ONNX Runtime can't run this encoder (ZeroDivisionError" in caplog.text

    def test_without_what_only_training_needs_the_bits_are_the_same(
        self, kept, packed, embedder, pixels
    ):
        carried, _ = unpack(without_training(packed))
        assert not hasattr(carried, "decoder")
        graph, smaller = backend.export_onnx(embedder, pixels), kept["onnx"].numpy().tobytes()
        assert len(smaller) < 1.01 * len(graph)
        for way, graphs in (("onnx", (graph, smaller)), ("torch", (None, None))):
            fabric = start_fabric(settings(way))
            then, now = (
                fastest_embed(model, pixels[:4], settings(way), fabric, of)(pixels)
                for model, of in zip((embedder, carried), graphs, strict=True)
            )
            assert all(torch.equal(*pair) for pair in zip(then, now, strict=True))


class TestTheProbe:
    """The probe is for GPUs; but for the recording nothing in it needs one."""

    def test_takes_a_way_that_gives_the_features(self, embedder, pixels, monkeypatch, caplog):
        monkeypatch.setattr(backend, "_recorded", lambda model, pixels: model)
        caplog.set_level(logging.INFO)
        embed = backend._fastest_layout(embedder, pixels, start_fabric(settings()))
        assert_near(embed(pixels), features(embedder, pixels))
        assert "channels last, recorded takes" in caplog.text

    def test_takes_the_fastest(self, embedder, pixels, monkeypatch):
        seconds = iter([4.0, 1.0, 3.0, 2.0])
        recorded = []
        monkeypatch.setattr(
            backend, "_recorded", lambda model, pixels: recorded.append(model) or len(recorded)
        )
        monkeypatch.setattr(backend, "_seconds", lambda way, pixels: next(seconds))
        assert backend._fastest_layout(embedder, pixels, start_fabric(settings())) == 1

    @pytest.mark.gpu
    @pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
    def test_recorded_kernels_give_the_features_of_each_batch(self, embedder, pixels, precision):
        fabric = start_fabric(settings(accelerator="cuda", precision=precision))
        model = fabric.setup_module(backend._FromPixels(embedder))
        first, second = fabric.to_device(pixels), fabric.to_device(255 - pixels)
        with torch.inference_mode():
            embed = backend._recorded(model, first)
            for batch in (second, first):
                found, expected = embed(batch), model(batch)
                assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
