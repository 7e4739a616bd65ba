"""The predict pipeline: its node on a system of a few lines, and the whole on a demo's bundle."""

import logging
import shutil
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import click
import numpy as np
import pandas as pd
import pytest
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from lymphocytosis import schemas
from lymphocytosis.cohort.pictures import PictureFile, PictureFiles
from lymphocytosis.imaging.store import decode_pictures
from lymphocytosis.parameters import ComputeParameters
from lymphocytosis.pipelines.predict.nodes import describe, diagnose_patients
from lymphocytosis.progress import Progress
from lymphocytosis.system.diagnosis import ReadySystem
from tests.conftest import Killed

COMPUTE = ComputeParameters(
    accelerator="cpu", precision="32-true", embed_batch_size=4, embed_backend="torch"
)


class System:
    """Its probability of a patient is the pictures' mean."""

    fingerprint = "one"

    def __init__(self):
        self.asked = []

    def diagnose(self, pictures, age, count, image):
        self.asked.append(pictures[0].patient_id)
        stored = list(decode_pictures(pictures, image))
        records = pd.DataFrame([picture.record for picture in stored])
        taken = [picture.pixels is not None for picture in stored]
        means = [
            picture.pixels.mean() if picture.pixels is not None else None for picture in stored
        ]
        some = any(taken)
        share = float(pd.Series(means, dtype=float).mean()) / 256 if some else None
        row = {
            "patient_id": pictures[0].patient_id, "cell_count": sum(taken),
            "age_years": age, "lymphocyte_count": count,
            "inputs": "pictures" if age is None else "pictures and clinical values",
            "probability": share, "probability_pictures": share,
            "referral": "refer" if some else None, "set": "both" if some else None,
            "advice": "look again", "unlike": False if some else None,
            "flags": [], "reasons": ["One.", "Two."],
            "warnings": [] if all(taken) else ["One is left out."],
        }  # fmt: skip
        for model in ("large", "small"):
            row |= dict.fromkeys([f"{model}_{name}" for name in ("mean", "min", "max")], share)
            row[f"{model}_std"] = 0.0 if some else None
            row |= dict.fromkeys([f"{model}_avg", f"{model}_sa"], 1 if some else None)
        cells = records[["image_id", "status", "reason"]].assign(
            contribution=pd.Series(means, dtype=float),
            distance=pd.Series(means, dtype=float),
            odd=pd.array([None if mean is None else mean > 128 for mean in means], dtype="boolean"),
        )
        return SimpleNamespace(row=row, cells=cells)


def file_of(patient_id, name, content):
    return PictureFile("test", patient_id, name, f"{patient_id}/{name}", lambda: content)


@pytest.fixture
def files(picture):
    """A function that returns the files of so many patients, P1 to Pn, two pictures each."""

    def make(count, each=2):
        return [
            file_of(f"P{n}", f"{k}.png", picture(100 * n + k))
            for n in range(1, count + 1)
            for k in range(each)
        ]

    return make


def patients_of(files, warnings=()):
    ids = sorted({file.patient_id for file in files})
    clinical = {"age_years": [70.0] * len(ids), "lymphocyte_count": 5.5}
    return pd.DataFrame({"patient_id": ids, **clinical}).assign(warnings=[[*warnings]] * len(ids))


@pytest.fixture
def diagnose(image_parameters):
    def run(files, system=None, patients=None, progress=None, **changes):
        if patients is None:
            patients = patients_of(files)
        image = image_parameters(**changes)
        progress = progress or Progress(None)
        return diagnose_patients(
            system or System(), PictureFiles([files]), patients, image, COMPUTE, progress
        )

    return run


class TestTables:
    def test_rows_and_cells_fit_their_schemas(self, files, diagnose):
        table, csv, rows, cells = diagnose(files(3))
        schemas.diagnoses.validate(table)
        schemas.diagnosis_cells.validate(cells)
        assert csv is table
        assert [row["patient_id"] for row in rows] == table["patient_id"].tolist()
        assert {tuple(row) for row in rows} == {tuple(table.columns)}
        assert list(table.columns)[-2:] == ["small_avg", "small_sa"]
        assert cells["image_id"].tolist() == ["0.png", "1.png"] * 3

    def test_lists_are_texts_in_the_table_and_lists_in_plain_values(self, files, diagnose):
        given = files(1)
        table, _, (row,), _ = diagnose(given, patients=patients_of(given, ["Old.", "Odd."]))
        assert row["reasons"] == ["One.", "Two."]
        assert row["warnings"] == ["Old.", "Odd."]
        assert row["flags"] == []
        assert table["reasons"].tolist() == ["One; Two"]
        assert table["warnings"].tolist() == ["Old; Odd"]
        assert table["flags"].isna().all()

    def test_missing_clinical_values(self, files, diagnose):
        given = files(2)
        patients = patients_of(given)
        patients.loc[0, ["age_years", "lymphocyte_count"]] = np.nan
        table, _, rows, _ = diagnose(given, patients=patients)
        assert table["inputs"].tolist() == ["pictures", "pictures and clinical values"]
        assert table["age_years"].isna().tolist() == [True, False]
        assert rows[0]["age_years"] is rows[0]["lymphocyte_count"] is None
        schemas.diagnoses.validate(table)

    def test_a_patient_without_a_readable_picture_ends_nothing(self, files, diagnose, caplog):
        broken = [file_of("P2", "a.png", b"?"), file_of("P2", "b.png", b"?")]
        others = [file for file in files(3) if file.patient_id != "P2"]
        with caplog.at_level(logging.WARNING):
            table, _, rows, cells = diagnose(others + broken)
        told = "No picture could be taken of 1 patient(s): P2. Of P2: One is left out."
        assert told in caplog.messages
        assert table["cell_count"].tolist() == [2, 0, 2]
        assert table["advice"][1] == "look again"
        assert table["probability"].isna().tolist() == [False, True, False]
        assert rows[1]["probability"] is None
        assert cells["contribution"].isna().tolist() == [False, False, True, True, False, False]
        schemas.diagnoses.validate(table)
        schemas.diagnosis_cells.validate(cells)
        alone = diagnose(others)[0]
        pd.testing.assert_frame_equal(table.drop(1).reset_index(drop=True), alone)

    def test_where_there_is_none_of_any(self, diagnose):
        table, _, _, cells = diagnose([file_of("P1", "a.png", b"?")])
        schemas.diagnoses.validate(table)
        schemas.diagnosis_cells.validate(cells)


class TestResuming:
    def test_a_finished_patient_is_not_computed_again(self, files, diagnose, after_a_kill):
        given = files(5)
        before, after = System(), System()
        systems = iter([before, after])
        resumed = after_a_kill(lambda p: diagnose(given, next(systems), progress=p), parts=3)
        assert {"P1", "P2", "P3"} <= set(before.asked)
        assert sorted(after.asked) == ["P4", "P5"]
        for one, whole in zip(resumed, diagnose(given), strict=True):
            if isinstance(whole, list):
                assert one == whole
            else:
                pd.testing.assert_frame_equal(one, whole)

    @pytest.mark.parametrize(
        ("change", "again"),
        [
            ("file", ["P2"]),
            ("age", ["P1"]),
            ("more", ["P4"]),
            ("warnings", []),
            ("bundle", ["P1", "P2", "P3"]),
            ("image", ["P1", "P2", "P3"]),
        ],
    )
    def test_what_changed_is(self, files, diagnose, picture, tmp_path, change, again):
        progress = Progress(tmp_path / "unfinished")
        given, system, options = files(3), System(), {}
        diagnose(given, progress=progress)
        if change == "file":
            given[3] = file_of("P2", "1.png", picture(7))
        if change == "more":
            given = files(4)
        patients = patients_of(given, ["New."] if change == "warnings" else [])
        if change == "age":
            patients.loc[0, "age_years"] = 71.0
        if change == "bundle":
            system.fingerprint = "two"
        if change == "image":
            options = {"other_mode": "refuse"}
        table = diagnose(given, system, patients, progress, **options)[0]
        assert sorted(system.asked) == again
        assert table["warnings"].eq("New").all() == (change == "warnings")


def test_memory_holds_the_pictures_of_two_patients(files, diagnose):
    def peak(count):
        given = files(count, each=12)  # 58 kB of pixels
        tracemalloc.start()
        diagnose(given)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(2)  # caches are filled
    assert peak(22) < peak(2) + 20 * 12_000  # a fifth of the pixels


class TestLog:
    @pytest.mark.parametrize(
        ("changes", "line"),
        [
            ({"advice": "refer", "set": "refer"}, "  P1  refer         0.900"),
            ({"set": "both"}, "  P1  look again    0.900  both are possible"),
            ({"set": "none"}, "  P1  look again    0.900  neither is likely"),
            ({"set": "refer"}, "  P1  look again    0.900  threshold and set differ"),
            (
                {"unlike": True, "flags": "darker cells than usual: 3, 90 % have 5"},
                "  P1  look again    0.900  darker cells than usual",
            ),
            (
                {"cell_count": 0, "probability": None, "inputs": "pictures"},
                "  P1  look again           no picture, by pictures alone",
            ),
        ],
    )
    def test_a_patients_line_says_why(self, changes, line):
        row = {
            "patient_id": "P1", "cell_count": 2, "inputs": "pictures and clinical values",
            "probability": 0.9, "advice": "look again", "set": "both", "unlike": False,
            "flags": None,
        }  # fmt: skip
        assert describe(pd.DataFrame([row | changes])).splitlines()[1:] == [line]

    def test_of_many_the_first_are_shown(self, files, diagnose):
        table, *_ = diagnose(files(22))
        shown = describe(table).splitlines()
        assert shown[0] == "22 look again"
        assert shown[21:] == ["  ... and 2 more patients"]


PROJECT = Path(__file__).parents[2]
TINY = {
    "simulation": {
        "train_reactive": 5, "train_tumoral": 6, "test": 3, "min_cells": 2, "max_cells": 3,
        "picture_size": 64,
    },
    "image": {"source_size": 64, "crop": 48, "size": 40},
    "encoder": {"small_dim": 8},
    "pretext": {"epochs": 1},
    "mil": {"embedding_width": 8, "hidden_widths": [4], "epochs": 2},
    "splits": {"validation_share": 0.25, "count": 2},
}  # fmt: skip


def run(names, **parameters):
    bootstrap_project(PROJECT)
    with KedroSession.create(PROJECT, env="demo", runtime_params=parameters) as session:
        session.run(pipeline_names=names)
        return session.load_context().catalog


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a cohort, the workspace that was trained on it, and its bundle."""
    folder = tmp_path_factory.mktemp("trained")
    places = {name: str(folder / name) for name in ("cohort_dir", "workspace", "bundle")}
    steps = ["simulate", "ingest", "ssl_pretrain", "embed", "classify", "ensemble", "bundle"]
    run(steps, **places, **TINY)
    return folder


@pytest.fixture(scope="module")
def predict(trained):
    """A function that diagnoses a cohort by the bundle, and returns the catalog."""

    def go(cohort, workspace, **parameters):
        places = {"cohort_dir": str(cohort), "workspace": str(workspace)}
        return run(["predict"], **{"bundle": str(trained / "bundle"), **places, **parameters})

    return go


@pytest.fixture(scope="module")
def diagnosed(trained, predict, tmp_path_factory):
    return predict(trained / "cohort_dir", tmp_path_factory.mktemp("answers"))


class TestRun:
    def test_every_patient_has_a_row_and_every_picture(self, trained, diagnosed):
        folders = list((trained / "cohort_dir").glob("*set/*"))
        table, cells = diagnosed.load("diagnoses"), diagnosed.load("diagnosis_cells")
        assert table["patient_id"].tolist() == sorted(folder.name for folder in folders)
        counts = cells["patient_id"].value_counts()
        assert counts.to_dict() == {path.name: len(list(path.iterdir())) for path in folders}

    def test_the_three_forms_agree(self, diagnosed):
        table = diagnosed.load("diagnoses")
        pd.testing.assert_frame_equal(
            diagnosed.load("diagnoses_csv"), table, check_dtype=False, check_exact=True
        )
        rows = diagnosed.load("diagnoses_json")
        assert [row["probability"] for row in rows] == table["probability"].tolist()
        assert [row["large_sa"] for row in rows] == table["large_sa"].tolist()
        assert all(isinstance(row[name], list) for row in rows for name in ("flags", "reasons"))

    def test_test_patients_get_the_numbers_of_the_training_workspace(self, trained, diagnosed):
        table = diagnosed.load("diagnoses").set_index("patient_id")
        for size in ("large", "small"):
            for name in ("statistics", "avg", "sa"):
                (path,) = (trained / "workspace").glob(f"07*/{size}_{name}.parquet/*/*.parquet")
                expected = pd.read_parquet(path).set_index("patient_id")
                expected.columns = [
                    f"{size}_{name if column == 'decision' else column}" for column in expected
                ]
                pd.testing.assert_frame_equal(
                    table.loc[expected.index, expected.columns],
                    expected,
                    check_dtype=False,
                    check_exact=True,
                )

    def test_one_alone_gets_the_same_bits(self, trained, predict, diagnosed, tmp_path):
        place = max((trained / "cohort_dir").glob("*set/*"))
        shutil.copytree(place, tmp_path / "cohort" / place.name)
        shutil.copy(trained / "cohort_dir/clinical_annotation.csv", tmp_path / "cohort")
        # What a run may choose of pictures, all of which are as they should be.
        refuse = {"other_size": "refuse", "other_mode": "refuse", "unreadable": "refuse"}
        catalog = predict(tmp_path / "cohort", tmp_path / "answers", image=refuse)
        for entry in ("diagnoses", "diagnosis_cells"):
            whole = diagnosed.load(entry)
            expected = whole[whole["patient_id"] == place.name].reset_index(drop=True)
            pd.testing.assert_frame_equal(catalog.load(entry), expected, check_exact=True)

    def test_without_clinical_values_the_pictures_decide(
        self, trained, predict, diagnosed, tmp_path
    ):
        patients = sorted((trained / "cohort_dir/testset").iterdir())[:2]
        for place in patients:
            shutil.copytree(place, tmp_path / "cohort" / place.name)
        (broken := tmp_path / "cohort/broken").mkdir()
        (broken / "a.png").write_bytes(b"?")
        catalog = predict(tmp_path / "cohort", tmp_path / "answers")
        table = catalog.load("diagnoses").set_index("patient_id")
        assert table["cell_count"].eq(0).tolist() == [False, False, True]
        known = diagnosed.load("diagnoses").set_index("patient_id").loc[table.index[:2]]
        assert table["inputs"].eq("pictures").all()
        assert table["probability"][:2].equals(known["probability_pictures"])
        assert table["large_mean"].isna().all()
        assert table["large_pictures_only_mean"].notna().tolist() == [True, True, False]
        assert table["advice"]["broken"] == "look again"
        assert table["warnings"].str.startswith("There is no clinical table; ").all()

    def test_a_killed_run_goes_on_after_its_last_patient(
        self, trained, predict, diagnosed, tmp_path, monkeypatch
    ):
        asked = []
        diagnose = ReadySystem.diagnose

        def counting(system, pictures, *others):
            if len(asked) == 9:
                asked.append("killed")
                raise Killed
            asked.append(pictures[0].patient_id)
            return diagnose(system, pictures, *others)

        monkeypatch.setattr(ReadySystem, "diagnose", counting)
        with pytest.raises(Killed):
            predict(trained / "cohort_dir", tmp_path)
        catalog = predict(trained / "cohort_dir", tmp_path)
        asked.remove("killed")
        assert set(asked) == {*diagnosed.load("diagnoses")["patient_id"]}
        # Those at work at the kill, and perhaps one that was not saved yet.
        assert len(asked) <= len(set(asked)) + 3
        for entry in ("diagnoses.parquet", "diagnoses.csv", "diagnoses.json"):
            resumed, whole = (
                min((Path(of.load("params:workspace")) / "08_reporting" / entry).glob("*/*"))
                for of in (catalog, diagnosed)
            )
            assert resumed.read_bytes() == whole.read_bytes()

    def test_a_run_that_ended_well_leaves_nothing_unfinished(self, diagnosed):
        workspace = Path(diagnosed.load("params:workspace"))
        assert not (workspace / ".unfinished/diagnoses").exists()


class TestRefusals:
    @pytest.mark.parametrize(
        ("changes", "told"),
        [
            ({"image": {"crop": 64}}, r"image\.crop is 64 for this run and 48 in the bundle"),
            ({"mil": {"aggregator": "max"}}, r"mil\.aggregator is 'max' .* and 'mean' in"),
            ({"bundle": "./nowhere"}, r"There is no bundle .*/nowhere"),
        ],
    )
    def test_what_the_bundle_contradicts(self, trained, predict, tmp_path, changes, told):
        shutil.copytree(min((trained / "cohort_dir/testset").iterdir()), tmp_path / "cohort/P1")
        with pytest.raises(click.ClickException, match=told):
            predict(tmp_path / "cohort", tmp_path / "answers", **changes)
