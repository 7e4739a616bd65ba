import os

import pandas as pd
import pytest

from lymphocytosis.datasets.clinical_table import ClinicalTableDataset
from lymphocytosis.datasets.text_table import MOST_BYTES


@pytest.fixture
def dataset(tmp_path):
    return ClinicalTableDataset(filepath=str(tmp_path / "cohort" / "clinical_annotation.csv"))


class TestLoad:
    def test_reads_the_challenges_layout_as_text(self, write_cohort):
        root = write_cohort({"007": {"LABEL": "1.0", "DOB": "01-05-1950", "LYMPH_COUNT": "11.20"}})
        table = ClinicalTableDataset(filepath=str(root / "clinical_annotation.csv")).load()
        assert list(table.columns) == ["", "ID", "LABEL", "GENDER", "DOB", "LYMPH_COUNT"]
        assert table.loc[2].tolist() == ["0", "007", "1.0", "F", "01-05-1950", "11.20"]

    def test_no_table_is_refused(self, tmp_path, dataset, refused):
        (tmp_path / "cohort").mkdir()
        with refused(rf"There is no clinical_annotation.csv in {tmp_path}/cohort"):
            dataset.load()

    def test_a_folder_of_that_name_is_no_table(self, tmp_path, dataset, refused):
        (tmp_path / "cohort" / "clinical_annotation.csv").mkdir(parents=True)
        with refused(r"There is no clinical_annotation.csv"):
            dataset.load()

    def test_a_file_beyond_any_clinical_table_is_refused_unread(self, tmp_path, dataset, refused):
        (tmp_path / "cohort").mkdir()
        path = tmp_path / "cohort" / "clinical_annotation.csv"
        path.touch()
        os.truncate(path, MOST_BYTES + 1)
        with refused(f"clinical_annotation.csv has more than {MOST_BYTES} bytes"):
            dataset.load()


class TestSave:
    def test_what_is_saved_is_read_again(self, dataset):
        table = pd.DataFrame(
            [["0", "P1", "-1", "f", "01-05-1950", "5.5"], ["1", "007", "1", "M", "5/1/1950", "12"]],
            columns=["", "ID", "LABEL", "GENDER", "DOB", "LYMPH_COUNT"],
            dtype="str",
        )
        dataset.save(table)
        pd.testing.assert_frame_equal(dataset.load().reset_index(drop=True), table)
