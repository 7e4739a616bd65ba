import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lymphocytosis.mil.aggregators import AGGREGATORS
from lymphocytosis.mil.bags import gather_bags, pack
from lymphocytosis.mil.classifiers import build_classifier
from lymphocytosis.mil.embedded_mean import embedded_mean

DIM, WIDTH = 4, 3


def layers(seed=0, momentum=0.1):
    generator = torch.Generator().manual_seed(seed)
    made = nn.Sequential(
        nn.Linear(DIM, WIDTH), nn.BatchNorm1d(WIDTH, momentum=momentum), nn.ReLU()
    ).double()
    for parameter in made.parameters():
        nn.init.normal_(parameter, generator=generator)
    return made


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.float64, generator=generator)


def plainly(made, instances, size):
    """Layer after layer, and a mean for each bag."""
    return torch.stack([bag.mean(dim=0) for bag in made(instances).split(size)])


SIZES = st.lists(st.integers(1, 6), min_size=1, max_size=5).filter(lambda size: sum(size) > 1)


class TestEmbeddedMean:
    @given(SIZES, st.integers(0, 1000), st.sampled_from([0.1, 1.0, None]))
    def test_it_is_the_layers_and_the_mean_one_after_the_other(self, size, seed, momentum):
        ours, theirs = layers(seed, momentum), layers(seed, momentum)
        for step in range(3):
            instances = draw(sum(size), DIM, seed=seed + step)
            weight = draw(len(size), WIDTH, seed=seed + step)
            inputs = instances.clone().requires_grad_(), instances.clone().requires_grad_()
            results = embedded_mean(ours, inputs[0], size), plainly(theirs, inputs[1], size)
            torch.testing.assert_close(*results)
            for result in results:
                (result * weight).sum().backward()
            torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
        for (name, mine), their in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, their.grad, msg=name)
        torch.testing.assert_close(ours.state_dict(), theirs.state_dict())

    def test_a_second_backward_is_refused(self):
        result = embedded_mean(layers(), draw(5, DIM), [2, 3]).sum()
        result.backward(retain_graph=True)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            result.backward()

    @pytest.mark.parametrize("threads", [1, 2])
    def test_float32_loses_no_more_than_its_roundings(self, threads):
        # Far from zero, where a mean of squares less a square of the mean would lose a thousand
        # times as much. A sum of n rounded values is off by about the root of n roundings.
        torch.set_num_threads(threads)
        size = [50, 20, 30]
        made = layers()
        instances = 1000 + draw(100, DIM)
        linear, norm = made[0], made[1]
        embedded = linear(instances)
        rounding = torch.finfo(torch.float32).eps * embedded.abs().amax(dim=0)
        allowed = (100**0.5 * rounding * norm.weight.abs() / embedded.std(dim=0)).max()
        exact = plainly(copy.deepcopy(made), instances, size)
        ours = embedded_mean(copy.deepcopy(made).float(), instances.float(), size)
        assert (ours - exact).abs().max() < allowed


class TestTheClassifier:
    @pytest.mark.parametrize("aggregator", list(AGGREGATORS))
    def test_in_train_mode_it_is_special_embedding_aggregator_and_head(
        self, cohort, mil, aggregator
    ):
        patients, table = cohort()
        batch = pack(gather_bags(table, patients), torch.tensor([0, 4, 8, 30]).numpy())
        model = build_classifier(mil(aggregator=aggregator), 5, seed=1).train()
        model.fit_clinical_scale(batch.clinical)
        embedded = copy.deepcopy(model.special_embedding)(batch.instances)
        pooled = model.aggregator(embedded, batch.bag, 4)
        clinical = (batch.clinical - model.clinical_low) / model.clinical_span
        expected = model.head(torch.cat([pooled, clinical], dim=1)).squeeze(1)
        torch.testing.assert_close(model(batch).logits, expected)
