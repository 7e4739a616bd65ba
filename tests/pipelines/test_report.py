"""The report's nodes: what they pass on, and that they fail no run."""

import logging

import numpy as np
import pandas as pd
import pytest

from lymphocytosis.cohort.pictures import PictureFile, PictureFiles
from lymphocytosis.parameters import ReportParameters
from lymphocytosis.pipelines.report.nodes import (
    without_failing,
    write_diagnosis_report,
    write_report,
)
from lymphocytosis.pipelines.report.pipeline import REPORTED, create_pipeline
from tests.report.conftest import ENSEMBLE, EVALUATION, make_entries
from tests.report.reading import Reader


class TestFailing:
    def test_at_the_end_of_a_run_it_ends_in_a_warning(self, caplog):
        def fails(**entries):
            raise ValueError("<odd>")

        with caplog.at_level(logging.WARNING):
            page = without_failing(fails)(patients=None)
        assert "&lt;odd&gt;" in page
        assert "<odd>" in caplog.text

    def test_alone_it_raises(self):
        def function_of(pipeline):
            (node,) = pipeline.nodes
            return node.func

        nothing = dict.fromkeys(REPORTED)
        given = (ReportParameters(names=True), ENSEMBLE, EVALUATION)
        with pytest.raises(Exception, match="nothing to report"):
            function_of(create_pipeline())(*given, **nothing)
        page = function_of(create_pipeline(at_the_end=True))(*given, **nothing)
        assert "nothing to report" in page


def test_the_page_and_its_size_are_told(caplog):
    with caplog.at_level(logging.INFO):
        page = write_report(ReportParameters(names=False), ENSEMBLE, EVALUATION, **make_entries())
    assert "report: 24 patients, 0." in caplog.text
    assert f"24 patients, 96 cells, {len(page.encode()) / 1e6:.1f} MB" in page


class System:
    """A ready system of a few facts."""

    fingerprint = "f" * 64

    def __init__(self, image):
        quantiles = {name: [1.0, 2.0, 3.0, 4.0, 90.0] for name in ("age_years", "cells")}
        of_class = {"patients": 12, "women": 6, "men": 6, **quantiles, "lymphocyte_count": None}
        scores = {t: [0.9, 0.8, 0.95] for t in ("balanced accuracy", "AUC", "sensitivity")}
        scores |= {"specificity": [0.9, 0.8, 0.95], "Brier score": [0.1, 0.05, 0.2]}
        self.image = image
        self.facts = {
            "ensemble": ENSEMBLE.model_dump(mode="json"),
            "cohort": {"reactive": of_class, "tumoral": of_class},
            "parameters": {"encoder": {"name": "resnet18"}, "views": ["original", "vertical"]},
            "methods": {"large": "large, pictures + clinical"},
            "evaluation": {
                "patients": 24, "repeats": 2, "warnings": ["Mind this."], "advice": {},
                "scores": {"large, pictures + clinical": scores, "bag size": scores},
            },
            "no_evaluation": "", "cautions": ["Few patients."], "limits": [],
        }  # fmt: skip


class TestNewPatients:
    @pytest.fixture
    def given(self, tmp_path, picture, image_parameters):
        files = []
        for name in ("<i>Anna", "Bert"):
            (tmp_path / name).mkdir()
            for n in range(3):
                path = tmp_path / name / f"{n}.png"
                path.write_bytes(picture(n) if n or name == "Bert" else b"damaged")
                files.append(
                    PictureFile("test", name, path.name, f"{name}/{n}.png", path.read_bytes)
                )
        rows = [
            {
                "patient_id": name, "cell_count": count, "age_years": age, "lymphocyte_count": 7.5,
                "inputs": "pictures", "probability": p, "probability_pictures": p,
                "referral": None, "set": None, "advice": advice, "unlike": bool(flags),
                "flags": flags, "reasons": ["Because."], "predictions": [[p, 0.1], [0.3, 0.9]],
                "warnings": [f"{name}/0.png is odd"],
                **{f"large_{k}": v for k, v in
                   {"mean": p, "std": 0.1, "min": 0.1, "max": 0.9, "avg": 1, "sa": 0}.items()},
            }
            for name, count, age, p, advice, flags in (
                ("<i>Anna", 2, None, 0.62, "look again", ["darker background"]),
                ("Bert", 3, 70, 0.91, "refer", []),
            )
        ]  # fmt: skip
        cells = pd.DataFrame(
            {"patient_id": [f.patient_id for f in files], "image_id": [f.image_id for f in files]}
        )
        left_out = (cells["patient_id"] != "Bert") & (cells["image_id"] == "0.png")
        cells["status"] = np.where(left_out, "left_out", "taken")
        cells["contribution"] = np.where(left_out, np.nan, np.linspace(-1, 1, 6))
        cells["distance"] = np.where(left_out, np.nan, 1.0)
        cells["odd"] = pd.array([None, True, False, False, False, False], dtype="boolean")
        image = image_parameters()
        return System(image), PictureFiles([files]), rows, cells, image

    @pytest.mark.parametrize("names", [True, False])
    def test_advice_reasons_flags_and_cells(self, given, names):
        versions = {"run": "2026-01-31T09.15.00.000Z"}
        html = write_diagnosis_report(*given, ReportParameters(names=names), versions)
        page = Reader(html)
        _, *rows = page.tables["patients"]
        assert [row[0] for row in rows] == (["<i>Anna", "Bert"] if names else ["1", "2"])
        assert [row[3] for row in rows] == ["look again", "refer"]
        assert [float(row[4]) for row in rows] == [0.62, 0.91]
        text = " ".join(page.texts)
        assert "2 new patient(s): 1 refer, 1 look again." in text
        assert "1 of them are unlike" in text
        for told in ("darker background", "Because.", "Mind this.", "Few patients.", "odd"):
            assert told in text
        assert ("Anna" in html, "Bert" in html, "0.png" in html) == (names, names, names)
        grids = [table for table in page.tables.values() if table[0][:1] == ["classifier"]]
        assert grids[0] == [
            ["classifier", "original", "vertical"], ["1", "0.620", "0.100"], ["2", "0.300", "0.900"]
        ]  # fmt: skip
        assert page.faults == []
        sheets = [a["id"] for tag, a in page.tags if tag == "script" and "id" in a]
        assert {"all-1", "chosen-1", "all-2", "chosen-2"} <= set(sheets)
        assert html.count("medical device") == 1
