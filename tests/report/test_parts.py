"""The report's parts: curves, words, values, checklists, sheets of cells."""

import re

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from lymphocytosis.decision.controls import CLINICAL
from lymphocytosis.report import checklist
from lymphocytosis.report.evidence import confusion, describe_evaluation, name_method, shown
from lymphocytosis.report.patients import (
    STRIP,
    describe_values,
    distances,
    flag,
    gather_predictions,
    place_values,
    quantiles_of,
    show_cells,
)
from lymphocytosis.report.plots import SIDE, draw_plots


def points(path):
    return np.array([[float(v) for v in p.split()] for p in path[1:].split("L")])


@pytest.fixture(scope="module")
def drawn():
    generator = np.random.default_rng(3)
    label = generator.integers(0, 2, 60)
    p = np.clip(label * 0.3 + generator.random((1, 60)) * 0.7, 0, 1)
    return label, p, draw_plots({"ours": p}, label, 0.9)


class TestPlots:
    def test_the_roc_curve_has_the_area(self, drawn):
        label, p, (roc, *_) = drawn
        x, y = points(roc["lines"][0]["path"]).T
        area = np.trapezoid(1 - y / SIDE, x / SIDE)
        assert area == pytest.approx(roc_auc_score(label, p[0]), abs=0.01)

    def test_net_benefit_is_the_formula(self, drawn):
        label, p, (*_, decision) = drawn
        for threshold, ours, refer_all, refer_none in decision["table"]:
            t = float(threshold)
            referred = p[0] >= t
            true, false = (np.mean(referred & (label == v)) for v in (1, 0))
            assert float(ours) == pytest.approx(true - false * t / (1 - t), abs=6e-4)
            share = label.mean()
            assert float(refer_all) == pytest.approx(share - (1 - share) * t / (1 - t), abs=6e-4)
            assert float(refer_none) == 0

    def test_groups_of_the_calibration_hold_everybody(self, drawn):
        label, _, (_, _, calibration, _) = drawn
        sizes = [int(row[4]) for row in calibration["table"]]
        assert sum(sizes) == len(label)
        observed = [float(row[2]) for row in calibration["table"]]
        assert np.average(observed, weights=sizes) == pytest.approx(label.mean(), abs=1e-3)
        assert "90 % intervals" in calibration["text"]

    def test_two_patients_are_enough(self):
        assert len(draw_plots({"x": np.array([[0.2, 0.8]])}, np.array([0, 1]), 0.95)) == 4


class TestWords:
    def rows(self, low, high):
        row = {"value": 0.9, "low": 0.8, "high": 0.95, "difference": 0.05, "rule": None}
        row |= {"difference_low": low, "difference_high": high, "patients": 20, "repeats": 1}
        of = {"balanced_accuracy": "AVG", "sensitivity": "AVG", "specificity": "AVG"}
        return pd.DataFrame(
            [
                {**row, "method": method, "metric": metric, "rule": of.get(metric)}
                for method in (CLINICAL, "large, pictures", "large, pictures + clinical")
                for metric in (*of, "auc", "brier")
            ]
        )

    @pytest.mark.parametrize(
        ("low", "high", "said"),
        [
            (0.01, 0.1, "the pictures add to age and count"),
            (-0.02, 0.1, "may be chance"),
            (-0.2, -0.1, "age and count alone do better"),
        ],
    )
    def test_what_follows_from_the_interval(self, low, high, said):
        words = describe_evaluation(self.rows(low, high), "large", "both")["words"]
        assert sum(said in text for text in words) == 2

    def test_of_pictures_alone_nothing_is_said_to_add(self):
        words = describe_evaluation(self.rows(0.01, 0.1), "large", "pictures")["words"]
        assert sum("the pictures do better." in text for text in words) == 2

    def test_an_unknown_deciding_method(self):
        (words,) = describe_evaluation(self.rows(0, 1), "small", "both")["words"]
        assert "no method" in words

    def test_names_and_figures(self):
        assert name_method("small, pictures + clinical") == "pictures, age and count (small)"
        assert name_method("new control") == "new control"
        assert shown(float("nan"), 0, 1) == "-"
        assert shown(0.1, -0.05, 0.2, sign=True) == "+0.100 (-0.050 to +0.200)"

    def test_confusion_counts_each_repeat_once(self):
        counts = confusion([0, 0, 1, 1, 1, 1], [0, 1, 1, 1, 0, 1], repeats=2)
        assert counts == {
            "reactive": {"kept": 0.5, "referred": 0.5},
            "tumoral": {"kept": 0.5, "referred": 1.5},
        }


class TestPatients:
    def test_predictions_come_from_the_best_source(self):
        columns = {"split": 1, "view": "original", "probability": 0.5}
        held_out = pd.DataFrame(
            [{"size": s, "repeat": r, "patient_id": "B", **columns}
             for s in ("large", "small") for r in (1, 2)]
        )  # fmt: skip
        tables = [pd.DataFrame([{"patient_id": p, **columns} for p in ids]) for ids in ("A", "ABC")]
        found = gather_predictions("large", *tables, held_out)
        assert dict(zip(found["patient_id"], found["source"], strict=True)) == {
            "A": "test", "B": "evaluation", "C": "out_of_fold",
        }  # fmt: skip
        assert gather_predictions("large", None, None, None).empty

    def test_values_lie_on_the_strip_in_order(self):
        patients = pd.DataFrame(
            {"label": [0, 0, 1, 1], "age_years": [20, 40, 60, 80],
             "lymphocyte_count": [5.0, 6.0, 50.0, 200.0], "cell_count": [9, 9, 9, 9]}
        )  # fmt: skip
        strips = describe_values(quantiles_of(patients))
        for column in ("age_years", "lymphocyte_count"):
            places = [float(x) for c in strips[column]["classes"] for x in c["places"]]
            assert places == sorted(places)
            assert 0 <= places[0] <= places[-1] <= STRIP
        young = {"age_years": 1, "lymphocyte_count": None, "cell_count": 9}
        age, count, _ = place_values(young, strips)
        assert (age["text"], float(age["place"])) == ("1 years", 0)
        assert (count["text"], count["place"]) == ("not known", "")
        assert describe_values({"reactive": {}, "tumoral": {}}) == {}

    def test_distances_are_those_from_the_mean(self, entries):
        found = distances(entries["embeddings"], "original")
        table = entries["embeddings"].to_pandas()
        own = table[(table["view"] == "original") & (table["patient_id"] == "Pat03")]
        vectors = np.stack(own["large"].to_list())
        expected = np.sqrt(((vectors - vectors.mean(axis=0)) ** 2).sum(axis=1))
        given = found.loc[found["patient_id"] == "Pat03", "distance"]
        np.testing.assert_allclose(given, expected, rtol=1e-6)

    def test_flags(self):
        patient = {"patient_id": "P1", "label": None, "age_years": 99, "lymphocyte_count": 5.0,
                   "cell_count": 3}  # fmt: skip
        known = pd.DataFrame(
            {"patient_id": ["A", "B"], "age_years": [20, 80], "lymphocyte_count": [4.0, 9.0],
             "cell_count": [3, 9]}
        )  # fmt: skip
        said = [{"method": "large AVG", "decision": 1}, {"method": "large SA", "decision": 0}]
        records = pd.DataFrame({"status": ["taken", "left_out"], "reason": ["", "no JPEG"]})
        warnings = ["Patients P1, P2 share ...", "Patient P11 ..."]
        flags = list(flag(patient, said, records, known, warnings))
        assert flags == [
            "The methods disagree: reactive: large SA; tumoral: large AVG.",
            "Beyond the labelled patients in age: 99 years; they have 20 to 80.",
            "1 of 2 pictures left out: no JPEG",
            "Patients P1, P2 share ...",
        ]

    def test_a_patient_of_82_cells_takes_little_room(self):
        generator = np.random.default_rng(0)
        # Smooth pictures, as cells are; noise would take ten times as much.
        small = generator.integers(60, 255, (82, 6, 6, 3), dtype=np.uint8)
        pixels = np.kron(small, np.ones((1, 16, 16, 1), np.uint8))
        cells = pd.DataFrame(
            {"contribution": generator.normal(size=82), "distance": generator.random(82)}
        ).assign(odd=False)
        drawn = show_cells(cells, pixels, [str(n) for n in range(82)])
        assert len(drawn["chosen"]) + len(drawn["all"]) < 150_000
        assert drawn["number"] == 82
        assert [len(kind["cells"]) for kind in drawn["kinds"]] == [6, 6, 6, 6]


class TestChecklists:
    def test_every_fact_that_an_item_asks_for_is_told(self, page):
        from .reading import Reader

        asked = {f for item in (*checklist.TRIPOD_AI, *checklist.STARD_AI) for f in item.facts}
        filled = checklist.fill(dict.fromkeys(asked, "told"))
        assert [f["filled"] for f in filled] == [
            sum(bool(item.facts) for item in items)
            for items in (checklist.TRIPOD_AI, checklist.STARD_AI)
        ]
        text = " ".join(Reader(page).texts)
        counts = re.findall(r"(\d+) of (\d+) items answered", text)
        assert [int(total) for _, total in counts] == [
            len(checklist.TRIPOD_AI), len(checklist.STARD_AI)
        ]  # fmt: skip
        assert all(10 < int(filled) < int(total) for filled, total in counts)

    def test_numbers_are_those_of_the_statements(self):
        tripod = {int(re.match(r"\d+", item.number)[0]) for item in checklist.TRIPOD_AI}
        stard = {int(n[0]) for i in checklist.STARD_AI if (n := re.match(r"\d+", i.number))}
        assert tripod == set(range(1, 28))
        assert stard == set(range(1, 31))

    def test_without_facts_a_person_must(self):
        assert [f["filled"] for f in checklist.fill({})] == [0, 0]
