import numpy as np
import pytest
import torch

from lymphocytosis.mil.layers import SeededDropout, mixed_logits


def logit(p):
    return np.log(p) - np.log1p(-p)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class TestSeededDropout:
    def test_train_mode_drops_and_scales(self):
        layer = SeededDropout(0.3, torch.Generator().manual_seed(0))
        out = layer(torch.ones(200, 200))
        dropped = (out == 0).float().mean()
        assert abs(dropped - 0.3) < 0.01
        torch.testing.assert_close(out[out != 0].unique(), torch.tensor([1 / 0.7]))

    def test_eval_mode_changes_nothing(self):
        layer = SeededDropout(0.3, torch.Generator()).eval()
        x = torch.rand(5, 5)
        assert torch.equal(layer(x), x)


class TestMixedLogits:
    def test_it_is_the_mixtures_closed_form(self):
        values = torch.randn(3, 200, generator=torch.Generator().manual_seed(0)).double() * 3
        p_1, p_2, g = sigmoid(values.numpy())
        np.testing.assert_allclose(
            mixed_logits(values[:2], values[2]), logit(g * p_1 + (1 - g) * p_2), rtol=1e-9
        )

    @pytest.mark.parametrize(
        ("first", "second", "gate", "expected"),
        [
            (80, 80, 0, 80),  # float32 rounds the probability to 1
            (-80, -80, 3, -80),
            (1e4, 1e4, 0, 1e4),
            (-1e4, -1e4, -9, -1e4),
            (1e4, -1e4, 0, 0),
            (1e4, -1e4, 2, 2),  # 1 with probability g: its logit
            (-1e4, 1e4, 2, -2),
            (1e4, -1e4, 1e3, 1e3),
            (5, -3, 1e4, 5),  # all trust in the first
            (5, -3, -1e4, -3),
        ],
    )
    def test_extreme_logits_stay_what_they_are_with_finite_slopes(
        self, first, second, gate, expected
    ):
        experts = torch.tensor([[float(first)], [float(second)]], requires_grad=True)
        gate = torch.tensor([float(gate)], requires_grad=True)
        mixed = mixed_logits(experts, gate)
        torch.testing.assert_close(mixed, torch.tensor([float(expected)]), rtol=1e-5, atol=1e-5)
        mixed.sum().backward()
        assert experts.grad.isfinite().all()
        assert gate.grad.isfinite().all()
