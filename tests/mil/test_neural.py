from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from lymphocytosis.mil.aggregators import AGGREGATORS
from lymphocytosis.mil.bags import Batch, gather_bags, pack
from lymphocytosis.mil.classifiers import build_classifier
from lymphocytosis.mil.layers import SeededDropout


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
            np.testing.assert_allclose(model(batch).logits, logits, rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("training", [False, True])
    def test_the_order_of_a_bags_cells_does_not_matter(self, cohort, mil, training):
        batch = some_batch(cohort, [0, 4, 8])
        model = build_classifier(mil(), 5, seed=1).train(training)
        mixed = [bag.flip(0) for bag in batch.instances.split(batch.size)]
        other = replace(batch, instances=torch.cat(mixed))
        torch.testing.assert_close(model(other).logits, model(batch).logits)

    def test_a_bags_prediction_does_not_depend_on_its_batch_mates(self, cohort, mil):
        patients, table = cohort()
        bags = gather_bags(table, patients)
        model = build_classifier(mil(), 5, seed=1).eval()
        together = model(pack(bags, np.arange(40))).logits
        for b in (0, 7, 39):
            alone = model(pack(bags, np.array([b]))).logits
            torch.testing.assert_close(alone, together[b : b + 1])

    def test_repeating_every_cell_changes_nothing(self, cohort, mil):
        # A sum, or padding averaged in, would show the bag's size.
        batch = some_batch(cohort, [1, 2])
        model = build_classifier(mil(), 5, seed=1).eval()
        twice = [bag.repeat(2, 1) for bag in batch.instances.split(batch.size)]
        doubled = replace(batch, instances=torch.cat(twice), size=[2 * n for n in batch.size])
        torch.testing.assert_close(model(doubled).logits, model(batch).logits)


class TestClinicalScale:
    def scaled(self, mil, clinical, log_count=False):
        """What the head sees: its first layer made to pass the clinical values on."""
        model = build_classifier(mil(log_count=log_count, hidden_widths=[2]), 1, seed=0).eval()
        model.fit_clinical_scale(clinical[:3])
        seen = []
        model.head.register_forward_pre_hook(lambda m, args: seen.append(args[0][:, -2:]))
        n = len(clinical)
        model(Batch(torch.zeros(n, 1), [1] * n, clinical, torch.zeros(n)))
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


def logit(p):
    return np.log(p) - np.log1p(-p)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class TestFusion:
    def seen(self, cohort, mil, **changes):
        """A classifier's output, and what its linear layers at the end were given and gave."""
        batch = some_batch(cohort, [0, 4, 8, 30])
        model = build_classifier(mil(**changes), 5, seed=1).eval()
        generator = torch.Generator().manual_seed(2)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
            model.fit_clinical_scale(batch.clinical)
            given = {}
            for name in ("head", "clinical_head", "gate"):
                if hasattr(model, name):
                    getattr(model, name).register_forward_hook(
                        lambda _, args, out, name=name: given.update({name: (args[0], out[:, 0])})
                    )
            return model(batch), given, batch

    @staticmethod
    def clinical(batch):
        low, high = batch.clinical.amin(dim=0), batch.clinical.amax(dim=0)
        return (batch.clinical - low) / (high - low)

    def test_late_adds_the_logits_of_pictures_and_of_clinical_values(self, cohort, mil):
        output, given, batch = self.seen(cohort, mil, fusion="late")
        assert given["head"][0].shape == (4, 8)  # no clinical value among them
        torch.testing.assert_close(given["clinical_head"][0], self.clinical(batch))
        logits = [given[name][1] for name in ("head", "clinical_head")]
        torch.testing.assert_close(output.experts, torch.stack(logits))
        torch.testing.assert_close(output.logits, logits[0] + logits[1])

    def test_a_mixture_weighs_the_probabilities_by_a_gate(self, cohort, mil):
        output, given, batch = self.seen(cohort, mil, fusion="mixture")
        assert given["head"][0].shape == (4, 8)
        torch.testing.assert_close(
            given["gate"][0], torch.cat([given["head"][0], self.clinical(batch)], dim=1)
        )
        p_1, p_2, g = (
            sigmoid(given[name][1].double().numpy()) for name in ("head", "clinical_head", "gate")
        )
        torch.testing.assert_close(
            output.experts, torch.stack([given["head"][1], given["clinical_head"][1]])
        )
        np.testing.assert_allclose(torch.sigmoid(output.logits), g * p_1 + (1 - g) * p_2, rtol=1e-5)

    def test_concatenation_has_no_experts(self, cohort, mil):
        output, given, batch = self.seen(cohort, mil)
        assert list(given) == ["head"]
        torch.testing.assert_close(given["head"][0][:, -2:], self.clinical(batch))
        assert output.experts.shape == (0, 4)
        assert torch.equal(output.logits, given["head"][1])

    @pytest.mark.parametrize("fusion", ["concatenation", "late", "mixture"])
    def test_pictures_alone_never_see_clinical_values(self, cohort, mil, fusion):
        batch = some_batch(cohort, [0, 4, 8])
        model = build_classifier(mil(inputs="pictures", fusion=fusion), 5, seed=1).eval()
        model.fit_clinical_scale(batch.clinical)
        output = model(batch)
        assert len(output.experts) == 0
        assert output.logits.std() > 0
        assert torch.equal(
            model(replace(batch, clinical=7 * batch.clinical + 1)).logits, output.logits
        )
        linear = [m.in_features for m in model.modules() if isinstance(m, nn.Linear)]
        assert linear == [5, 8, 6, 4]

    @pytest.mark.parametrize("fusion", ["concatenation", "late", "mixture"])
    def test_both_inputs_are_seen(self, cohort, mil, fusion):
        batch = some_batch(cohort, [0, 4, 8])
        model = build_classifier(mil(fusion=fusion), 5, seed=1).eval()
        model.fit_clinical_scale(batch.clinical)
        logits = model(batch).logits
        for changed in (
            replace(batch, clinical=batch.clinical + 9),
            replace(batch, instances=batch.instances + 1),
        ):
            assert (model(changed).logits != logits).all()


class TestAggregatorsInTheClassifier:
    @pytest.mark.parametrize("aggregator", list(AGGREGATORS))
    def test_the_head_takes_what_the_aggregator_gives(self, cohort, mil, aggregator):
        batch = some_batch(cohort, [0, 4, 8])
        settings = mil(aggregator=aggregator, embedding_width=6)
        model = build_classifier(settings, 5, seed=1).eval()
        seen = []
        model.head.register_forward_pre_hook(lambda _, args: seen.append(args[0][:, :-2]))
        model(batch)
        embedded = model.special_embedding(batch.instances)
        pooled = AGGREGATORS[aggregator].forward(model.aggregator, embedded, batch.bag, 3)
        assert torch.equal(seen[0], pooled)

    @pytest.mark.parametrize("aggregator", list(AGGREGATORS))
    def test_the_seed_makes_the_weights_and_nothing_else_does(self, mil, aggregator):
        states = []
        for disturbance, seed in ((1, 4), (2, 4), (2, 5)):
            torch.manual_seed(disturbance)  # torch's global generator must not matter
            settings = mil(aggregator=aggregator, fusion="mixture")
            states.append(build_classifier(settings, 5, seed).state_dict())
        first, again, other = states
        assert all(torch.equal(first[name], again[name]) for name in first)
        drawn = [name for name, value in first.items() if value.ndim == 2]
        assert not any(torch.equal(first[name], other[name]) for name in drawn)
