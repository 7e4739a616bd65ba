import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lymphocytosis.mil.aggregators import AGGREGATORS, mean_of_bags, softmax_of_bags

WIDTH = 6
SIZES = [3, 1, 5, 2, 1]
EVERY = pytest.mark.parametrize("name", list(AGGREGATORS))


def made(name, width=WIDTH, seed=0):
    """An aggregator whose every parameter is drawn, biases and the transformer's token too."""
    aggregator = AGGREGATORS[name](width).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in aggregator.parameters():
            parameter.copy_(0.7 * torch.randn(parameter.shape, generator=generator))
    return aggregator


def some_bags(sizes=SIZES, width=WIDTH, seed=0):
    """Bags of normal values, one after the other, and whose each instance is."""
    rng = np.random.default_rng(seed)
    bags = [torch.from_numpy(rng.normal(size=(size, width))) for size in sizes]
    owner = torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes))
    return bags, torch.cat(bags), owner


def assert_pools_like(reference, name, bags, instances, owner):
    """Every bag's pooled vector is what `reference` makes of this bag alone."""
    aggregator = made(name, instances.shape[1])
    pooled = aggregator(instances, owner, len(bags))
    assert pooled.shape == (len(bags), aggregator.out_width)
    for b, bag in enumerate(bags):
        expected = torch.as_tensor(reference(aggregator, bag))
        torch.testing.assert_close(pooled[b], expected, rtol=1e-9, atol=1e-9)


class TestMeanOfBags:
    @settings(max_examples=50, deadline=None)
    @given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=8), seed=st.integers(0, 99))
    def test_it_is_each_bags_own_mean(self, sizes, seed):
        rng = np.random.default_rng(seed)
        bags = [rng.normal(size=(size, 4)) for size in sizes]
        # Instances of the bags stand mixed.
        order = rng.permutation(sum(sizes))
        instances = torch.from_numpy(np.concatenate(bags)[order])
        owner = torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes)[order])
        means = mean_of_bags(instances, owner, len(sizes))
        np.testing.assert_allclose(means, [bag.mean(axis=0) for bag in bags], atol=1e-12)


class TestSoftmaxOfBags:
    @settings(max_examples=50, deadline=None)
    @given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=8), seed=st.integers(0, 99))
    def test_it_is_torchs_softmax_of_each_bag_and_so_is_its_slope(self, sizes, seed):
        rng = np.random.default_rng(seed)
        order = torch.from_numpy(rng.permutation(sum(sizes)))
        owner = torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes))[order]
        scores = torch.from_numpy(3 * rng.normal(size=len(owner))).requires_grad_()
        pull = torch.from_numpy(rng.normal(size=len(owner)))
        weights = softmax_of_bags(scores, owner, len(sizes))
        (slope,) = torch.autograd.grad((pull * weights).sum(), scores)
        for b in range(len(sizes)):
            alone = scores[owner == b].detach().requires_grad_()
            expected = alone.softmax(dim=0)
            (pull[owner == b] * expected).sum().backward()
            torch.testing.assert_close(weights[owner == b], expected)
            torch.testing.assert_close(slope[owner == b], alone.grad)

    def test_far_apart_scores_stay_finite(self):
        scores = torch.tensor([1e4, -1e4, 0.0, -1e4, -1e4])
        weights = softmax_of_bags(scores, torch.tensor([0, 0, 0, 1, 1]), 2)
        torch.testing.assert_close(weights, torch.tensor([1.0, 0, 0, 0.5, 0.5]))


class TestMean:
    def test_it_is_the_mean_of_each_bag(self):
        def reference(_, bag):
            return sum(bag) / len(bag)

        assert_pools_like(reference, "mean", *some_bags())


class TestMeanAndSpread:
    def test_it_is_mean_and_standard_deviation_of_each_bag(self):
        def reference(_, bag):
            mean = bag.numpy().mean(axis=0)
            # The least spread is a thousandth: the slope at none at all would be infinite.
            spread = np.hypot(bag.numpy().std(axis=0), 1e-3)
            return np.concatenate([mean, spread])

        assert_pools_like(reference, "mean_and_spread", *some_bags())

    def test_equal_cells_far_from_zero_have_no_spread(self):
        # Mean of squares less square of mean would lose all digits here.
        instances = torch.full((4, 2), 3000.0)
        instances[:2] += torch.tensor([[0.25], [-0.25]])
        pooled = AGGREGATORS["mean_and_spread"](2)(instances, torch.tensor([0, 0, 1, 1]), 2)
        expected = torch.tensor([[3000.0, 3000, 0.25, 0.25], [3000, 3000, 0, 0]])
        torch.testing.assert_close(pooled, expected, rtol=1e-4, atol=1.1e-3)

    def test_a_bag_of_one_cell_has_no_spread_and_a_finite_slope(self):
        instances = torch.randn(2, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
        pooled = AGGREGATORS["mean_and_spread"](3)(instances, torch.tensor([1, 0]), 2)
        assert (pooled[:, 3:] <= 1.1e-3).all()
        (slope,) = torch.autograd.grad(pooled[:, 3:].sum(), instances)
        assert torch.equal(slope, torch.zeros(2, 3))


class TestMax:
    def test_it_is_the_greatest_of_each_feature(self):
        def reference(_, bag):
            return torch.tensor([max(feature) for feature in bag.T.tolist()], dtype=bag.dtype)

        assert_pools_like(reference, "max", *some_bags())

    def test_a_bag_below_zero_does_not_become_zero(self):
        instances = torch.tensor([[-3.0], [-2.0], [-7.0]])
        pooled = AGGREGATORS["max"](1)(instances, torch.tensor([0, 0, 1]), 2)
        assert pooled.tolist() == [[-2], [-7]]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class TestAttention:
    """Ilse et al. 2018, with biases, written down for one bag in numpy."""

    @staticmethod
    def pool(bag, scores):
        shares = np.exp(scores) / np.exp(scores).sum()
        return sum(share * h for share, h in zip(shares, bag, strict=True))

    def test_it_is_equation_8(self):
        def reference(aggregator, bag):
            state = {name: value.numpy() for name, value in aggregator.state_dict().items()}
            scores = [
                state["score.weight"][0]
                @ np.tanh(state["tanh.0.weight"] @ h + state["tanh.0.bias"])
                for h in bag.numpy()
            ]
            return self.pool(bag.numpy(), scores)

        assert_pools_like(reference, "attention", *some_bags())

    def test_with_a_gate_it_is_equation_9(self):
        def reference(aggregator, bag):
            state = {name: value.numpy() for name, value in aggregator.state_dict().items()}
            scores = [
                state["score.weight"][0]
                @ (
                    np.tanh(state["tanh.0.weight"] @ h + state["tanh.0.bias"])
                    * sigmoid(state["gate.0.weight"] @ h + state["gate.0.bias"])
                )
                for h in bag.numpy()
            ]
            return self.pool(bag.numpy(), scores)

        assert_pools_like(reference, "gated_attention", *some_bags())

    @pytest.mark.parametrize("name", ["attention", "gated_attention"])
    def test_a_cell_that_scores_far_above_the_others_is_the_bag(self, name):
        aggregator = made(name)
        _, instances, owner = some_bags()
        with torch.no_grad():
            best = int(aggregator.scores(instances[:3]).argmax())
            aggregator.score.weight.mul_(1e4)
        pooled = aggregator(instances, owner, len(SIZES))
        torch.testing.assert_close(pooled[0], instances[best])


class TestTransformer:
    @staticmethod
    def reference(aggregator, bag):
        """One bag by torch's own attention, without padding and without other bags."""
        state = aggregator.state_dict()
        width = len(state["token"])
        attention = nn.MultiheadAttention(width, 4, batch_first=True).double()
        read = copy.deepcopy(attention)
        norms = nn.LayerNorm(width).double(), nn.LayerNorm(width).double()
        parts = zip(
            ("attention", "read", "norm", "read_norm"), (attention, read, *norms), strict=True
        )
        for name, part in parts:
            part.load_state_dict(
                {
                    k.removeprefix(f"{name}."): v
                    for k, v in state.items()
                    if k.startswith(f"{name}.")
                }
            )
        with torch.no_grad():
            tokens = bag @ state["taken.weight"].T + state["taken.bias"]
            normed = norms[0](tokens)
            mixed, _ = attention(normed, normed, normed)
            cells = norms[1](tokens + mixed)
            pooled, _ = read(state["token"][None], cells, cells)
        return pooled[0]

    @pytest.mark.parametrize("width", [4, 6, 9])
    def test_it_is_torchs_attention_bag_by_bag(self, width):
        assert_pools_like(self.reference, "transformer", *some_bags(width=width))

    def test_eval_mode_without_slopes_says_the_same(self):
        # There torch takes another, fused way.
        bags, instances, owner = some_bags()
        aggregator = made("transformer").eval()
        with torch.inference_mode():
            pooled = aggregator(instances, owner, len(bags))
        for b, bag in enumerate(bags):
            torch.testing.assert_close(pooled[b], self.reference(aggregator, bag))


class TestEveryAggregator:
    @EVERY
    def test_the_order_of_cells_does_not_matter_even_with_bags_mixed(self, name):
        _, instances, owner = some_bags()
        aggregator = made(name)
        order = torch.randperm(len(owner), generator=torch.Generator().manual_seed(1))
        assert owner[order].diff().lt(0).any()
        pooled = aggregator(instances, owner, len(SIZES))
        torch.testing.assert_close(aggregator(instances[order], owner[order], len(SIZES)), pooled)

    @EVERY
    def test_batch_mates_do_not_matter(self, name):
        bags, instances, owner = some_bags()
        aggregator = made(name)
        pooled = aggregator(instances, owner, len(SIZES))
        for b, bag in enumerate(bags):
            alone = aggregator(bag, torch.zeros(len(bag), dtype=torch.int64), 1)
            torch.testing.assert_close(alone[0], pooled[b])

    @EVERY
    def test_repeating_every_cell_changes_nothing(self, name):
        _, instances, owner = some_bags()
        aggregator = made(name)
        pooled = aggregator(instances, owner, len(SIZES))
        doubled = aggregator(instances.repeat(2, 1), owner.repeat(2), len(SIZES))
        torch.testing.assert_close(doubled, pooled)

    @EVERY
    def test_gradients_are_finite_and_reach_every_bag_and_layer(self, name):
        _, instances, owner = some_bags()
        instances.requires_grad_()
        aggregator = made(name)
        pooled = aggregator(instances, owner, len(SIZES))
        pooled.square().sum().backward()
        assert instances.grad.isfinite().all()
        for parameter in aggregator.parameters():
            assert parameter.grad.isfinite().all()
            # A bias may add the same to all scores of a bag, and a softmax won't see it.
            assert parameter.ndim == 1 or parameter.grad.abs().max() > 1e-6
        assert all(instances.grad[owner == b].any() for b in range(len(SIZES)))

    @EVERY
    def test_gradients_stay_finite_for_great_values_and_for_equal_cells(self, name):
        _, instances, owner = some_bags()
        for values in (1e4 * instances.float(), torch.zeros(len(owner), WIDTH)):
            values.requires_grad_()
            aggregator = made(name).float()
            pooled = aggregator(values, owner, len(SIZES))
            pooled.sum().backward()
            assert values.grad.isfinite().all()
            assert all(p.grad.isfinite().all() for p in aggregator.parameters())

    @EVERY
    def test_its_slope_is_that_of_its_values(self, name):
        _, instances, owner = some_bags([3, 1, 2])
        aggregator = made(name)
        assert torch.autograd.gradcheck(
            lambda x: aggregator(x, owner, 3), instances.requires_grad_()
        )
