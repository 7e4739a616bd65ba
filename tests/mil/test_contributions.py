from dataclasses import replace

import numpy as np
import pytest
import torch

from lymphocytosis.mil.aggregators import AGGREGATORS
from lymphocytosis.mil.bags import Batch
from lymphocytosis.mil.classifiers import build_classifier
from lymphocytosis.mil.contributions import contributions

SIZES = [7, 1, 2, 40]
DIM = 5
# What each kind of classifier is; the first column says whether its cells add up to the logit.
KINDS = [
    (True, {"classifier": "logistic", "aggregator": "mean"}),
    (True, {"classifier": "logistic", "aggregator": "mean", "fusion": "late"}),
    (True, {"classifier": "logistic", "aggregator": "mean", "inputs": "pictures"}),
    (True, {"classifier": "neural", "aggregator": "mean", "hidden_widths": []}),
    (True, {"classifier": "neural", "aggregator": "mean", "hidden_widths": [], "fusion": "late"}),
    (False, {"classifier": "logistic", "aggregator": "mean_and_spread"}),
    (False, {"classifier": "logistic", "aggregator": "max", "fusion": "late"}),
    (False, {"aggregator": "mean", "hidden_widths": [], "fusion": "mixture"}),
    (False, {"aggregator": "mean", "fusion": "late"}),
    *((False, {"aggregator": aggregator}) for aggregator in AGGREGATORS),
]
EVERY = pytest.mark.parametrize(("exact", "changes"), KINDS)


@pytest.fixture
def made(mil):
    """A function that makes a classifier in float64, every value of it drawn."""

    def make(changes):
        classifier = build_classifier(mil(**changes), DIM, seed=0).double().eval()
        generator = torch.Generator().manual_seed(1)
        for name, value in classifier.state_dict().items():
            if value.is_floating_point():  # a scale or a variance is positive
                signed = name.endswith(("weight", "bias", "token"))
                value.copy_(torch.rand(value.shape, generator=generator) + 0.1 - 0.5 * signed)
        return classifier

    return make


def some_batch(sizes=SIZES):
    rng = np.random.default_rng(0)
    return Batch(
        instances=torch.from_numpy(rng.normal(size=(sum(sizes), DIM))),
        size=sizes,
        clinical=torch.from_numpy(rng.random((len(sizes), 2)) + 1),
        label=torch.zeros(len(sizes)),
    )


def bag_alone(batch, number, rows=None):
    """One bag of a batch as a batch of its own; of its instances, only some rows."""
    instances = batch.instances.split(batch.size)[number]
    instances = instances if rows is None else instances[rows]
    clinical = batch.clinical[number : number + 1]
    return Batch(instances, [len(instances)], clinical, torch.zeros(1))


@torch.no_grad()
def one_by_one(classifier, batch, exact):
    """The definition: whole forward passes of bags of one cell, or of bags without one."""
    found = []
    for number, size in enumerate(batch.size):
        whole = classifier(bag_alone(batch, number)).logits
        for cell in range(size):
            others = [row for row in range(size) if row != cell]
            if exact:
                found.append(classifier(bag_alone(batch, number, [cell])).logits / size)
            elif others:
                found.append(whole - classifier(bag_alone(batch, number, others)).logits)
            else:
                found.append(whole)
    return torch.cat(found)


@EVERY
def test_they_are_what_whole_passes_of_other_bags_say(made, exact, changes):
    classifier, batch = made(changes), some_batch()
    found = contributions(classifier, batch)
    torch.testing.assert_close(found, one_by_one(classifier, batch, exact))
    assert len(found.unique()) > 10
    sums = torch.stack([part.sum() for part in found.split(batch.size)])
    adds_up = torch.isclose(sums, classifier(batch).logits)
    assert adds_up[1]  # a bag of one cell
    assert adds_up.all() == exact


@EVERY
def test_the_order_of_cells_moves_them_and_changes_none(made, exact, changes):
    classifier, batch = made(changes), some_batch()
    turned = torch.cat([part.flip(0) for part in batch.instances.split(batch.size)])
    found = contributions(classifier, replace(batch, instances=turned))
    back = torch.cat([part.flip(0) for part in found.split(batch.size)])
    torch.testing.assert_close(back, contributions(classifier, batch))


@EVERY
def test_equal_cells_contribute_the_same(made, exact, changes):
    classifier, batch = made(changes), some_batch([3])
    thrice = replace(batch, instances=batch.instances.repeat(3, 1), size=[9])
    first, second, third = contributions(classifier, thrice).split(3)
    torch.testing.assert_close(second, first)
    torch.testing.assert_close(third, first)
    if exact:
        torch.testing.assert_close(3 * first, contributions(classifier, batch))


def test_a_bag_larger_than_a_chunk_is_left_out_in_parts(made, monkeypatch):
    classifier, batch = made({"aggregator": "attention"}), some_batch([30])
    whole = contributions(classifier, batch)
    for rows in (1, 64, 100):
        monkeypatch.setattr("lymphocytosis.mil.contributions._ROWS", rows)
        torch.testing.assert_close(contributions(classifier, batch), whole)


def test_memory_is_bounded(made):
    classifier, batch = made({"aggregator": "mean"}), some_batch([1500])
    seen = []
    classifier.aggregator.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    contributions(classifier, batch)
    assert max(seen) == 1500
    assert len(seen) == 1 + 1500
