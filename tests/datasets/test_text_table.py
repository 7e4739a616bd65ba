import os

import pandas as pd
import pytest
from kedro.io import DatasetError

from lymphocytosis.cohort.text_table import MOST_BYTES
from lymphocytosis.datasets.text_table import TextTableDataset


@pytest.fixture
def dataset(tmp_path):
    return TextTableDataset(filepath=str(tmp_path / "cohort" / "clinical_annotation.csv"))


class TestLoad:
    def test_reads_the_challenges_layout_as_text(self, write_cohort):
        root = write_cohort({"007": {"LABEL": "1.0", "DOB": "01-05-1950", "LYMPH_COUNT": "11.20"}})
        table = TextTableDataset(filepath=str(root / "clinical_annotation.csv")).load()
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


class TestOptional:
    def test_no_file_is_none_and_counts_as_there(self, tmp_path):
        dataset = TextTableDataset(filepath=str(tmp_path / "splits.csv"), optional=True)
        assert dataset.exists()
        assert dataset.load() is None

    def test_a_file_is_read_as_text(self, tmp_path):
        path = tmp_path / "splits.csv"
        path.write_bytes("\ufeffsplit,patient_id,role\r\n1,007,train\r\n".encode())
        table = TextTableDataset(filepath=str(path), optional=True).load()
        assert table.to_dict("list") == {"split": ["1"], "patient_id": ["007"], "role": ["train"]}

    def test_a_file_that_is_no_table_is_refused(self, tmp_path, refused):
        path = tmp_path / "splits.csv"
        path.write_bytes(b"split,patient_id\n1\n")
        with refused(r"splits.csv can't be read .* line 2 has 1 cells"):
            TextTableDataset(filepath=str(path), optional=True).load()

    def test_it_may_be_a_workbook_or_have_semicolons(self, tmp_path):
        (tmp_path / "splits.txt").write_text("split;patient_id;role\n1;007;train\n")
        table = TextTableDataset(filepath=str(tmp_path / "splits.csv"), optional=True).load()
        assert table.to_dict("list") == {"split": ["1"], "patient_id": ["007"], "role": ["train"]}
        assert table.attrs["file"] == "splits.txt"

    def test_nothing_writes_the_users_file(self, tmp_path):
        path = tmp_path / "splits.csv"
        with pytest.raises(DatasetError, match=r"splits.csv is the user's own file"):
            TextTableDataset(filepath=str(path), optional=True).save(pd.DataFrame({"split": ["1"]}))
        assert not path.exists()

    def test_a_file_beyond_any_table_is_refused_unread(self, tmp_path, refused):
        path = tmp_path / "splits.csv"
        path.write_text("split,patient_id,role\n")
        os.truncate(path, MOST_BYTES + 1)
        with refused(f"splits.csv has more than {MOST_BYTES} bytes"):
            TextTableDataset(filepath=str(path), optional=True).load()


class TestPreview:
    def test_kedro_viz_gets_the_first_rows(self, write_cohort):
        root = write_cohort({f"P{n}": {} for n in range(4)})
        shown = TextTableDataset(filepath=str(root / "clinical_annotation.csv")).preview(nrows=3)
        assert shown["columns"][1] == "ID"
        assert [row[1] for row in shown["data"]] == ["P0", "P1", "P2"]

    def test_a_table_that_is_not_there_is_shown_empty(self, tmp_path):
        shown = TextTableDataset(filepath=str(tmp_path / "splits.csv"), optional=True).preview()
        assert shown["data"] == []
