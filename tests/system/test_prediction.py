from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lymphocytosis.decision.rules import RULES, summarise
from lymphocytosis.errors import UserError
from lymphocytosis.system.prediction import explain, predict, predict_out_of_fold
from lymphocytosis.system.trained import gather_for
from tests.system.conftest import ENSEMBLE, FABRIC

KEYS = ["patient_id", "split", "view"]


class TestPredict:
    def test_new_patients_need_neither_label_nor_splits_nor_the_training_patients(self, trained):
        both = predict(trained.suite, trained.bags, trained.patients, FABRIC)
        # A cohort of their own; the system itself knows splits by a fingerprint alone.
        new = trained.patients[18:].reset_index(drop=True)
        assert new["label"].isna().all()
        table = trained.embeddings["large"]
        table = table.filter(np.isin(table["patient_id"].to_pylist(), new["patient_id"]))
        system = replace(trained.system, suites={"large": replace(trained.suite, splits="unknown")})
        bags = gather_for(system, "large", table, new)
        alone = predict(system.suites["large"], bags, new, FABRIC)
        assert alone.equals(both)
        assert set(alone["patient_id"]) == {f"P{n}" for n in range(18, 24)}
        assert len(alone) == 6 * 2 * 3
        for rule in RULES.values():
            decided = rule.decide(summarise(alone), ENSEMBLE)
            assert list(decided["patient_id"]) == list(new["patient_id"])

    def test_no_label_is_looked_at(self, trained):
        said = predict(trained.suite, trained.bags, trained.patients, FABRIC)
        patients = trained.patients.drop(columns="label")
        bags = replace(trained.bags, label=1 - trained.bags.label)
        assert predict(trained.suite, bags, patients, FABRIC).equals(said)


class TestOutOfFold:
    def test_only_patients_that_a_classifier_did_not_train_on(self, trained):
        table = predict_out_of_fold(
            trained.suite, trained.bags, trained.patients, trained.splits, FABRIC
        )
        held_out = trained.splits[trained.splits["role"] == "validation"]
        asked = set(zip(held_out["split"], held_out["patient_id"], strict=True))
        assert set(zip(table["split"], table["patient_id"], strict=True)) == asked
        assert len(table) == 3 * len(asked)

    def test_other_splits_are_refused(self, trained):
        swapped = trained.splits.replace({"role": {"train": "validation", "validation": "train"}})
        with pytest.raises(UserError, match=r"other splits.*Run classify again"):
            predict_out_of_fold(trained.suite, trained.bags, trained.patients, swapped, FABRIC)

    def test_a_split_without_its_classifier_is_refused(self, trained):
        less = replace(trained.suite, classifiers={1: trained.suite.classifiers[1]})
        with pytest.raises(UserError, match="other splits"):
            predict_out_of_fold(less, trained.bags, trained.patients, trained.splits, FABRIC)


class TestExplain:
    def test_each_cell_contributes_to_each_prediction_of_its_patient(self, trained):
        for said in (
            predict(trained.suite, trained.bags, trained.patients, FABRIC),
            predict_out_of_fold(
                trained.suite, trained.bags, trained.patients, trained.splits, FABRIC
            ),
        ):
            cells = explain(trained.suite, trained.bags, trained.patients, said, FABRIC)
            sizes = cells.groupby(KEYS)["contribution"].size()
            assert set(sizes.index) == set(said.set_index(KEYS).index)
            count = trained.patients.set_index("patient_id")["cell_count"]
            owners = sizes.index.get_level_values("patient_id")
            assert sizes.tolist() == count.loc[owners].tolist()

    def test_nothing_predicted_leaves_nothing_to_explain(self, trained):
        nothing = pd.DataFrame(columns=[*KEYS, "probability"])
        cells = explain(trained.suite, trained.bags, trained.patients, nothing, FABRIC)
        assert list(cells.columns) == ["patient_id", "image_id", "split", "view", "contribution"]
        assert cells.empty
