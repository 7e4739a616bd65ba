from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from lightning_fabric import Fabric
from torch.nn import functional as F

from lymphocytosis.encoders.encoder import Encoder
from lymphocytosis.end_to_end.model import build_picture_classifier
from lymphocytosis.mil.bags import Batch
from lymphocytosis.parameters import EncoderParameters
from tests.conftest import POOLED

SIZES = [7, 1, 5]


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    n = sum(SIZES)
    return Batch(
        instances=torch.from_numpy(rng.integers(0, 256, (n, 40, 40, 3), dtype=np.uint8)),
        size=SIZES,
        clinical=torch.from_numpy(rng.random((len(SIZES), 2))),
        label=torch.tensor([0.0, 1.0, 1.0], dtype=torch.float64),
    )


@pytest.fixture
def model(encoder, mil, monkeypatch):
    """A function that builds the model in float64, in train mode."""
    monkeypatch.setattr(
        "lymphocytosis.end_to_end.model.to_unit", lambda p: p.permute(0, 3, 1, 2).double() / 255
    )

    def build(chunk, dropout=0.3):
        return (
            build_picture_classifier(encoder, mil(dropout=dropout), 40, chunk, 3).double().train()
        )

    return build


def plain_gradients(model, batch):
    """The whole batch at once, by torch's own layers and plain autograd; no chunk, no pack."""
    encoder, classifier = model.encoder.model, model.classifier
    pixels = batch.instances.permute(0, 3, 1, 2).double() / 255
    pooled = encoder.forward_features(pixels).mean(dim=(2, 3))
    embedded = classifier.special_embedding(pooled)
    of_bags = torch.stack([part.mean(dim=0) for part in embedded.split(SIZES)])
    logits = classifier.head(torch.cat([of_bags, batch.clinical], dim=1))[:, 0]
    probability = torch.sigmoid(logits)
    right = torch.where(batch.label == 1, probability, 1 - probability)
    (-right.log().mean()).backward()
    return logits.detach(), {name: p.grad for name, p in model.named_parameters()}


class TestGradient:
    @pytest.mark.parametrize("chunk", [1, 3, 4, 12, 13, 64])
    def test_cut_into_chunks_it_is_that_of_the_whole_batch(self, model, batch, chunk):
        expected_logits, expected = plain_gradients(model(64), batch)
        ours = model(chunk)
        logits = ours(batch).logits
        F.binary_cross_entropy_with_logits(logits, batch.label).backward()
        torch.testing.assert_close(logits.detach(), expected_logits, rtol=1e-9, atol=1e-12)
        for name, parameter in ours.named_parameters():
            torch.testing.assert_close(
                parameter.grad, expected[name], rtol=1e-7, atol=1e-12, msg=name
            )
        assert sum(g.abs().max() > 1e-6 for g in expected.values()) == len(expected) - 1

    def test_one_bag_alone_too(self, model, batch):
        alone = Batch(batch.instances[:7], [7], batch.clinical[:1], batch.label[:1])
        gradients = []
        for chunk in (3, 7):
            ours = model(chunk)
            F.binary_cross_entropy_with_logits(ours(alone).logits, alone.label).backward()
            gradients.append([p.grad for p in ours.parameters()])
        torch.testing.assert_close(*gradients, rtol=1e-7, atol=1e-12)

    def test_no_more_than_a_chunk_is_in_the_encoder_at_once(self, model, batch):
        ours, seen = model(4), []
        ours.encoder.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
        ours(batch).logits.sum().backward()
        assert seen == [4, 4, 4, 1, 1, 4, 4, 4]  # without a graph, then with one, backwards

    def test_batchnorm_in_the_encoder_keeps_its_figures_and_its_weights_learn(self, model, batch):
        ours = model(4)
        before = {name: value.clone() for name, value in ours.encoder.named_buffers()}
        ours(batch).logits.sum().backward()
        assert all(torch.equal(value, before[name]) for name, value in ours.encoder.named_buffers())
        assert ours.encoder.model.bn1.weight.grad.abs().max() > 0
        assert ours.classifier.training
        assert ours.classifier.special_embedding[1].num_batches_tracked == 1


class TestNormalisation:
    @pytest.fixture
    def pretrained(self, tmp_path, mil):
        torch.save(timm.create_model("test_efficientnet").state_dict(), tmp_path / "weights.pth")
        path = str(tmp_path / "weights.pth")
        parameters = EncoderParameters(
            name="test_efficientnet", weights=path, small_dim=8, **POOLED
        )
        return build_picture_classifier(parameters, mil(), 40, 8, 0).eval()

    def test_a_pretrained_encoder_sees_pictures_by_its_own_mean_and_std(self, pretrained, batch):
        mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # ImageNet's
        pixels = (batch.instances.numpy() / 255 - mean) / std
        with torch.inference_mode():
            shown = torch.from_numpy(pixels).float().permute(0, 3, 1, 2)
            expected = pretrained.encoder.model.forward_features(shown).mean(dim=(2, 3))
            embedded = pretrained.embed(batch.instances)
        torch.testing.assert_close(embedded, expected, rtol=1e-4, atol=1e-5)

    def test_a_random_one_sees_them_as_they_are(self, encoder, mil):
        model = build_picture_classifier(encoder, mil(), 40, 8, 0)
        assert torch.equal(model.mean, torch.zeros(3, 1, 1))
        assert torch.equal(model.std, torch.ones(3, 1, 1))


def test_the_same_seed_builds_the_same_model_and_draws_nothing_else(encoder, mil, undisturbed):
    first, second, other = (build_picture_classifier(encoder, mil(), 40, 8, s) for s in (5, 5, 6))
    states = [model.state_dict() for model in (first, second, other)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    name = "encoder.model.conv_stem.weight"
    assert not torch.equal(states[0][name], states[2][name])
    assert isinstance(first.encoder, Encoder)


def test_it_trains_in_mixed_precision(encoder, mil, batch):
    fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
    model = fabric.setup_module(build_picture_classifier(encoder, mil(), 40, 4, 0))
    model.train()
    single = replace(batch, clinical=batch.clinical.float(), label=batch.label.float())
    logits = model(fabric.to_device(single)).logits
    fabric.backward(F.binary_cross_entropy_with_logits(logits, single.label))
    assert logits.dtype == torch.float32
    assert all(p.grad.isfinite().all() for p in model.parameters())
