import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from lightning_fabric import Fabric

from lymphocytosis.end_to_end.bags import pack_pictures
from lymphocytosis.end_to_end.model import build_picture_classifier
from lymphocytosis.end_to_end.prediction import predict_patients_by_pictures
from lymphocytosis.end_to_end.training import train_picture_classifier, train_picture_suite
from lymphocytosis.errors import UserError
from lymphocytosis.mil.epochs import cpu_state
from lymphocytosis.parameters import EncoderParameters
from lymphocytosis.progress import Progress

FABRIC = Fabric(accelerator="cpu", devices=1)
TRAIN, VALIDATION = np.arange(12), np.arange(12, 16)
VIEWS = ("original", "horizontal", "vertical")


@pytest.fixture
def train(encoder, mil, bag_images):
    """A function that trains one model."""

    def run(bags, seed=3, validation=VALIDATION, mil_changes=None, **changes):
        settings, asked = mil(**(mil_changes or {})), bag_images(**changes)
        model = build_picture_classifier(encoder, settings, 40, asked.chunk, seed)
        history = train_picture_classifier(
            model, bags, TRAIN, validation, VIEWS, settings, asked, seed, FABRIC
        )
        return cpu_state(model), history

    return run


class TestOneModel:
    def test_it_learns_what_the_pictures_show(self, bags_of, train):
        _, bags = bags_of()
        _, history = train(bags, epochs=10, learning_rate=0.02)
        assert history["loss"].iloc[-1] < 0.6 * history["loss"].iloc[0]
        assert history["validation_balanced_accuracy"].max() >= 0.9
        score = history["validation_balanced_accuracy"]
        assert list(history["epoch"][history["kept"]]) == [score.argmax() + 1]

    def test_same_seed_same_bits_with_dropout(self, bags_of, train):
        _, bags = bags_of()
        runs = []
        for disturbance in (1, 2):
            torch.manual_seed(disturbance)  # torch's global generator must not matter
            runs.append(train(bags, mil_changes={"dropout": 0.3}))
        assert runs[0][1].equals(runs[1][1])
        assert all(torch.equal(value, runs[1][0][name]) for name, value in runs[0][0].items())
        assert not train(bags, seed=4)[1].equals(runs[0][1])

    def test_the_chunk_changes_nothing_but_rounding(self, bags_of, train):
        _, bags = bags_of()
        losses = [train(bags, chunk=chunk)[1]["loss"] for chunk in (2, 5, 100)]
        np.testing.assert_allclose(losses[0], losses[2], rtol=1e-3)
        np.testing.assert_allclose(losses[1], losses[2], rtol=1e-3)

    def test_validation_patients_never_train(self, bags_of, train):
        _, bags = bags_of()
        _, honest = train(bags)
        label, clinical, rows = bags.label.copy(), bags.clinical.clone(), list(bags.rows)
        label[VALIDATION] = 1 - label[VALIDATION]
        clinical[torch.from_numpy(VALIDATION)] *= 2
        for number in VALIDATION:
            rows[number] = rows[0]
        _, changed = train(replace(bags, label=label, clinical=clinical, rows=rows))
        assert honest["loss"].equals(changed["loss"])

    def test_the_encoder_and_the_classifier_both_learn(self, bags_of, train, encoder, mil):
        _, bags = bags_of()
        start = build_picture_classifier(encoder, mil(), 40, 8, 3).state_dict()
        state, _ = train(bags)
        for name in ("encoder.model.conv_stem.weight", "encoder.model.bn1.weight"):
            assert not torch.equal(state[name], start[name])
        assert torch.equal(
            state["encoder.model.bn1.running_mean"], start["encoder.model.bn1.running_mean"]
        )
        assert not torch.equal(state["classifier.head.0.weight"], start["classifier.head.0.weight"])

    def test_a_loss_that_is_no_number_is_refused(self, bags_of, train, monkeypatch):
        _, bags = bags_of()
        packed = []

        def pack(*given):
            batch = pack_pictures(*given)
            packed.append(batch)
            return (
                replace(batch, clinical=batch.clinical * torch.nan) if len(packed) == 2 else batch
            )

        monkeypatch.setattr("lymphocytosis.end_to_end.training.pack_pictures", pack)
        told = r"loss of epoch 1, batch 2 is nan.*encoder_learning_rate"
        with pytest.raises(UserError, match=told):
            train(bags, batch_bags=4)


class TestSuite:
    @pytest.fixture
    def splits(self, bags_of):
        patients, _ = bags_of()
        parts = {1: (TRAIN, VALIDATION), 2: (np.arange(4, 16), np.arange(4))}
        return pd.concat(
            pd.DataFrame({"split": s, "patient_id": patients["patient_id"][part], "role": role})
            for s, both in parts.items()
            for role, part in zip(("train", "validation"), both, strict=True)
        )

    @pytest.fixture
    def suite(self, bags_of, splits, encoder, mil, bag_images):
        patients, bags = bags_of()
        return (
            patients,
            bags,
            *train_picture_suite(
                bags,
                patients,
                splits,
                encoder,
                mil(),
                bag_images(),
                VIEWS,
                3,
                FABRIC,
                Progress(None),
            ),
        )

    def test_one_model_a_split_each_as_if_trained_alone(self, suite, train):
        _, bags, content, history = suite
        state, alone = train(bags)
        assert list(content["state_dicts"]) == [1, 2]
        first = history[history["split"] == 1].drop(columns="split")
        assert first.equals(alone)
        assert all(torch.equal(v, content["state_dicts"][1][k]) for k, v in state.items())

    @pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
    def test_mixed_precision_trains_and_predicts(
        self, bags_of, splits, encoder, mil, bag_images, precision
    ):
        patients, bags = bags_of()
        splits = splits[splits["split"] == 1]
        fabric = Fabric(accelerator="cpu", devices=1, precision=precision)
        content, history = train_picture_suite(
            bags, patients, splits, encoder, mil(), bag_images(epochs=1), VIEWS, 3, fabric,
            Progress(None),
        )  # fmt: skip
        assert history["loss"].between(0, 5).all()
        table, _ = predict_patients_by_pictures(
            content, bags, patients, splits, {1: VALIDATION}, VIEWS, fabric
        )
        assert table["probability"].between(0, 1).all()

    def test_after_a_kill_it_is_the_same_to_the_bit(
        self, bags_of, splits, encoder, mil, bag_images, suite, after_a_kill
    ):
        _, _, content, history = suite
        patients, bags = bags_of()
        found, found_history = after_a_kill(
            lambda progress: train_picture_suite(
                bags, patients, splits, encoder, mil(), bag_images(), VIEWS, 3, FABRIC, progress
            ),
            2,
        )
        assert found_history.equals(history)
        for split, state in content["state_dicts"].items():
            assert all(torch.equal(found["state_dicts"][split][k], v) for k, v in state.items())

    def test_rebuilt_models_predict_as_the_history_says(self, suite, splits):
        patients, bags, content, history = suite
        asked = {1: VALIDATION, 2: np.arange(4)}
        table, cells = predict_patients_by_pictures(
            content, bags, patients, splits, asked, VIEWS, FABRIC
        )
        assert len(table) == 3 * 8
        of_first = cells[cells["patient_id"] == patients["patient_id"][0]]
        assert set(of_first["image_id"]) == set(bags.image_id[bags.rows[0]])
        label = patients.set_index("patient_id")["label"].loc[table["patient_id"]].to_numpy()
        right = (table["probability"] >= 0.5).to_numpy() == (label == 1)
        for split in (1, 2):
            mine = (table["split"] == split).to_numpy()
            by_class = [right[mine & (label == value)].mean() for value in (0, 1)]
            kept = history[(history["split"] == split) & history["kept"]]
            assert np.mean(by_class) == pytest.approx(kept["validation_balanced_accuracy"].iloc[0])

    def test_a_prediction_is_that_of_the_view(self, suite, splits, store_of):
        patients, bags, content, _ = suite
        asked = {1: VALIDATION, 2: VALIDATION}
        table, _ = predict_patients_by_pictures(
            content, bags, patients, splits, asked, VIEWS, FABRIC
        )
        # Stored upside down, the original is what the vertical view was.
        turned = store_of(bags.images[:][:, ::-1], pd.DataFrame(), bags.images.image)
        again, _ = predict_patients_by_pictures(
            content, replace(bags, images=turned), patients, splits, asked, VIEWS, FABRIC
        )
        by_view, by_view_again = (t.pivot_table("probability", ["patient_id", "split"], "view")
                                  for t in (table, again))  # fmt: skip
        assert by_view["vertical"].equals(by_view_again["original"])
        assert not by_view["vertical"].equals(by_view["original"])

    def test_a_cells_contribution_is_what_the_logit_loses_without_its_picture(self, suite, splits):
        patients, bags, content, _ = suite
        number = max(VALIDATION, key=lambda n: len(bags.rows[n]))
        rows = bags.rows[number]
        asked = {1: np.array([number]), 2: np.array([], dtype=np.int64)}

        def predict(some):
            own = [*bags.rows]
            own[number] = some
            less = replace(bags, rows=own)
            table, cells = predict_patients_by_pictures(
                content, less, patients, splits, asked, VIEWS, FABRIC
            )
            probability = table.set_index("view")["probability"]
            return np.log(probability / (1 - probability)), cells

        whole, cells = predict(rows)
        assert len(rows) > 1
        for place, row in enumerate(rows):
            without, _ = predict(np.delete(rows, place))
            mine = cells[cells["image_id"] == bags.image_id[row]].set_index("view")
            pd.testing.assert_series_equal(
                mine["contribution"], whole - without, check_names=False, atol=1e-5, rtol=1e-3
            )

    def test_nobody_asked_for_gives_an_empty_table(self, suite, splits):
        patients, bags, content, _ = suite
        nobody = np.array([], dtype=np.int64)
        table, cells = predict_patients_by_pictures(
            content, bags, patients, splits, {1: nobody, 2: nobody}, VIEWS, FABRIC
        )
        assert list(table.columns) == ["patient_id", "split", "view", "probability"]
        assert table.empty
        assert cells.empty

    def test_a_step_of_one_bag_needs_more_than_one_picture(self, suite, splits, mil, bag_images):
        patients, bags, content, _ = suite
        single = replace(bags, rows=[bags.rows[0][:1], *bags.rows[1:]])
        encoder = EncoderParameters.model_validate(content["parameters"]["encoder"])
        with pytest.raises(UserError, match=r"batch_bags is 1, and patient \w+ has a single"):
            train_picture_suite(
                single, patients, splits, encoder, mil(), bag_images(batch_bags=1), VIEWS, 3,
                FABRIC, Progress(None),
            )  # fmt: skip

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda content: content.pop("parameters"),
            lambda content: content["parameters"].pop("image"),
            lambda content: content["parameters"].update(mil={}),
            lambda content: content["parameters"].update(encoder=None),
            lambda content: content["state_dicts"].pop(2),
            lambda content: content["state_dicts"].update({1: {}}),
            lambda content: next(iter(content["state_dicts"][1].values())).fill_(torch.nan),
        ],
    )
    def test_a_file_that_was_tampered_with_is_refused(self, suite, splits, spoil):
        patients, bags, content, _ = suite
        content = copy.deepcopy(content)
        spoil(content)
        asked = {1: VALIDATION, 2: VALIDATION}
        with pytest.raises(UserError, match=r"can't be rebuilt: .*Run bag_images again"):
            predict_patients_by_pictures(content, bags, patients, splits, asked, VIEWS, FABRIC)

    def test_another_kind_other_splits_and_other_pictures_are_refused(
        self, suite, splits, image_parameters
    ):
        patients, bags, content, _ = suite
        swapped = splits.replace({"role": {"train": "validation", "validation": "train"}})
        asked = {1: VALIDATION, 2: VALIDATION}

        def predict(content=content, splits=splits):
            predict_patients_by_pictures(content, bags, patients, splits, asked, VIEWS, FABRIC)

        with pytest.raises(UserError, match="another kind of model"):
            predict(content={"kind": "classifiers"})
        with pytest.raises(UserError, match=r"other splits.*Run bag_images again"):
            predict(splits=swapped)
        bags.images.image = image_parameters(crop=36)
        with pytest.raises(UserError, match=r"image\.crop = 40.*has 36"):
            predict()
