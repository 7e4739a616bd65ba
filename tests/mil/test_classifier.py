from dataclasses import replace

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lymphocytosis.mil.bags import Batch, gather_bags, pack
from lymphocytosis.mil.classifier import SeededDropout, mean_of_bags
from lymphocytosis.mil.training import build_classifier


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


def some_batch(cohort, chosen):
    patients, table = cohort()
    return pack(gather_bags(table, patients), np.array(chosen))


class TestClassifier:
    def test_layers_are_the_references(self, mil):
        classifier = build_classifier(
            mil(embedding_width=1024, hidden_widths=[512, 256], dropout=0.3), 2560, seed=0
        )
        linear = [m for m in classifier.modules() if isinstance(m, nn.Linear)]
        assert [(m.in_features, m.out_features) for m in linear] == [
            (2560, 1024),
            (1026, 512),
            (512, 256),
            (256, 1),
        ]
        assert [type(m) for m in classifier.special_embedding] == [
            nn.Linear,
            nn.BatchNorm1d,
            nn.ReLU,
        ]
        assert [type(m) for m in classifier.head] == [
            nn.Linear, nn.ReLU, SeededDropout, nn.Linear, nn.ReLU, SeededDropout, nn.Linear,
        ]  # fmt: skip
        for layer in linear:
            # Xavier's uniform bound; a fair share of so many draws comes near it.
            bound = (6 / (layer.in_features + layer.out_features)) ** 0.5
            assert 0.95 * bound < layer.weight.abs().max() <= bound
            assert layer.bias.count_nonzero() == 0

    def test_it_is_equations_9_to_14(self, cohort, mil):
        batch = some_batch(cohort, [0, 4, 8, 30])
        model = build_classifier(mil(), 5, seed=1).eval()
        model.fit_clinical_scale(batch.clinical)
        state = {name: value.numpy() for name, value in model.state_dict().items()}

        def linear(x, name):
            return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

        low, high = batch.clinical.numpy().min(axis=0), batch.clinical.numpy().max(axis=0)
        logits = []
        for b, clinical in enumerate(batch.clinical.numpy()):
            embedded = linear(batch.instances[batch.bag == b].numpy(), "special_embedding.0")
            # BatchNorm as it starts: mean 0, variance 1.
            pooled = np.maximum(embedded / np.sqrt(1 + 1e-5), 0).mean(axis=0)
            joined = np.concatenate([pooled, (clinical - low) / (high - low)])
            first = np.maximum(linear(joined, "head.0"), 0)
            second = np.maximum(linear(first, "head.3"), 0)
            logits.append(linear(second, "head.6")[0])
        with torch.no_grad():
            np.testing.assert_allclose(model(batch), logits, rtol=1e-4, atol=1e-6)

    def test_the_order_of_a_bags_cells_does_not_matter(self, cohort, mil):
        batch = some_batch(cohort, [0, 4, 8])
        model = build_classifier(mil(), 5, seed=1).eval()
        order = torch.randperm(len(batch.bag), generator=torch.Generator().manual_seed(0))
        mixed = replace(batch, instances=batch.instances[order], bag=batch.bag[order])
        torch.testing.assert_close(model(mixed), model(batch))

    def test_a_bags_prediction_does_not_depend_on_its_batch_mates(self, cohort, mil):
        patients, table = cohort()
        bags = gather_bags(table, patients)
        model = build_classifier(mil(), 5, seed=1).eval()
        together = model(pack(bags, np.arange(40)))
        for b in (0, 7, 39):
            torch.testing.assert_close(model(pack(bags, np.array([b]))), together[b : b + 1])

    def test_repeating_every_cell_changes_nothing(self, cohort, mil):
        # A sum, or padding averaged in, would show the bag's size.
        batch = some_batch(cohort, [1, 2])
        model = build_classifier(mil(), 5, seed=1).eval()
        doubled = replace(batch, instances=batch.instances.repeat(2, 1), bag=batch.bag.repeat(2))
        torch.testing.assert_close(model(doubled), model(batch))


class TestClinicalScale:
    def scaled(self, mil, clinical, log_count=False):
        """What the head sees: its first layer made to pass the clinical values on."""
        model = build_classifier(mil(log_count=log_count, hidden_widths=[2]), 1, seed=0).eval()
        model.fit_clinical_scale(clinical[:3])
        seen = []
        model.head.register_forward_pre_hook(lambda m, args: seen.append(args[0][:, -2:]))
        n = len(clinical)
        model(Batch(torch.zeros(n, 1), torch.arange(n), clinical, torch.zeros(n)))
        return seen[0]

    def test_training_patients_span_0_to_1_and_others_may_lie_outside(self, mil):
        clinical = torch.tensor([[40.0, 2.0], [60.0, 12.0], [80.0, 4.0], [100.0, 1.0]])
        expected = [[0, 0], [0.5, 1], [1, 0.2], [1.5, -0.1]]
        torch.testing.assert_close(self.scaled(mil, clinical), torch.tensor(expected))

    def test_the_count_may_be_logged_and_the_age_stays(self, mil):
        clinical = torch.tensor([[40.0, 1.0], [60.0, 100.0], [80.0, 10.0]])
        expected = [[0, 0], [0.5, 1], [1, 0.5]]
        torch.testing.assert_close(self.scaled(mil, clinical, True), torch.tensor(expected))

    def test_a_constant_column_becomes_zero(self, mil):
        clinical = torch.tensor([[50.0, 1.0], [50.0, 3.0], [50.0, 2.0]])
        scaled = self.scaled(mil, clinical)
        torch.testing.assert_close(scaled[:, 0], torch.zeros(3))
