from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from lymphocytosis import schemas
from lymphocytosis.errors import UserError
from lymphocytosis.mil import training
from lymphocytosis.mil.aggregators import AGGREGATORS
from lymphocytosis.mil.bags import gather_bags, pack
from lymphocytosis.mil.prediction import load_classifiers, predict_patients
from lymphocytosis.mil.training import (
    balanced_accuracy,
    build_classifier,
    in_batches,
    train_classifier,
    train_suite,
)
from lymphocytosis.mil.turns import run_in_turns
from lymphocytosis.progress import Progress


def train(*args):
    [(_, result)] = run_in_turns([train_classifier(*args)], at_once=1)
    return result


FABRIC = Fabric(accelerator="cpu", devices=1)


def weights_of(content):
    """The first weight in the state dict of split 1, and the dict."""
    state = content["state_dicts"][1]
    return next(iter(state)), state


def with_weight(change):
    def spoil(content):
        name, state = weights_of(content)
        state[name] = change(state[name])

    return spoil


# What may have become of a file of classifiers.
SPOILED = [
    lambda content: content.pop("parameters"),
    lambda content: content.pop("state_dicts"),
    lambda content: content.pop("whitening"),
    lambda content: content.update(parameters=None),
    lambda content: content.update(parameters={}),
    lambda content: content.update(state_dicts=[]),
    lambda content: content.update(state_dicts={1: {}, 2: {}}),
    lambda content: content["state_dicts"].pop(2),
    lambda content: content["state_dicts"].update({1: None}),
    lambda content: content.update(whitening={"mean": torch.zeros(3)}),
    lambda content: content.update(whitening=3),
    lambda content: content["whitening"].update(mean=torch.zeros(7)),
    lambda content: content["whitening"].update(matrix=torch.zeros(5, 2)),
    lambda content: content["whitening"]["matrix"].fill_(torch.nan),
    lambda content: content["parameters"].update(mil={}),
    lambda content: content["parameters"]["mil"].update(aggregator="median"),
    lambda content: content["parameters"]["mil"].update(aggregator="mean_and_spread"),
    lambda content: content["parameters"]["mil"].update(embedding_width=10**12),
    with_weight(lambda weight: weight[:1]),
    with_weight(lambda weight: weight.double()),
    with_weight(lambda weight: weight * torch.nan),
    with_weight(lambda weight: weight.tolist()),
    lambda content: weights_of(content)[1].pop(weights_of(content)[0]),
    lambda content: weights_of(content)[1].update(surprise=torch.zeros(1)),
]
TRAIN, VALIDATION = np.arange(16), np.arange(16, 24)


def plain_training(patients, table, mil, seed):
    """One classifier's training written down once more: patient by patient, layer by layer.

    Only the starting weights are taken from the project. Bags are cut out with pandas, the layers
    are torch's own, BatchNorm sees a batch's cells one bag after the other, balanced accuracy and
    the plateau rule are spelt out.
    """
    start = build_classifier(mil, 5, seed).state_dict()
    embed = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU())
    head = nn.Sequential(nn.Linear(10, 6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 1))
    embed.load_state_dict({k[18:]: v for k, v in start.items() if k.startswith("special_")})
    for ours, theirs in zip((0, 2, 4), (0, 3, 6), strict=True):
        head[ours].weight.data.copy_(start[f"head.{theirs}.weight"])
        head[ours].bias.data.copy_(start[f"head.{theirs}.bias"])

    frame = table.to_pandas()
    values = patients[["age_years", "lymphocyte_count"]].to_numpy()
    low, high = values[TRAIN].min(axis=0), values[TRAIN].max(axis=0)
    bags = []
    for p, patient_id in enumerate(patients["patient_id"]):
        for view in ("original", "horizontal", "vertical"):
            mine = frame[(frame["patient_id"] == patient_id) & (frame["view"] == view)]
            cells = torch.tensor(np.stack(mine["embedding"].to_list()))
            clinical = torch.tensor((values[p] - low) / (high - low), dtype=torch.float32)
            bags.append((p, cells, clinical, float(patients["label"][p])))

    def forward(chosen):
        embedded = embed(torch.cat([cells for _, cells, _, _ in chosen]))
        pooled = [part.mean(0) for part in embedded.split([len(c) for _, c, _, _ in chosen])]
        joined = [torch.cat([mean, bag[2]]) for mean, bag in zip(pooled, chosen, strict=True)]
        return head(torch.stack(joined))[:, 0]

    def balanced_accuracy(patients_asked):
        embed.eval()
        asked = [bag for bag in bags if bag[0] in patients_asked]
        with torch.no_grad():
            said = forward(asked) >= 0
        truth = torch.tensor([label for _, _, _, label in asked]) == 1
        return ((said[truth]).float().mean() + (~said[~truth]).float().mean()).item() / 2

    of_train = [b for b, bag in enumerate(bags) if bag[0] in TRAIN]
    optimizer = torch.optim.Adam(
        [*embed.parameters(), *head.parameters()],
        lr=mil.learning_rate,
        weight_decay=mil.weight_decay,
    )
    order = torch.Generator().manual_seed(seed)
    best, waited, history, kept = -1.0, 0, [], None
    for _ in range(mil.epochs):
        embed.train()
        shuffled = [of_train[i] for i in torch.randperm(len(of_train), generator=order)]
        losses, said_while_training = [], []
        for first in range(0, len(shuffled), mil.batch_size):
            chosen = [bags[b] for b in shuffled[first : first + mil.batch_size]]
            label = torch.tensor([label for _, _, _, label in chosen])
            probability = torch.sigmoid(forward(chosen))
            per_bag = -(label * probability.log() + (1 - label) * (1 - probability).log())
            optimizer.zero_grad()
            per_bag.mean().backward()
            optimizer.step()
            losses += per_bag.tolist()
            said_while_training += zip(label.tolist(), (probability >= 0.5).tolist(), strict=True)
        rate = optimizer.param_groups[0]["lr"]
        score = balanced_accuracy(VALIDATION)
        rights = [[said == bool(t) for t, said in said_while_training if t == k] for k in (0, 1)]
        history.append((np.mean(losses), np.mean([np.mean(r) for r in rights]), score, rate))
        if score > best:
            best, waited = score, 0
            kept = [p.detach().clone() for p in (*embed.parameters(), *head.parameters())]
        else:
            waited += 1
        if waited > mil.scheduler.patience:
            optimizer.param_groups[0]["lr"] = rate * mil.scheduler.factor
            waited = 0
    return kept, np.array(history)


class TestOneClassifier:
    # With the greater signal the plain loop goes on where no later epoch can be kept.
    @pytest.mark.parametrize(("weight_decay", "signal"), [(0.0, 0.4), (0.05, 0.4), (0.0, 1.2)])
    def test_it_equals_a_plain_loop(self, cohort, mil, weight_decay, signal):
        patients, table = cohort(signal=signal)
        settings = mil(epochs=12, weight_decay=weight_decay)
        state, history = train(gather_bags(table, patients), TRAIN, VALIDATION, settings, 3, FABRIC)
        kept, expected = plain_training(patients, table, settings, 3)
        columns = ["loss", "train_balanced_accuracy", "validation_balanced_accuracy"]
        np.testing.assert_allclose(
            history[[*columns, "learning_rate"]], expected[: len(history)], rtol=1e-3, atol=1e-6
        )
        if signal == 0.4:
            assert len(history) == 12
            assert history["learning_rate"].min() < 0.02  # the plateau rule was put to work
        else:
            assert len(history) < 12
            assert history["validation_balanced_accuracy"].iloc[-1] == 1
        ours = [v for k, v in state.items() if k.endswith(("weight", "bias"))]
        for mine, theirs in zip(ours, kept, strict=True):
            # The bias before BatchNorm has no gradient but rounding, which Adam blows up.
            if mine.shape == (8,) and mine is ours[1]:
                continue
            torch.testing.assert_close(mine, theirs, rtol=5e-3, atol=5e-4)

    @pytest.mark.parametrize("fusion", ["late", "mixture"])
    def test_every_expert_has_a_loss_of_its_own(self, cohort, mil, fusion):
        patients, table = cohort(signal=0.4)
        bags = gather_bags(table, patients)
        # All bags are one batch, so that every epoch is one step.
        settings = mil(fusion=fusion, epochs=4, batch_size=100)
        _, history = train(bags, TRAIN, VALIDATION, settings, 3, FABRIC)

        model = build_classifier(settings, 5, 3)
        model.fit_clinical_scale(bags.clinical[:16])
        optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
        batch = pack(bags, np.arange(3 * 16))
        clinical = (batch.clinical - model.clinical_low) / model.clinical_span
        losses = []
        for _ in range(settings.epochs):
            embedded = model.special_embedding(batch.instances)
            pooled = torch.stack([embedded[batch.bag == b].mean(dim=0) for b in range(48)])
            first, second = model.head(pooled)[:, 0], model.clinical_head(clinical)[:, 0]
            if fusion == "late":
                said = [torch.sigmoid(first + second)]
            else:
                gate = torch.sigmoid(model.gate(torch.cat([pooled, clinical], dim=1))[:, 0])
                said = [gate * torch.sigmoid(first) + (1 - gate) * torch.sigmoid(second)]
            said += [torch.sigmoid(first), torch.sigmoid(second)]
            right = [torch.where(batch.label == 1, p, 1 - p) for p in said]
            loss = sum(-p.log().mean() for p in right)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        np.testing.assert_allclose(history["loss"], losses, rtol=1e-4)

    def test_weights_decay(self, cohort, mil):
        patients, table = cohort()
        bags = gather_bags(table, patients)
        size = {}
        for decay in (0.0, 1.0):
            settings = mil(weight_decay=decay, epochs=8)
            state, _ = train(bags, TRAIN, VALIDATION, settings, 3, FABRIC)
            size[decay] = sum(v.square().sum() for k, v in state.items() if k.startswith("head"))
        assert size[1.0] < size[0.0]

    @pytest.mark.parametrize("aggregator", list(AGGREGATORS))
    def test_every_aggregator_learns_a_plain_signal(self, cohort, mil, aggregator):
        patients, table = cohort(signal=3.0)
        settings = mil(aggregator=aggregator, inputs="pictures", epochs=8)
        state, history = train(gather_bags(table, patients), TRAIN, VALIDATION, settings, 3, FABRIC)
        assert history["validation_balanced_accuracy"].max() > 0.9
        assert all(value.isfinite().all() for value in state.values())

    @pytest.mark.parametrize("aggregator", list(AGGREGATORS))
    def test_half_precision_trains_too(self, cohort, mil, aggregator):
        patients, table = cohort()
        fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
        state, _ = train(
            gather_bags(table, patients),
            TRAIN,
            VALIDATION,
            mil(aggregator=aggregator, fusion="mixture", epochs=1),
            3,
            fabric,
        )
        assert all(value.isfinite().all() for value in state.values())

    def test_the_first_of_the_best_epochs_is_kept(self, cohort, mil):
        patients, table = cohort(signal=0.4)
        _, history = train(
            gather_bags(table, patients), TRAIN, VALIDATION, mil(epochs=10), 3, FABRIC
        )
        score = history["validation_balanced_accuracy"]
        assert history["kept"].sum() == 1
        assert history["kept"].idxmax() == np.flatnonzero(score == score.max())[0]

    def test_the_mean_of_both_parts_may_be_monitored(self, cohort, mil):
        patients, table = cohort(signal=0.4)
        _, history = train(
            gather_bags(table, patients), TRAIN, VALIDATION,
            mil(epochs=10, monitor="train_and_validation"), 3, FABRIC,
        )  # fmt: skip
        mean = (history["validation_balanced_accuracy"] + history["train_balanced_accuracy"]) / 2
        assert mean[history["kept"]].iloc[0] == mean.max()

    def test_a_fitted_threshold_balances_sensitivity_and_specificity(self):
        rng = np.random.default_rng(0)
        label = np.arange(40) % 2
        probability = rng.random(40) * 0.4 + 0.1 * label  # everything under 0.5
        best_gap, expected = 2.0, None
        for cut in sorted(probability, reverse=True):
            sensitivity = (probability >= cut)[label == 1].mean()
            specificity = (probability < cut)[label == 0].mean()
            if abs(sensitivity - specificity) < best_gap:
                best_gap = abs(sensitivity - specificity)
                expected = (sensitivity + specificity) / 2
        assert balanced_accuracy(label, probability, "fitted") == pytest.approx(expected)
        assert balanced_accuracy(label, probability, "fixed") == 0.5

    def test_same_seed_same_bits_with_dropout(self, cohort, mil):
        patients, table = cohort()
        bags = gather_bags(table, patients)
        runs = []
        for disturbance in (1, 2):
            torch.manual_seed(disturbance)  # torch's global generator must not matter
            runs.append(train(bags, TRAIN, VALIDATION, mil(dropout=0.3), 3, FABRIC))
        assert runs[0][1].equals(runs[1][1])
        assert all(torch.equal(runs[0][0][name], runs[1][0][name]) for name in runs[0][0])

    def test_validation_patients_never_train(self, cohort, mil):
        patients, table = cohort()
        _, honest = train(gather_bags(table, patients), TRAIN, VALIDATION, mil(), 3, FABRIC)
        patients.loc[VALIDATION, ["age_years", "lymphocyte_count"]] *= 2
        patients.loc[VALIDATION, "label"] = 1 - patients.loc[VALIDATION, "label"]
        _, changed = train(gather_bags(table, patients), TRAIN, VALIDATION, mil(), 3, FABRIC)
        epochs = min(len(honest), len(changed))  # a perfect score ends a training
        assert honest["loss"][:epochs].equals(changed["loss"][:epochs])

    def test_a_loss_that_is_no_number_is_refused(self, cohort, mil):
        patients, table = cohort()
        bags = gather_bags(table, patients)
        bags.instances[0] = float("nan")
        with pytest.raises(
            UserError, match=r"loss of epoch 1, batch \d+ of \d+ is nan.*mil\.learning_rate"
        ):
            train(bags, TRAIN, VALIDATION, mil(), 3, FABRIC)


class TestStopping:
    def test_training_stops_where_no_later_epoch_can_be_kept(self, cohort, mil):
        patients, table = cohort(signal=1.2)
        settings = mil(epochs=10, dropout=0.3, batch_size=12)
        _, history = train(gather_bags(table, patients), TRAIN, VALIDATION, settings, 3, FABRIC)
        score = history["validation_balanced_accuracy"]
        assert 1 < len(history) < 10
        assert (score == 1).tolist() == [False] * (len(history) - 1) + [True]
        assert history["kept"].equals(score == 1)

    def test_training_goes_on_below_it(self, cohort, mil):
        patients, table = cohort(signal=0.6)
        settings = mil(epochs=10, dropout=0.3, batch_size=12)
        _, history = train(gather_bags(table, patients), TRAIN, VALIDATION, settings, 3, FABRIC)
        assert history["validation_balanced_accuracy"].max() < 1
        assert len(history) == 10


@pytest.mark.gpu
class TestOnAGPU:
    def test_the_splits_together_are_near_each_on_the_cpu(self, cohort, mil):
        # Without dropout, which draws other numbers there; few steps, for rounding grows.
        settings = {"dropout": 0.0, "epochs": 1}
        patients, bags, splits, _, history = suite_of(cohort, mil, **settings)
        fabric = Fabric(accelerator="cuda", devices=1)
        _, on_gpu = train_suite(bags, patients, splits, mil(**settings), 0, fabric, Progress(None))
        np.testing.assert_allclose(on_gpu["loss"], history["loss"], rtol=1e-3)

    def test_a_step_never_waits_for_the_device(self, cohort, mil, monkeypatch):
        patients, table = cohort()
        fabric = Fabric(accelerator="cuda", devices=1)
        bags = gather_bags(table, patients).on(fabric.device)
        packed, finite = training.pack, training.finite_losses

        def first_step(*args):
            batch = packed(*args)
            torch.cuda.set_sync_debug_mode("error")
            return batch

        def after_the_last(*args):
            torch.cuda.set_sync_debug_mode("default")
            return finite(*args)

        monkeypatch.setattr(training, "pack", first_step)
        monkeypatch.setattr(training, "finite_losses", after_the_last)
        monkeypatch.setattr(training, "_scores", lambda *_: {"validation_balanced_accuracy": 0.0})
        _, history = train(bags, TRAIN, VALIDATION, mil(dropout=0.3), 3, fabric)
        assert len(history) == mil().epochs


def suite_of(cohort, mil, **changes):
    patients, table = cohort()
    bags = gather_bags(table, patients)
    parts = {1: (TRAIN, VALIDATION), 2: (np.arange(8, 24), np.arange(8))}
    splits = pd.concat(
        pd.DataFrame({"split": s, "patient_id": patients["patient_id"][part], "role": role})
        for s, both in parts.items()
        for role, part in zip(("train", "validation"), both, strict=True)
    )
    return (
        patients,
        bags,
        splits,
        *train_suite(bags, patients, splits, mil(**changes), 0, FABRIC, Progress(None)),
    )


class TestBatches:
    @pytest.mark.parametrize("n", range(2, 14))
    def test_every_bag_once_and_none_alone(self, n):
        batches = in_batches(np.arange(n), 4)
        assert np.array_equal(np.concatenate(batches), np.arange(n))
        assert all(2 <= len(batch) <= 5 for batch in batches)

    def test_bags_of_one_cell_can_be_trained_on(self, cohort, mil):
        patients, table = cohort(signal=1.0)
        first = table.to_pandas().groupby(["patient_id", "view"]).head(1).index.to_numpy()
        patients["cell_count"] = 1
        bags = gather_bags(table.take(first), patients)
        # 17 patients in 3 views: 51 bags, so the last batch of five would hold one.
        state, _ = train(bags, np.arange(17), VALIDATION, mil(), 3, FABRIC)
        assert all(value.isfinite().all() for value in state.values())


class TestSuite:
    def test_one_classifier_a_split_each_as_if_trained_alone(self, cohort, mil):
        threads = torch.get_num_threads()
        _, bags, _, classifiers, history = suite_of(cohort, mil)
        assert torch.get_num_threads() == threads
        torch.set_num_threads(1)  # as in the suite: sums are taken in another order on two
        alone, alone_history = train(bags, np.arange(8, 24), np.arange(8), mil(), 1, FABRIC)
        torch.set_num_threads(threads)
        assert list(classifiers["state_dicts"]) == [1, 2]
        assert all(torch.equal(v, classifiers["state_dicts"][2][k]) for k, v in alone.items())
        second = history[history["split"] == 2].drop(columns="split").reset_index(drop=True)
        assert second.equals(alone_history)

    @pytest.mark.parametrize("parts_done", [1, 2, 3])
    @pytest.mark.parametrize("classifier", ["neural", "logistic"])
    def test_after_a_kill_it_is_the_same_to_the_bit(
        self, cohort, mil, after_a_kill, parts_done, classifier
    ):
        settings = mil(classifier=classifier)
        patients, bags, splits, undisturbed, history = suite_of(cohort, mil, classifier=classifier)
        # A table and a state for each of two splits.
        found, found_history = after_a_kill(
            lambda progress: train_suite(bags, patients, splits, settings, 0, FABRIC, progress),
            parts_done,
        )
        assert found_history.equals(history)
        for split, state in undisturbed["state_dicts"].items():
            assert all(torch.equal(found["state_dicts"][split][k], v) for k, v in state.items())


class TestPrediction:
    def test_rebuilt_classifiers_predict_as_the_history_says(self, cohort, mil):
        patients, bags, splits, classifiers, history = suite_of(cohort, mil, dropout=0.3)
        asked = {1: VALIDATION, 2: np.arange(8)}
        table, _ = predict_patients(
            *load_classifiers(classifiers, bags, splits), patients, asked, FABRIC
        )
        assert len(table) == 3 * (8 + 8)
        label = patients.set_index("patient_id")["label"].loc[table["patient_id"]].to_numpy()
        right = (table["probability"] >= 0.5).to_numpy() == (label == 1)
        for split in (1, 2):
            mine = (table["split"] == split).to_numpy()
            by_class = [right[mine & (label == value)].mean() for value in (0, 1)]
            kept = history[(history["split"] == split) & history["kept"]]
            assert np.mean(by_class) == pytest.approx(kept["validation_balanced_accuracy"].iloc[0])

    def test_every_cell_has_its_share_in_its_patients_prediction(self, cohort, mil):
        patients, bags, splits, classifiers, _ = suite_of(cohort, mil, aggregator="attention")
        rebuilt, same_bags = load_classifiers(classifiers, bags, splits)
        assert same_bags is bags
        asked = {1: VALIDATION, 2: np.arange(8)}
        predictions, cells = predict_patients(rebuilt, bags, patients, asked, FABRIC)
        assert list(cells.columns) == ["patient_id", "image_id", "split", "view", "weight"]
        keys = ["patient_id", "split", "view"]
        sums = cells.groupby(keys)["weight"].sum()
        assert set(sums.index) == set(predictions.set_index(keys).index)
        np.testing.assert_allclose(sums, 1, rtol=1e-5)
        # A patient's own cells, each once a split and view, whatever order they stand in.
        assert not cells.duplicated([*keys, "image_id"]).any()
        count = patients.set_index("patient_id")["cell_count"]
        owners = sums.index.get_level_values("patient_id")
        assert cells.groupby(keys).size().tolist() == count.loc[owners].tolist()
        assert predictions.equals(
            predictions.sort_values(["patient_id", "split"], kind="stable", ignore_index=True)
        )

    def test_a_cells_weight_is_the_one_of_its_own_picture(self, cohort, mil):
        patients, table = cohort()
        # Pictures come shuffled, under names that tell their vectors.
        table = table.take(np.random.default_rng(0).permutation(len(table)))
        names = [f"{v[0].as_py():.9f}" for v in table["embedding"]]
        table = table.set_column(1, "image_id", pa.array(names))
        bags = gather_bags(table, patients)
        splits = pd.DataFrame(
            {
                "split": 1,
                "patient_id": patients["patient_id"],
                "role": ["train"] * 16 + ["validation"] * 8,
            }
        )
        content, _ = train_suite(
            bags, patients, splits, mil(aggregator="attention"), 0, FABRIC, Progress(None)
        )
        rebuilt, bags = load_classifiers(content, bags, splits)
        _, cells = predict_patients(rebuilt, bags, patients, {1: VALIDATION}, FABRIC)
        vectors = {n: v.as_py() for n, v in zip(names, table["embedding"], strict=True)}
        model = rebuilt[1].eval()
        for _, mine in cells.groupby(["patient_id", "view"]):
            instances = torch.tensor([vectors[name] for name in mine["image_id"]])
            with torch.no_grad():
                scores = model.aggregator.scores(model.special_embedding(instances))
            np.testing.assert_allclose(mine["weight"], scores.softmax(dim=0), rtol=1e-4)

    def test_nobody_sees_another_split_through_its_batch(self, cohort, mil):
        patients, bags, splits, classifiers, _ = suite_of(cohort, mil)
        rebuilt, bags = load_classifiers(classifiers, bags, splits)
        both, _ = predict_patients(rebuilt, bags, patients, {1: TRAIN, 2: TRAIN}, FABRIC)
        one, _ = predict_patients({2: rebuilt[2]}, bags, patients, {2: TRAIN}, FABRIC)
        assert both[both["split"] == 2].reset_index(drop=True).equals(one)

    def test_probabilities_stay_finite_for_extreme_values(self, cohort, mil):
        patients, bags, splits, classifiers, _ = suite_of(cohort, mil)
        bags.instances.mul_(1e6)
        table, _ = predict_patients(
            *load_classifiers(classifiers, bags, splits), patients, {1: TRAIN, 2: TRAIN}, FABRIC
        )
        assert table["probability"].between(0, 1).all()

    def test_nobody_asked_for_gives_an_empty_table(self, cohort, mil):
        patients, bags, splits, classifiers, _ = suite_of(cohort, mil)
        nobody = np.array([], dtype=np.int64)
        table, weights = predict_patients(
            *load_classifiers(classifiers, bags, splits), patients, {1: nobody, 2: nobody}, FABRIC
        )
        assert list(table.columns) == ["patient_id", "split", "view", "probability"]
        assert list(weights.columns) == ["patient_id", "image_id", "split", "view", "weight"]
        assert table.empty
        assert weights.empty

    def test_embeddings_of_another_encoder_are_refused(self, cohort, mil):
        _, bags, splits, classifiers, _ = suite_of(cohort, mil)
        with pytest.raises(UserError, match=r"another encoder.*Run classify again"):
            load_classifiers(classifiers, replace(bags, encoder="another"), splits)

    def test_other_splits_are_refused(self, cohort, mil):
        _, bags, splits, classifiers, _ = suite_of(cohort, mil)
        swapped = splits.replace({"role": {"train": "validation", "validation": "train"}})
        with pytest.raises(UserError, match=r"other splits.*Run classify again"):
            load_classifiers(classifiers, bags, swapped)

    def test_another_kind_of_model_is_refused(self):
        with pytest.raises(UserError, match="not classifiers"):
            load_classifiers({"kind": "autoencoder"}, None, None)

    @pytest.mark.parametrize("classifier", ["neural", "logistic"])
    @pytest.mark.parametrize("spoil", SPOILED, ids=range(len(SPOILED)))
    def test_a_file_that_was_tampered_with_is_refused(self, cohort, mil, spoil, classifier):
        _, bags, splits, content, _ = suite_of(cohort, mil, classifier=classifier, components=3)
        spoil(content)
        with pytest.raises(UserError, match=r"can't be rebuilt: .*Run classify again"):
            load_classifiers(content, bags, splits)

    def test_sizes_beyond_what_the_file_holds_take_no_memory(self, cohort, mil):
        _, bags, splits, content, _ = suite_of(cohort, mil)
        # A hundred thousand million weights: 430 GB.
        content["parameters"]["mil"] |= {"hidden_widths": [16_384] * 400}
        with pytest.raises(UserError, match="can't be rebuilt"):
            load_classifiers(content, bags, splits)

    @pytest.mark.parametrize("fusion", ["concatenation", "late", "mixture"])
    @pytest.mark.parametrize("aggregator", AGGREGATORS)
    def test_bags_of_one_cell_and_constant_values_give_probabilities(
        self, cohort, mil, aggregator, fusion
    ):
        patients, table = cohort()
        first = table.to_pandas().drop_duplicates(["patient_id", "view"]).index
        patients = patients.assign(cell_count=1, age_years=50, lymphocyte_count=5.0)
        bags = gather_bags(table.take(first.to_numpy()), patients)
        roles = ["train"] * 16 + ["validation"] * 8
        splits = pd.DataFrame({"split": 1, "patient_id": patients["patient_id"], "role": roles})
        settings = mil(aggregator=aggregator, fusion=fusion, learning_rate=1e-3)
        content, _ = train_suite(bags, patients, splits, settings, 0, FABRIC, Progress(None))
        suite, bags = load_classifiers(content, bags, splits)
        for scale in (1, 1e6):
            bags.instances.mul_(scale)
            predictions, weights = predict_patients(
                suite, bags, patients, {1: np.arange(24)}, FABRIC
            )
            schemas.predictions.validate(predictions)
            assert (weights["weight"] == 1).all()
