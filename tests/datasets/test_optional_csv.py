import os

import pandas as pd
import pytest
from kedro.io import DatasetError

from lymphocytosis.datasets.optional_csv import OptionalCSVDataset
from lymphocytosis.datasets.text_table import MOST_BYTES


class TestOptionalCSV:
    def test_no_file_is_none_and_counts_as_there(self, tmp_path):
        dataset = OptionalCSVDataset(filepath=str(tmp_path / "splits.csv"))
        assert dataset.exists()
        assert dataset.load() is None

    def test_a_file_is_read_as_text(self, tmp_path):
        path = tmp_path / "splits.csv"
        path.write_bytes("\ufeffsplit,patient_id,role\r\n1,007,train\r\n".encode())
        table = OptionalCSVDataset(filepath=str(path)).load()
        assert table.to_dict("list") == {"split": ["1"], "patient_id": ["007"], "role": ["train"]}

    def test_a_file_that_is_no_table_is_refused(self, tmp_path, refused):
        path = tmp_path / "splits.csv"
        path.write_bytes(b"split,patient_id\n1\n")
        with refused(r"splits.csv can't be read .* line 2 has 1 cells"):
            OptionalCSVDataset(filepath=str(path)).load()

    def test_it_may_be_a_workbook_or_have_semicolons(self, tmp_path):
        (tmp_path / "splits.txt").write_text("split;patient_id;role\n1;007;train\n")
        table = OptionalCSVDataset(filepath=str(tmp_path / "splits.csv")).load()
        assert table.to_dict("list") == {"split": ["1"], "patient_id": ["007"], "role": ["train"]}
        assert table.attrs["file"] == "splits.txt"

    def test_nothing_writes_the_users_file(self, tmp_path):
        path = tmp_path / "splits.csv"
        with pytest.raises(DatasetError, match=r"splits.csv is the user's own file"):
            OptionalCSVDataset(filepath=str(path)).save(pd.DataFrame({"split": ["1"]}))
        assert not path.exists()

    def test_a_file_beyond_any_table_is_refused_unread(self, tmp_path, refused):
        path = tmp_path / "splits.csv"
        path.write_text("split,patient_id,role\n")
        os.truncate(path, MOST_BYTES + 1)
        with refused(f"splits.csv has more than {MOST_BYTES} bytes"):
            OptionalCSVDataset(filepath=str(path)).load()
