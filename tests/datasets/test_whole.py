import struct

import pandas as pd
import pytest
from kedro.io import DatasetError

from lymphocytosis.datasets.image_store import ImageStoreDataset
from lymphocytosis.datasets.state_dict import StateDictDataset
from lymphocytosis.datasets.whole import CSVDataset, PageDataset, ParquetDataset, TextDataset
from lymphocytosis.errors import UserError, causes


def test_a_table_with_another_value_than_was_saved_is_refused(tmp_path, refused):
    path = tmp_path / "predictions.parquet"
    dataset = ParquetDataset(filepath=str(path))
    table = pd.DataFrame({"patient_id": ["P1", "P2"], "probability": [0.125, 0.75]})
    dataset.save(table)
    pd.testing.assert_frame_equal(dataset.load(), table)
    saved, value = path.read_bytes(), struct.pack("<d", 0.75)
    path.write_bytes(saved.replace(value, struct.pack("<d", 0.25), 1))
    assert path.read_bytes() != saved
    with refused(rf"{path} can't be read as Parquet.*run the pipeline that makes it again"):
        dataset.load()


@pytest.mark.parametrize(
    ("dataset", "reader"),
    [
        (ParquetDataset, "pandas.read_parquet"),
        (CSVDataset, "pandas.read_csv"),
        (StateDictDataset, "lymphocytosis.model_files.ZipFile"),
        (ImageStoreDataset, "lymphocytosis.imaging.store.map_pixels"),
    ],
)
def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch, dataset, reader):
    def locked(*arguments, **options):
        raise PermissionError(13, "Permission denied", "locked")

    path = tmp_path / "entry"
    path.write_bytes(b"")
    monkeypatch.setattr(reader, locked)
    with pytest.raises(DatasetError) as caught:
        dataset(filepath=str(path)).load()
    found = list(causes(caught.value))
    assert any(isinstance(cause, PermissionError) for cause in found)
    assert not any(isinstance(cause, UserError) for cause in found)


def test_kedro_viz_shows_a_text(tmp_path):
    dataset = TextDataset(filepath=str(tmp_path / "summary.md"))
    dataset.save("Well done.")
    assert dataset.preview() == "Well done."
    # It goes by the type's name.
    assert TextDataset.preview.__annotations__["return"].__name__ == "TextPreview"


def test_kedro_viz_shows_a_pages_summary_without_its_pictures(tmp_path):
    dataset = PageDataset(filepath=str(tmp_path / "report.html"))
    dataset.save(
        '<html><style>b{}</style><section id="summary"><h2>In short</h2>\n'
        "<p>P1 &amp; P2 <b>are</b> referred.</p>\n</section>"
        '<section id="rest"><img src="data:..."></section></html>'
    )
    assert dataset.preview() == "In short\n\nP1 & P2 are referred."


def test_a_table_in_parts_is_the_table(tmp_path):
    table = pd.DataFrame({"patient_id": ["P1", "P2", "P3"], "row": pd.array([0, None, 1], "Int64")})
    whole, parts = (ParquetDataset(filepath=str(tmp_path / name)) for name in ("a", "b"))
    whole.save(table)
    parts.save(table.iloc[start : start + 2] for start in (0, 2))
    pd.testing.assert_frame_equal(parts.load(), whole.load())
    parts.save(iter([table]))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
