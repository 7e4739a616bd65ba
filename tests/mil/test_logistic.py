from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from lightning_fabric import Fabric
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from lymphocytosis.mil.bags import gather_bags, pack
from lymphocytosis.mil.epochs import cpu_state
from lymphocytosis.mil.logistic import LogisticClassifier
from lymphocytosis.mil.prediction import explain_patients, load_suite, predict_patients
from lymphocytosis.mil.suite import train_suite
from lymphocytosis.mil.turns import run_in_turns
from lymphocytosis.progress import Progress

FABRIC = Fabric(accelerator="cpu", devices=1)
# Classes of unlike size, so that their weights matter: 4 reactive and 10 tumoral patients.
TRAIN = np.array([0, 2, 4, 6, *range(1, 21, 2)])
VALIDATION = np.array([8, 10, 12, 14, 21, 23])
VIEWS = ("original", "horizontal", "vertical")


def pooled_by_hand(table, patients, aggregator):
    """A row for each patient and view: pooled features (f0, f1, ...), age, count, label."""
    frame = table.to_pandas()
    rows = []
    for number, patient in patients.iterrows():
        for view in VIEWS:
            mine = frame[(frame["patient_id"] == patient["patient_id"]) & (frame["view"] == view)]
            cells = np.stack(mine["embedding"].to_list()).astype(float)
            features = {
                "mean": lambda x: x.mean(axis=0),
                "max": lambda x: x.max(axis=0),
                "mean_and_spread": lambda x: np.concatenate(
                    [x.mean(axis=0), np.sqrt(x.var(axis=0) + 1e-6)]
                ),
            }[aggregator](cells)
            rows.append(
                {f"f{k}": value for k, value in enumerate(features)}
                | {"patient": number, "view": view, "label": patient["label"]}
                | {"age": patient["age_years"], "count": patient["lymphocyte_count"]}
            )
    return pd.DataFrame(rows)


def pipeline(columns, log_count=False, c=0.3):
    """Pictures as they are, clinical values standardised, one regression on both."""
    scaled = make_pipeline(
        FunctionTransformer(
            lambda x: x.assign(count=np.log(x["count"])) if log_count and "count" in x else x
        ),
        StandardScaler(),
    )
    clinical = [name for name in columns if name in ("age", "count")]
    pictures = [name for name in columns if name not in clinical]
    return make_pipeline(
        make_column_transformer(("passthrough", pictures), (scaled, clinical)),
        LogisticRegression(C=c, class_weight="balanced", tol=1e-8, max_iter=10_000),
    )


def reference(features, columns, **changes):
    """A pipeline fitted on the training patients, and its logits of all rows."""
    train = features[features["patient"].isin(TRAIN)]
    share = np.full(len(train), 1 / features["view"].nunique())
    model = pipeline(columns, **changes).fit(
        train[columns], train["label"].astype(int), logisticregression__sample_weight=share
    )
    return model.decision_function(features[columns])


def fit(bags, settings):
    """A classifier fitted on the training patients, and its history."""
    model = LogisticClassifier(settings, bags.instances.shape[1])
    [(_, history)] = run_in_turns([model.fit(bags, TRAIN, VALIDATION, FABRIC)], at_once=1)
    return model, history


def fitted(bags, settings):
    """A classifier fitted on the training patients, and its output for all bags."""
    model, _ = fit(bags, settings)
    return model, model(pack(bags, np.arange(len(bags.size))))


def assert_logits(found, expected):
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)


class TestConcatenation:
    @pytest.mark.parametrize("log_count", [False, True])
    @pytest.mark.parametrize("aggregator", ["mean", "mean_and_spread", "max"])
    def test_it_is_a_scikit_learn_pipeline_on_pooled_features(
        self, cohort, mil, aggregator, log_count
    ):
        patients, table = cohort(signal=0.4)
        features = pooled_by_hand(table, patients, aggregator)
        columns = [name for name in features if name[0] == "f"] + ["age", "count"]
        settings = mil(classifier="logistic", aggregator=aggregator, log_count=log_count)
        _, output = fitted(gather_bags(table, patients), settings)
        assert_logits(output.logits, reference(features, columns, log_count=log_count))
        assert output.experts.shape == (0, 72)

    @pytest.mark.parametrize("c", [0.01, 10.0])
    def test_the_penalty_is_the_parameters(self, cohort, mil, c):
        patients, table = cohort(signal=0.4)
        features = pooled_by_hand(table, patients, "mean")
        columns = [name for name in features if name[0] == "f"] + ["age", "count"]
        _, output = fitted(gather_bags(table, patients), mil(classifier="logistic", logistic_c=c))
        assert_logits(output.logits, reference(features, columns, c=c))

    def test_one_view_needs_no_shares(self, cohort, mil):
        # Every patient is one row: plain scikit-learn, without any weight.
        patients, table = cohort(signal=0.4)
        table = table.filter(pa.compute.equal(table["view"], "original"))
        features = pooled_by_hand_of_one_view(table, patients)
        columns = ["f0", "f1", "f2", "f3", "f4", "age", "count"]
        train = features.loc[TRAIN]
        plain = pipeline(columns).fit(train[columns], train["label"])
        _, output = fitted(gather_bags(table, patients), mil(classifier="logistic"))
        assert_logits(output.logits, plain.decision_function(features[columns]))


def pooled_by_hand_of_one_view(table, patients):
    vectors = pd.DataFrame(
        np.stack(table["embedding"].to_pandas().to_list()), columns=[f"f{k}" for k in range(5)]
    )
    means = vectors.groupby(table["patient_id"].to_pandas()).mean()
    return means.reset_index(drop=True).assign(
        age=patients["age_years"],
        count=patients["lymphocyte_count"],
        label=patients["label"].astype(int),
    )


class TestPicturesAlone:
    @pytest.mark.parametrize("fusion", ["concatenation", "late"])
    def test_it_is_a_regression_on_pictures_and_never_sees_clinical_values(
        self, cohort, mil, fusion
    ):
        patients, table = cohort(signal=0.4)
        features = pooled_by_hand(table, patients, "mean")
        columns = [name for name in features if name[0] == "f"]
        settings = mil(classifier="logistic", inputs="pictures", fusion=fusion)
        bags = gather_bags(table, patients)
        model, output = fitted(bags, settings)
        assert_logits(output.logits, reference(features, columns))
        assert len(output.experts) == 0
        others = replace(bags, clinical=3 * bags.clinical + 1)
        assert torch.equal(fitted(others, settings)[1].logits, output.logits)
        assert torch.equal(model(pack(others, np.arange(72))).logits, output.logits)


class TestLateFusion:
    def test_it_is_the_mean_of_two_regressions_logits(self, cohort, mil):
        patients, table = cohort(signal=0.4)
        features = pooled_by_hand(table, patients, "mean")
        of_pictures = reference(features, [f"f{k}" for k in range(5)])
        of_clinical = reference(features, ["age", "count"])
        _, output = fitted(gather_bags(table, patients), mil(classifier="logistic", fusion="late"))
        assert_logits(output.experts, np.stack([of_pictures, of_clinical]))
        assert_logits(output.logits, (of_pictures + of_clinical) / 2)


class TestViews:
    @pytest.mark.parametrize("fusion", ["concatenation", "late"])
    def test_views_that_are_all_the_same_change_nothing(self, cohort, mil, fusion):
        patients, table = cohort(signal=0.4)
        one = table.filter(pa.compute.equal(table["view"], "original"))
        column = table.column_names.index("view")
        three = pa.concat_tables(
            one.set_column(column, "view", pa.array([view] * len(one))) for view in VIEWS
        )
        settings = mil(classifier="logistic", fusion=fusion)
        alone = fitted(gather_bags(one, patients), settings)[1].logits
        repeated = fitted(gather_bags(three, patients), settings)[1].logits
        assert_logits(repeated.reshape(24, 3), np.tile(alone[:, None], 3))


class TestConstantValues:
    # Plain numbers and such as float32 can't hold: their mean differs from them by a rounding.
    VALUES = pytest.mark.parametrize("value", [60.0, 37.3, 12.1])

    @VALUES
    def test_a_count_that_is_the_same_for_all_is_as_if_it_were_not_there(self, cohort, mil, value):
        patients, table = cohort(signal=0.4)
        patients["lymphocyte_count"] = value
        features = pooled_by_hand(table, patients, "mean")
        columns = [*(f"f{k}" for k in range(5)), "age"]
        _, output = fitted(gather_bags(table, patients), mil(classifier="logistic"))
        assert_logits(output.logits, reference(features, columns))

    @VALUES
    def test_another_patients_count_then_makes_no_difference(self, cohort, mil, value):
        patients, table = cohort(signal=0.4)
        patients["lymphocyte_count"] = value
        bags = gather_bags(table, patients)
        settings = mil(classifier="logistic")
        model, output = fitted(bags, settings)
        moved = bags.clinical.clone()
        moved[:, 1] += 5
        there = model(pack(replace(bags, clinical=moved), np.arange(72))).logits
        assert_logits(there, output.logits)


class TestFitting:
    def test_a_second_fit_forgets_the_first(self, cohort, mil):
        patients, table = cohort(signal=0.4)
        bags = gather_bags(table, patients)
        model, output = fitted(bags, mil(classifier="logistic"))
        list(model.fit(bags, TRAIN, VALIDATION, FABRIC))
        assert_logits(model(pack(bags, np.arange(72))).logits, output.logits)

    def test_the_history_has_one_row_that_tells_loss_and_scores(self, cohort, mil):
        patients, table = cohort(signal=0.4)
        bags = gather_bags(table, patients)
        settings = mil(classifier="logistic")
        model, history = fit(bags, settings)
        state = cpu_state(model)
        logits = fitted(bags, settings)[1].logits.double().numpy().reshape(24, 3)
        probability = 1 / (1 + np.exp(-logits))
        label = np.arange(24) % 2
        row = history.iloc[0]
        assert len(history) == 1
        assert (row["epoch"], row["kept"], np.isnan(row["learning_rate"])) == (1, True, True)
        right = np.where(label[:, None] == 1, probability, 1 - probability)
        assert row["loss"] == pytest.approx(-np.log(right[TRAIN]).mean(), rel=1e-4)
        for part, numbers in (("train", TRAIN), ("validation", VALIDATION)):
            mine = label[numbers]
            by_class = [(right[numbers][mine == value] > 0.5).mean() for value in (0, 1)]
            assert row[f"{part}_balanced_accuracy"] == pytest.approx(np.mean(by_class))
        assert all(value.isfinite().all() for value in state.values())

    def test_validation_patients_choose_nothing(self, cohort, mil):
        patients, table = cohort()
        bags = gather_bags(table, patients)
        label = bags.label.copy()
        label[VALIDATION] = 1 - label[VALIDATION]
        clinical = bags.clinical.clone()
        clinical[VALIDATION] *= 3
        others = replace(bags, label=label, clinical=clinical)
        states = [cpu_state(fit(b, mil(classifier="logistic"))[0]) for b in (bags, others)]
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


class TestSuite:
    @pytest.mark.parametrize("components", [0, 3])
    @pytest.mark.parametrize("fusion", ["concatenation", "late"])
    def test_rebuilt_classifiers_predict_as_a_pipeline_does(self, cohort, mil, fusion, components):
        patients, table = cohort(signal=0.4)
        bags = gather_bags(table, patients)
        ids = patients["patient_id"].to_numpy()
        splits = pd.concat(
            pd.DataFrame({"split": 1, "patient_id": ids[part], "role": role})
            for part, role in ((TRAIN, "train"), (VALIDATION, "validation"))
        )
        settings = mil(classifier="logistic", fusion=fusion, components=components)
        content, _ = train_suite(bags, patients, splits, settings, 0, FABRIC, Progress(None))
        suite = load_suite(content)
        asked = suite, bags, patients, {1: np.arange(24)}, FABRIC
        predictions, cells = predict_patients(*asked), explain_patients(*asked)

        features = pooled_by_hand(table, patients, "mean")
        names = [f"f{k}" for k in range(5)]
        if components:
            # Whitening is linear: whitened means are the means of whitened instances.
            known = table.to_pandas()
            known = known[known["patient_id"].isin(splits["patient_id"])]
            instances = np.stack(known["embedding"].to_list()).astype(float)
            values, vectors = np.linalg.eigh(np.cov(instances.T))
            matrix = (vectors / np.sqrt(values))[:, ::-1][:, :components]
            whitened = (features[names].to_numpy() - instances.mean(axis=0)) @ matrix
            features = features.drop(columns=names)
            names = names[:components]
            features[names] = whitened
        if fusion == "late":
            logits = (reference(features, names) + reference(features, ["age", "count"])) / 2
        else:
            logits = reference(features, [*names, "age", "count"])
        np.testing.assert_allclose(
            predictions["probability"], 1 / (1 + np.exp(-logits)), rtol=1e-3, atol=1e-4
        )
        sums = cells.groupby(["patient_id", "split", "view"], sort=False)["contribution"].sum()
        assert_logits(sums, logits)

    def test_the_saved_state_is_on_the_cpu_and_plain(self, cohort, mil):
        patients, table = cohort()
        model, _ = fit(gather_bags(table, patients), mil(classifier="logistic"))
        state = cpu_state(model)
        assert {value.device.type for value in state.values()} == {"cpu"}
        assert not any(value.requires_grad for value in state.values())
