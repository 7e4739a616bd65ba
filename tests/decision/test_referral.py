import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from lymphocytosis.decision import referral
from lymphocytosis.decision.referral import (
    CALIBRATIONS,
    Referral,
    advise,
    arrays,
    calibrate,
    choose_calibration,
    fit_calibration,
    fit_referral,
    in_order,
    out_of_fold_probabilities,
    say_limits,
)
from lymphocytosis.decision.thresholds import threshold_for_sensitivity
from lymphocytosis.errors import UserError

GRID = np.linspace(0, 1, 201)
FITTED = {
    "calibration": "beta",
    "coefficients": (1.0, 0.0, -0.5),
    "threshold": 0.4,
    "tumoral_from": 0.5,
    "reactive_up_to": 0.7,
    "reactive": 34,
    "tumoral": 76,
    "source": "evaluation",
}


def cohort(reactive=40, tumoral=60, signal=1.5, scale=1.0, shift=0.0, repeats=1, seed=0):
    """Out-of-fold predictions whose logits are calibrated, but for scale and shift."""
    rng = np.random.default_rng(seed)
    label = np.repeat([0, 1], [reactive, tumoral])
    # For two normal distributions of variance 1 the true logit is linear.
    value = rng.normal(size=label.size) + signal * (2 * label - 1) / 2
    true = signal * value + np.log(tumoral / reactive)
    given = np.array(
        [scale * true + shift + rng.normal(0, 0.1, label.size) for _ in range(repeats)]
    )
    ids = [f"P{n:03d}" for n in range(label.size)]
    table = pd.DataFrame(
        {
            "patient_id": np.tile(ids, repeats),
            "person": np.tile(ids, repeats),
            "repeat": np.repeat(np.arange(repeats) + 1, label.size),
            "label": np.tile(label, repeats),
            "probability": expit(given).ravel(),
        }
    )
    return table.sample(frac=1, random_state=seed)


def targets(label):
    """Platt's, by his formulas."""
    tumoral, reactive = (label == 1).sum(), (label == 0).sum()
    return np.where(label == 1, (tumoral + 1) / (tumoral + 2), 1 / (reactive + 2))


# Coarse values, so that ties and the ends come up.
labelled = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 20).map(lambda k: k / 20)), min_size=2, max_size=40
).filter(lambda rows: len({label for label, _ in rows}) == 2)


class TestCalibrations:
    @pytest.mark.parametrize("seed", range(3))
    def test_platt_is_the_logistic_regression_on_his_targets(self, seed):
        label, probability, _ = arrays(cohort(scale=2, shift=1, seed=seed))
        target = targets(label)
        model = LogisticRegression(C=1e12, tol=1e-10)
        model.fit(
            np.tile(logit(probability), 2)[:, None],
            np.repeat([1, 0], len(label)),
            np.concatenate([target, 1 - target]),
        )
        found = fit_calibration("platt", label, probability, 1)
        np.testing.assert_allclose(found, [*model.coef_[0], *model.intercept_], rtol=1e-4)
        asked = logit(GRID[1:-1])[:, None]
        np.testing.assert_allclose(
            calibrate("platt", found, GRID[1:-1]), model.predict_proba(asked)[:, 1], atol=1e-5
        )

    @pytest.mark.parametrize("seed", range(3))
    def test_beta_is_the_most_likely_of_its_kind(self, seed):
        label, probability, _ = arrays(cohort(scale=2, shift=1, seed=seed))
        target = targets(label)

        def beta(coefficients, p):
            a, b, c = coefficients
            # Kull et al., equation 5.
            return 1 / (1 + 1 / (np.exp(c) * p**a / (1 - p) ** b))

        def loss(coefficients):
            given = beta(np.append(np.abs(coefficients[:2]), coefficients[2]), probability)
            return -(target * np.log(given) + (1 - target) * np.log(1 - given)).sum()

        options = {"xatol": 1e-9, "fatol": 1e-12, "maxiter": 5000, "maxfev": 5000}
        best = minimize(loss, [1, 1, 0], method="Nelder-Mead", options=options)
        found = fit_calibration("beta", label, probability, 1)
        assert loss(np.array(found)) <= best.fun + 1e-6
        np.testing.assert_allclose(
            calibrate("beta", found, GRID[1:-1]), beta(found, GRID[1:-1]), atol=1e-9
        )

    @given(labelled, st.sampled_from(["platt", "beta"]))
    @settings(max_examples=50)
    def test_they_rise_with_the_probability(self, rows, name):
        label, probability = (np.array(column) for column in zip(*rows, strict=True))
        coefficients = fit_calibration(name, label, probability, 1)
        calibrated = calibrate(name, coefficients, GRID)
        assert np.isfinite(coefficients).all()
        assert (np.diff(calibrated) >= -1e-12).all()
        assert calibrated.min() >= 0
        assert calibrated.max() <= 1

    @pytest.mark.parametrize("name", ["platt", "beta"])
    def test_predictions_in_the_wrong_order_are_told_to_carry_no_information(self, name):
        label, probability, _ = arrays(cohort(signal=3))
        *slopes, _ = found = fit_calibration(name, label, 1 - probability, 1)
        assert slopes == [0] * len(slopes)
        expected = targets(label).mean()
        np.testing.assert_allclose(calibrate(name, found, GRID), expected, atol=1e-6)

    @pytest.mark.parametrize("name", ["platt", "beta"])
    def test_one_patient_is_calibrated_like_many(self, name):
        coefficients = fit_calibration(name, *arrays(cohort()))
        alone = [calibrate(name, coefficients, GRID[[n]])[0] for n in range(len(GRID))]
        assert calibrate(name, coefficients, GRID).tolist() == alone


class TestChoice:
    @pytest.mark.parametrize(("scale", "shift", "least", "most"), [(1, 0, 0, 2), (4, 2, 9, 10)])
    def test_calibrated_predictions_are_kept_as_they_are_but_for_chance_and_others_are_not(
        self, scale, shift, least, most
    ):
        cohorts = (cohort(60, 90, scale=scale, shift=shift, seed=seed) for seed in range(10))
        chosen = [choose_calibration(in_order(table)) for table in cohorts]
        assert least <= 10 - chosen.count("none") <= most

    def test_no_person_is_on_both_sides(self, monkeypatch):
        known = in_order(cohort())
        known["person"] = [f"P{n // 3}" for n in range(len(known))]
        person = known.set_index("probability")["person"]
        fitted = []
        fit, apply = fit_calibration, calibrate

        def fitting(name, label, probability, repeats):
            fitted.append(set(person.loc[probability]))
            return fit(name, label, probability, repeats)

        def applying(name, coefficients, probability):
            assert not fitted[-1] & set(person.loc[probability])
            return apply(name, coefficients, probability)

        monkeypatch.setattr(referral, "fit_calibration", fitting)
        monkeypatch.setattr(referral, "calibrate", applying)
        choose_calibration(known)
        assert len(fitted) == 3 * 5

    def test_one_person_of_a_class_is_too_few_to_choose(self):
        known = in_order(cohort(3, 40, scale=4, shift=2)).assign(person="P0")
        assert choose_calibration(known) == "none"


class TestSets:
    @pytest.mark.parametrize("calibration", CALIBRATIONS)
    @pytest.mark.parametrize(("error_rate", "k"), [(0.1, 2), (0.29, 5), (0.5, 10)])
    def test_of_n_plus_1_exchangeable_patients_k_are_outside(
        self, monkeypatch, calibration, error_rate, k
    ):
        """Each is asked after by what was fitted on the other n: 1 - k / (n + 1) are covered."""
        monkeypatch.setattr(referral, "choose_calibration", lambda _: calibration)
        known = in_order(cohort(20, 20, scale=2, seed=1))
        for label, held in ((1, "refer"), (0, "do not refer")):
            outside = 0
            for patient in known[known["label"] == label].to_dict("records"):
                others = known[known["patient_id"] != patient["patient_id"]]
                fitted = fit_referral(others, 0.95, error_rate, "evaluation")
                found = advise(fitted, patient["probability"]).set
                outside += found not in (held, "both")
            assert outside == k

    @pytest.mark.parametrize("error_rate", [0.05, 0.1, 0.23])
    def test_with_several_repeats_the_p_value_is_averaged(self, monkeypatch, error_rate):
        monkeypatch.setattr(referral, "choose_calibration", lambda _: "none")
        table = cohort(20, 30, repeats=3)
        fitted = fit_referral(table, 0.95, error_rate, "evaluation")

        asked = np.linspace(0.001, 0.999, 300)
        held = np.array([advise(fitted, p).set for p in asked])
        for label, name, edge in (
            (1, "refer", fitted.tumoral_from), (0, "do not refer", fitted.reactive_up_to),
        ):  # fmt: skip
            of_class = table[table["label"] == label]
            # (repeats, patients, asked): patients as strange to the class as the one asked after.
            scores = np.array([g.to_numpy() for _, g in of_class.groupby("repeat")["probability"]])
            as_strange = scores[:, :, None] <= asked if label else scores[:, :, None] >= asked
            p_values = (as_strange.sum(axis=1) + 1) / (scores.shape[1] + 1)
            sure = np.abs(asked - edge) > 1e-4  # beyond what is rounded
            holds = (held == name) | (held == "both")
            assert (holds == (p_values.mean(axis=0) > error_rate))[sure].all()

    def test_new_patients_are_covered_as_guaranteed(self, monkeypatch):
        monkeypatch.setattr(referral, "choose_calibration", lambda _: "none")
        covered = []
        for seed in range(100):
            fitted = fit_referral(cohort(19, 29, seed=seed), 0.95, 0.1, "evaluation")
            new = cohort(200, 200, seed=1000 + seed)
            # The share of tumoral patients moves all logits alike; undo it.
            value = logit(new["probability"]) + np.log(29 / 19)
            tumoral = new["label"] == 1
            holds = expit(value) >= fitted.tumoral_from, expit(value) <= fitted.reactive_up_to
            covered.append([holds[0][tumoral].mean(), holds[1][~tumoral].mean()])
        # k / (n + 1): 3 of 30 and 2 of 20.
        error = np.std(covered, axis=0) / np.sqrt(len(covered))
        assert (np.abs(np.mean(covered, axis=0) - 0.9) < 4 * error).all()

    @pytest.mark.parametrize(("reactive", "tumoral"), [(8, 30), (30, 8)])
    def test_a_class_with_too_few_patients_is_never_excluded(self, reactive, tumoral):
        fitted = fit_referral(cohort(reactive, tumoral), 0.95, 0.1, "evaluation")
        assert (fitted.reactive_up_to == 1) == (reactive == 8)
        assert (fitted.tumoral_from == 0) == (tumoral == 8)
        (said,) = say_limits(reactive, tumoral, 0.1)
        name, never = ("reactive", "refer") if reactive == 8 else ("tumoral", "do not refer")
        assert said.startswith(f"8 {name} patients are too few")
        assert said.endswith(f"no patient gets the advice {never!r}.")
        assert never not in {advise(fitted, p).advice for p in GRID}

    def test_nine_patients_are_enough_for_one_tenth(self):
        assert say_limits(9, 9, 0.1) == []

    @given(labelled, st.floats(0.05, 0.5), st.floats(0.5, 1))
    @settings(max_examples=40)
    def test_on_its_own_patients_thresholds_keep_their_promise(self, rows, error_rate, wanted):
        label, probability = (np.array(column) for column in zip(*rows, strict=True))
        ids = [f"P{n}" for n in range(len(label))]
        table = pd.DataFrame(
            {
                "patient_id": ids, "person": ids, "repeat": 1, "label": label,
                "probability": probability,
            }
        )  # fmt: skip
        fitted = fit_referral(table, wanted, error_rate, "evaluation")
        given_ = [advise(fitted, p) for p in probability]
        referred = np.array([advice.referral == "refer" for advice in given_])
        assert referred[label == 1].mean() >= wanted - 1e-9
        for value, held in enumerate(("do not refer", "refer")):
            outside = [advice.set not in (held, "both") for advice in given_]
            assert np.mean(np.array(outside)[label == value]) <= error_rate + 1e-9


class TestFit:
    def test_the_threshold_is_that_of_the_calibrated_probabilities(self):
        table = cohort(scale=4, shift=2)
        fitted = fit_referral(table, 0.9, 0.1, "evaluation")
        label, probability, _ = arrays(in_order(table))
        assert fitted.calibration != "none"
        calibrated = calibrate(fitted.calibration, fitted.coefficients, probability)
        exact = threshold_for_sensitivity(label, calibrated, 0.9)
        assert exact - 1e-4 < fitted.threshold <= exact

    def test_thresholds_have_four_digits(self):
        fitted = fit_referral(cohort(), 0.9, 0.1, "evaluation")
        for value in (fitted.threshold, fitted.tumoral_from, fitted.reactive_up_to):
            assert value == round(value, 4)

    @pytest.mark.parametrize("scale", [1, 4])
    def test_the_order_of_rows_patients_and_repeats_does_not_matter(self, scale):
        table = cohort(repeats=3, scale=scale)
        fitted = fit_referral(table, 0.95, 0.1, "evaluation")
        mixed = table.sample(frac=1, random_state=9)
        mixed["repeat"] = 4 - mixed["repeat"]
        assert fit_referral(mixed, 0.95, 0.1, "evaluation") == fitted

    def test_a_patient_counts_once_however_many_repeats(self):
        table = cohort(30, 50)
        twice = pd.concat([table, table.assign(repeat=2)])
        fitted = fit_referral(twice, 0.95, 0.1, "evaluation")
        assert (fitted.reactive, fitted.tumoral) == (30, 50)
        assert fitted == fit_referral(table, 0.95, 0.1, "evaluation")

    @pytest.mark.parametrize(("reactive", "tumoral"), [(0, 5), (5, 0), (0, 0)])
    def test_a_class_without_patients_is_refused(self, reactive, tumoral):
        table = cohort(reactive or 1, tumoral or 1)
        table = table[table["label"].isin([n for n, c in enumerate((reactive, tumoral)) if c])]
        with pytest.raises(UserError, match=f"{reactive} reactive and {tumoral} tumoral"):
            fit_referral(table, 0.95, 0.1, "evaluation")

    def test_of_one_patient_of_each_class_nothing_is_certain(self):
        fitted = fit_referral(cohort(1, 1), 0.95, 0.1, "evaluation")
        assert {advise(fitted, p).advice for p in GRID} == {"look again"}


class TestSaved:
    def test_json_restores_it(self):
        fitted = fit_referral(cohort(scale=4), 0.95, 0.1, "out of fold")
        assert Referral(**json.loads(json.dumps(dataclasses.asdict(fitted)))) == fitted

    @pytest.mark.parametrize(
        "change",
        [
            {"calibration": "isotonic"},
            {"calibration": "platt"},
            {"coefficients": [1.0, -0.1, 0.0]},
            {"coefficients": [1.0, float("nan"), 0.0]},
            {"coefficients": ["1.0", 1.0, 0.0]},
            {"coefficients": 1.0},
            {"threshold": 1.1},
            {"threshold": "0.5"},
            {"tumoral_from": float("nan")},
            {"reactive_up_to": -0.1},
            {"reactive": 0},
            {"tumoral": 3.5},
            {"source": "training"},
            {"patients": ["P1"]},
        ],
    )
    def test_what_can_not_be_is_refused(self, change):
        Referral(**FITTED)
        with pytest.raises((TypeError, ValueError)):
            Referral(**(FITTED | change))


class TestAdvice:
    @pytest.mark.parametrize(
        ("tumoral_from", "reactive_up_to", "probability", "referral", "held", "advice"),
        [
            (0.5, 0.7, 0.80, "refer", "refer", "refer"),
            (0.5, 0.7, 0.70, "refer", "both", "look again"),
            (0.5, 0.7, 0.50, "refer", "both", "look again"),
            (0.5, 0.7, 0.45, "refer", "do not refer", "look again"),
            (0.5, 0.7, 0.40, "refer", "do not refer", "look again"),
            (0.5, 0.7, 0.39, "do not refer", "do not refer", "do not refer"),
            (0.3, 0.2, 0.25, "do not refer", "none", "look again"),
            (0.3, 0.2, 0.35, "do not refer", "refer", "look again"),
        ],
    )
    def test_it_is_the_referral_where_the_set_holds_just_that(
        self, tumoral_from, reactive_up_to, probability, referral, held, advice
    ):
        changes = {"tumoral_from": tumoral_from, "reactive_up_to": reactive_up_to}
        as_it_is = {"calibration": "none", "coefficients": ()}
        found = advise(Referral(**(FITTED | changes | as_it_is)), probability)
        assert dataclasses.astuple(found) == (probability, referral, held, advice)

    def test_the_probability_is_calibrated_first(self):
        assert advise(Referral(**FITTED), 0.5).probability == pytest.approx(
            expit(np.log(0.5) - 0.5)
        )


class TestOutOfFoldProbabilities:
    patients = pd.DataFrame(
        {
            "patient_id": ["P1", "P2", "P3"],
            "person": ["P1", "P1", "P3"],
            "label": pd.array([1, 0, None], dtype="Int8"),
        }
    )

    def test_of_an_evaluation_they_are_the_means_of_the_held_out_predictions(self):
        rows = [
            ("large", "pictures", 1, 2, "held_out", "P1", 1, "original", 0.2),
            ("large", "pictures", 1, 2, "held_out", "P1", 2, "original", 0.6),
            ("large", "pictures", 1, 1, "inner", "P1", 1, "original", 1.0),
            ("large", "pictures", 2, 1, "held_out", "P1", 1, "original", 0.5),
            ("large", "pictures", 1, 1, "held_out", "P2", 1, "original", 0.3),
            ("large", "pictures + clinical", 1, 1, "held_out", "P2", 1, "original", 1.0),
            ("small", "pictures", 1, 1, "held_out", "P2", 1, "original", 1.0),
        ]
        names = [
            "size", "system", "repeat", "fold", "role", "patient_id", "split", "view",
            "probability",
        ]  # fmt: skip
        found = out_of_fold_probabilities(
            pd.DataFrame(rows, columns=names), self.patients, size="large", system="pictures"
        )
        assert found.round(9).to_dict("split")["data"] == [
            ["P1", "P1", 1, 2, 1, 0.4],
            ["P1", "P1", 2, 1, 1, 0.5],
            ["P2", "P1", 1, 1, 0, 0.3],
        ]
        assert list(found.columns) == [
            "patient_id", "person", "repeat", "fold", "label", "probability",
        ]  # fmt: skip

    def test_of_a_trained_system_they_are_one_repeat(self):
        rows = [("P1", 1, "original", 0.2), ("P2", 1, "original", 0.3), ("P1", 2, "original", 0.6)]
        names = ["patient_id", "split", "view", "probability"]
        found = out_of_fold_probabilities(pd.DataFrame(rows, columns=names), self.patients)
        assert found.round(9).to_dict("split")["data"] == [
            ["P1", "P1", 1, 0, 1, 0.4],
            ["P2", "P1", 1, 0, 0, 0.3],
        ]
