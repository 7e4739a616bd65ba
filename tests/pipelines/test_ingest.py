"""The ingest pipeline as a user runs it: `kedro run --pipeline=ingest --params=...`."""

import hashlib
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner
from kedro.framework.cli.cli import KedroCLI
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner
from pandera.errors import SchemaErrors
from PIL import Image

from lymphocytosis import schemas
from lymphocytosis.datasets.image_store import ImageStoreDataset
from lymphocytosis.datasets.picture_folder import PictureFolderDataset
from lymphocytosis.datasets.text_table import TextTableDataset
from lymphocytosis.errors import UserError
from lymphocytosis.imaging.store import check_same_ingest
from lymphocytosis.parameters import ClinicalParameters
from lymphocytosis.pipelines.ingest import create_pipeline
from lymphocytosis.pipelines.ingest.nodes import tabulate_cells

REPOSITORY = Path(__file__).parents[2]
BASE = yaml.safe_load((REPOSITORY / "conf/base/parameters.yml").read_text())
# Warnings of Kedro, kedro-viz and Click, about one another.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Option '--pipeline'", "ignore:'BaseCommand'", "ignore:Accessing the 'model_fields'"
)

SIZES = "image.source_size=40,image.crop=40,image.size=40"


def said(text):
    """What was shown, without the folds of the terminal."""
    return re.sub(r"\s+", " ", text)


@pytest.fixture(scope="module")
def kedro():
    """A function that runs Kedro's command line here; the workspace is beside the cohort."""

    def run(cohort, params=SIZES, pipeline="ingest"):
        arguments = f"cohort_dir={cohort},workspace={cohort.parent / 'workspace'},{params}"
        command = ["run", f"--pipeline={pipeline}", f"--params={arguments}"]
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(REPOSITORY)
            patch.setenv("COLUMNS", "1000")
            return CliRunner().invoke(KedroCLI(REPOSITORY), command)

    return run


def output(cohort, name):
    """The one file or folder that the run wrote under a name."""
    (found,) = (cohort.parent / "workspace").glob(f"0*/{name}/*/{name}")
    return found


def table_of(root, edit):
    path = root / "clinical_annotation.csv"
    path.write_text(edit(path.read_text()))


@pytest.fixture(scope="module")
def taken(write_cohort, picture, kedro):
    wide = picture(7, size=(50, 40))
    root = write_cohort(
        {
            "P2": {
                "LABEL": "1",
                "files": {"a.png": picture(1), "grey.png": picture(2, mode="L")},
            },
            "007": {"DOB": "01-05-1950", "GENDER": "f", "files": {"wide.bmp": wide}},
            "P3": {
                "LABEL": "-1",
                "GENDER": "M",
                "subset": "test",
                "files": {"a.png": picture(3), "bad.png": b"?", "notes.txt": b"hello"},
            },
        }
    )
    # A spreadsheet's mark and line ends, and a column that nobody asked for.
    lines = (root / "clinical_annotation.csv").read_text().splitlines()
    table = "\r\n".join(f"{line},{'NOTE' if n == 0 else 'x'}" for n, line in enumerate(lines))
    (root / "clinical_annotation.csv").write_bytes(("\ufeff" + table + "\r\n").encode())
    result = kedro(root)
    assert result.exit_code == 0, result.output
    return root


class TestRun:
    def test_patients(self, taken):
        patients = pd.read_parquet(output(taken, "patients.parquet"))
        schemas.patients.validate(patients)
        assert patients.astype(object).where(patients.notna(), None).to_numpy().tolist() == [
            ["007", "007", "train", 0, 70, "F", 5.5, 1],
            ["P2", "P2", "train", 1, 70, "F", 5.5, 2],
            ["P3", "P3", "test", None, 70, "M", 5.5, 1],
        ]

    def test_cells_and_pixels(self, taken):
        cells = pd.read_parquet(output(taken, "cells.parquet"))
        schemas.cells.validate(cells)
        assert cells["path"].tolist() == [
            "trainset/007/wide.bmp",
            "trainset/P2/a.png",
            "trainset/P2/grey.png",
            "testset/P3/a.png",
            "testset/P3/bad.png",
            "testset/P3/notes.txt",
        ]
        pixels = np.load(output(taken, "cell_images") / "pixels-00000.npy")
        assert len(pixels) == 4
        for cell in cells.itertuples():
            content = (taken / cell.path).read_bytes()
            assert cell.sha256 == hashlib.sha256(content).hexdigest()
            if not pd.isna(cell.row):
                whole = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
                margin = (whole.shape[1] - 40) // 2
                np.testing.assert_array_equal(pixels[cell.row], whole[:, margin : margin + 40])

    def test_cells_are_recognised_as_those_of_their_store(self, taken, write_cohort, kedro):
        def load(root):
            store = ImageStoreDataset(filepath=str(output(root, "cell_images")))
            return pd.read_parquet(output(root, "cells.parquet")), store.load()

        cells, images = load(taken)
        check_same_ingest(cells, images)
        other = write_cohort({"P2": {}})
        assert kedro(other).exit_code == 0
        swapped = cells.assign(sha256=cells["sha256"].tolist()[::-1])
        for one, store in ((cells, load(other)[1]), (swapped, images), (cells[1:], images)):
            with pytest.raises(UserError, match="'cells' and 'cell_images' come from two ingests"):
                check_same_ingest(one, store)

    def test_a_part_of_the_cells_that_is_not_valid_is_not_saved(self, taken):
        store = ImageStoreDataset(filepath=str(output(taken, "cell_images"))).load()
        patients = pd.read_parquet(output(taken, "patients.parquet")).drop(columns="cell_count")
        good = list(store.parts_of_records())
        store.parts_of_records = lambda: [*good, good[0].assign(status="lost")]
        _, cells, _ = tabulate_cells(store, patients, [], [])
        assert len(next(cells)) == 6
        with pytest.raises(SchemaErrors, match="lost"):
            next(cells)

    def test_report(self, taken):
        report = json.loads(output(taken, "ingest_report.json").read_text())
        assert report["pictures"] == {"taken": 2, "converted": 2, "left_out": 2}
        reasons = {file["path"]: file["reason"] for file in report["not_taken_as_they_are"]}
        assert reasons == {
            "trainset/007/wide.bmp": "50x40 pixels, not 40x40",
            "trainset/P2/grey.png": "mode L, not RGB",
            "testset/P3/bad.png": "can't be decoded: no picture in JPEG, PNG, BMP, TIFF",
            "testset/P3/notes.txt": "can't be decoded: not a picture file (expected .jpg, .jpeg, "
            ".png, .bmp, .tif, .tiff)",
        }
        assert report["warnings"] == [
            "Patients 007, P2 share the birth date 1950-05-01 and sex, and their labels differ: "
            "taken for a placeholder, and each patient for a person. Their ages may be wrong."
        ]
        assert report["read"] == [
            "clinical_annotation.csv: comma-separated text in UTF-8, decimal points, "
            "month first in dates with slashes (clinical.slash_dates)",
            "ages of 3 patients without a SAMPLE_DATE are completed years at 2021-03-01 "
            "(clinical.reference_date; the paper's is 2021-03-01): 70 to 70",
        ]
        assert report["patients"]["train_tumoral"] == report["patients"]["test_unlabelled"] == 1
        assert report["image"]["crop"] == 40

    def test_reasons_of_pictures_left_out_or_converted_are_printed(
        self, write_cohort, kedro, picture
    ):
        odd = {f"{n}.png": picture(n, size=(50, 40 + n)) for n in range(9)}
        greys = {f"grey{n}.png": picture(n, mode="L") for n in range(3)}
        root = write_cohort({"P1": {"files": {"notes.txt": b"?", **odd, **greys}}})
        told = said(kedro(root).output).partition("0 taken, 12 converted, 1 left_out")[2]
        first, second, *_, last = told.split("INFO")[1:10]
        assert "1 left_out: can't be decoded: not a picture file" in first
        assert "(trainset/P1/notes.txt)" in first
        assert "3 converted: mode L, not RGB (trainset/P1/grey0.png, ...)" in second
        assert "... and 3 more reasons" in last

    def test_an_empty_patients_folder_without_a_row_gives_a_warning(self, write_cohort, kedro):
        root = write_cohort({"P1": {}})
        (root / "trainset/P2").mkdir()
        result = kedro(root)
        assert result.exit_code == 0
        assert "trainset/P2/ holds no pictures" in said(result.output)
        (told,) = json.loads(output(root, "ingest_report.json").read_text())["warnings"]
        assert told.startswith("trainset/P2/ holds no pictures")

    def test_the_same_cohort_gives_the_same_again(self, write_cohort, kedro):
        root = write_cohort({"P1": {}, "P2": {"DOB": "1/1/1960"}})
        assert [kedro(root).exit_code for _ in range(2)] == [0, 0]
        for name in ("patients.parquet", "cells.parquet", "ingest_report.json"):
            one, other = (root.parent / "workspace").glob(f"0*/{name}/*/{name}")
            assert one.read_bytes() == other.read_bytes()

    def test_the_cohort_itself_is_left_as_it_was(self, write_cohort, kedro):
        root = write_cohort({"P1": {}, "P2": {"GENDER": "M"}})
        before = {p: p.read_bytes() for p in root.rglob("*") if p.is_file()}
        assert kedro(root).exit_code == 0
        assert {p: p.read_bytes() for p in root.rglob("*") if p.is_file()} == before

    def test_crop_and_size_are_parameters(self, write_cohort, kedro):
        params = "image.source_size=40,image.crop=20,image.size=60"
        root = write_cohort({"P1": {}})
        assert kedro(root, params).exit_code == 0
        assert np.load(output(root, "cell_images") / "pixels-00000.npy").shape == (2, 60, 60, 3)

    def test_the_reference_date_is_a_parameter(self, write_cohort, kedro):
        params = f"{SIZES},clinical.reference_date=2000-05-01"
        root = write_cohort({"P1": {"DOB": "5/1/1950"}})
        assert kedro(root, params).exit_code == 0
        assert pd.read_parquet(output(root, "patients.parquet"))["age_years"].tolist() == [50]

    def test_a_missing_sex_is_unknown(self, write_cohort, kedro):
        root = write_cohort({"P1": {"GENDER": ""}})
        result = kedro(root)
        assert result.exit_code == 0
        assert pd.read_parquet(output(root, "patients.parquet"))["sex"].isna().all()
        assert "values are neither F nor M, taken as unknown: P1" in said(result.output)


class TestLinks:
    @pytest.fixture
    def cohort(self, write_cohort):
        return write_cohort({"P1": {}, "P2": {"GENDER": "M"}})

    def test_a_linked_picture_is_left_out_with_its_reason(self, cohort, kedro, picture, tmp_path):
        (tmp_path / "secret.png").write_bytes(picture(99))
        (cohort / "trainset/P1/link.png").symlink_to(tmp_path / "secret.png")
        assert kedro(cohort).exit_code == 0
        report = json.loads(output(cohort, "ingest_report.json").read_text())
        assert report["not_taken_as_they_are"] == [
            {
                "path": "trainset/P1/link.png",
                "status": "left_out",
                "reason": "can't be read: a link that leads out of the cohort's folder",
            }
        ]
        assert len(np.load(output(cohort, "cell_images") / "pixels-00000.npy")) == 4

    def test_a_linked_patients_folder_is_refused_with_the_reason(self, cohort, kedro, tmp_path):
        (cohort / "trainset/P1").rename(tmp_path / "elsewhere")
        (cohort / "trainset/P1").symlink_to(tmp_path / "elsewhere")
        result = kedro(cohort)
        assert result.exit_code == 1
        assert "No picture could be taken of:" in result.output
        assert (
            "patient P1: 2 file(s) left out, the first: can't be read: a link that leads out"
            in said(result.output)
        )


class TestRefusals:
    """Exit code 1, one clear message, no traceback."""

    def refuse(self, result, *told):
        assert result.exit_code == 1
        # Not an error that nobody caught: Click has shown a message and left.
        assert isinstance(result.exception, SystemExit)
        assert "Traceback" not in result.output
        (_, message) = said(result.output).split("Error: ")
        for part in told:
            assert part in message

    def test_no_such_folder(self, kedro, tmp_path):
        self.refuse(
            kedro(tmp_path / "nowhere"),
            f"There is no cohort folder {tmp_path}/nowhere",
            "cohort_dir",
        )

    def test_no_table(self, kedro, write_cohort):
        root = write_cohort({"P1": {}})
        (root / "clinical_annotation.csv").unlink()
        self.refuse(kedro(root), f"There is no clinical_annotation.csv in {root}")

    def test_no_subset(self, kedro, write_cohort):
        root = write_cohort({"P1": {}})
        (root / "trainset").rename(root / "train")
        self.refuse(
            kedro(root), f"{root} has neither trainset/ nor testset/; it has: clinical_annotation"
        )

    def test_a_missing_column(self, kedro, write_cohort):
        root = write_cohort({"P1": {}})
        table_of(root, lambda text: text.replace("LYMPH_COUNT", "COUNT"))
        self.refuse(
            kedro(root), "lacks the column LYMPH_COUNT. It has: ID, LABEL, GENDER, DOB, COUNT."
        )

    @pytest.mark.parametrize(
        ("column", "value"),
        [
            ("DOB", "1950.05.01"),
            ("LYMPH_COUNT", "5,5"),
            ("LABEL", "2"),
        ],
    )
    def test_a_value_names_its_line(self, kedro, write_cohort, column, value):
        root = write_cohort({"P1": {}, "P2": {column: value}, "P3": {"GENDER": "M"}})
        self.refuse(kedro(root), f"line 3 (patient P2): {column} ", repr(value))

    def test_blank_lines_count_in_line_numbers(self, kedro, write_cohort):
        root = write_cohort({"P1": {}, "P2": {"LABEL": "2"}})
        table_of(root, lambda text: text.replace("\n", "\n\n"))
        self.refuse(kedro(root), "line 5 (patient P2): LABEL is '2'")

    def test_columns_that_would_have_moved_by_one(self, kedro, write_cohort):
        root = write_cohort({"P1": {}})
        table_of(root, lambda text: text.replace("5.5\n", "5.5,\n"))
        self.refuse(kedro(root), "line 2 has 7 cells, the first has 6")

    def test_a_patient_without_pictures(self, kedro, write_cohort):
        root = write_cohort({"P1": {}, "P2": {"files": {}}})
        self.refuse(kedro(root), "patient P2: has a row and no pictures", "trainset/P2/")
        (root / "trainset/P2").mkdir()
        self.refuse(kedro(root), "patient P2: has a row and no pictures (trainset/P2/ is empty")

    def test_pictures_without_a_patient(self, kedro, write_cohort):
        root = write_cohort({"P1": {}, "P2": {"row": False}})
        self.refuse(kedro(root), "patient P2: has pictures and no row")

    def test_an_empty_table(self, kedro, write_cohort):
        root = write_cohort({"P1": {"row": False}})
        self.refuse(kedro(root), "patient P1: has pictures and no row")

    def test_a_picture_outside_any_patients_folder(self, kedro, write_cohort, picture):
        root = write_cohort({"P1": {}})
        (root / "trainset" / "lost.png").write_bytes(picture())
        self.refuse(kedro(root), "trainset/lost.png: pictures without a patient")

    def test_a_patient_twice_in_the_table(self, kedro, write_cohort):
        root = write_cohort({"P1": {}})
        table_of(root, lambda text: text + text.splitlines()[1] + "\n")
        self.refuse(kedro(root), "patient P1: stands 2 times in the table")

    def test_a_patient_in_both_folders(self, kedro, write_cohort, picture):
        root = write_cohort({"P1": {}})
        (root / "testset" / "P1").mkdir(parents=True)
        (root / "testset" / "P1" / "a.png").write_bytes(picture())
        self.refuse(kedro(root), "patient P1: has a folder in trainset/ and one in testset/")

    @pytest.mark.parametrize(
        ("key", "mode", "size", "reason"),
        [
            ("other_mode", "L", (40, 40), "mode L, not RGB"),
            ("other_size", "RGB", (41, 40), "41x40 pixels, not 40x40"),
            ("unreadable", None, None, "can't be decoded"),
        ],
    )
    def test_a_picture_where_the_parameter_says_so(
        self, kedro, write_cohort, picture, key, mode, size, reason
    ):
        odd = picture(mode=mode, size=size) if mode else b"?"
        root = write_cohort({"P1": {"files": {"a.png": picture(1), "odd.png": odd}}})
        result = kedro(root, f"{SIZES},image.{key}=refuse")
        self.refuse(result, "trainset/P1/odd.png: ", reason, f"image.{key} is 'refuse'")
        files = [path for path in (root.parent / "workspace").rglob("*") if path.is_file()]
        assert sorted(path.name for path in files) == [".run.lock", ".run.txt", "manifest.json"]

    def test_a_patient_whose_pictures_are_all_left_out(self, kedro, write_cohort):
        root = write_cohort({"P1": {}, "P2": {"GENDER": "M"}})
        for path in (root / "trainset/P2").iterdir():
            os.truncate(path, 100)
        self.refuse(
            kedro(root),
            "No picture could be taken of: - patient P2: 2 file(s) left out, the first:",
        )

    def test_a_cohort_whose_pictures_are_all_left_out(self, kedro, write_cohort):
        root = write_cohort({"P1": {"files": {"a.png": b""}}})
        self.refuse(kedro(root), "No picture could be taken of: - patient P1: 1 file(s)")

    @pytest.mark.parametrize(
        ("params", "told"),
        [
            ("image.corp=40", "image.corp: no such parameter"),
            ("image.crop=500", "image: crop (500) is larger than source_size (224)"),
            ("seed=many", "seed: Input should be a valid integer, not 'many'"),
        ],
    )
    def test_a_wrong_parameter_before_any_work(self, kedro, tmp_path, params, told):
        # The cohort is not even looked for.
        self.refuse(kedro(tmp_path / "nowhere", params), told)

    def test_simulating_over_a_real_cohort(self, kedro, write_cohort):
        root = write_cohort({"P1": {}})
        before = {p: p.read_bytes() for p in root.rglob("*") if p.is_file()}
        self.refuse(
            kedro(root, pipeline="simulate"),
            f"simulate would write over {root}, which holds files it did not make",
        )
        assert {p: p.read_bytes() for p in root.rglob("*") if p.is_file()} == before


def test_the_command_itself_shows_the_message_alone(tmp_path):
    """In a process of its own; a wrong parameter ends it before the slow imports."""
    params = f"cohort_dir={tmp_path},image.corp=40,seed=many"
    run = subprocess.run(
        [Path(sys.executable).with_name("kedro"), "run", "--pipeline=ingest", f"--params={params}"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert "Traceback" not in run.stdout + run.stderr
    assert run.stderr.splitlines()[-3:] == [
        "Error: parameters.yml (or --params) can't be used:",
        "  - seed: Input should be a valid integer, not 'many'",
        "  - image.corp: no such parameter; the nearest: crop",
    ]


class TestOrderOfWork:
    def test_the_table_is_judged_before_any_picture_is_decoded(
        self, write_cohort, image_parameters, tmp_path, monkeypatch
    ):
        """Hours of decoding must not come before a refusal that a table allows at once."""
        root = write_cohort({"P1": {"LABEL": "9"}})
        reads = []
        monkeypatch.setattr(
            "lymphocytosis.datasets.picture_folder._read_inside",
            lambda folder, root, inside, name: reads.append(name) or (folder / name).read_bytes(),
        )
        catalog = DataCatalog(
            {
                "cohort_pictures": PictureFolderDataset(filepath=str(root)),
                "clinical_annotation": TextTableDataset(
                    filepath=str(root / "clinical_annotation.csv")
                ),
                "params:clinical": MemoryDataset(ClinicalParameters(**BASE["clinical"])),
                "params:image": MemoryDataset(image_parameters()),
                "cell_images": ImageStoreDataset(filepath=str(tmp_path / "store")),
                "cells": MemoryDataset(copy_mode="assign"),
            }
        )
        with pytest.raises(Exception, match=r"line 2 \(patient P1\): LABEL is '9'"):
            SequentialRunner().run(create_pipeline(), catalog)
        assert reads == []
        table_of(root, lambda text: text.replace(",9,", ",0,"))
        SequentialRunner().run(create_pipeline(), catalog)
        assert len(reads) == 2
