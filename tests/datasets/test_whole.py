import pytest
from kedro.io import DatasetError

from lymphocytosis.datasets.image_store import ImageStoreDataset
from lymphocytosis.datasets.state_dict import StateDictDataset
from lymphocytosis.datasets.whole import CSVDataset, ParquetDataset
from lymphocytosis.errors import UserError, causes


@pytest.mark.parametrize(
    ("dataset", "reader"),
    [
        (ParquetDataset, "pandas.read_parquet"),
        (CSVDataset, "pandas.read_csv"),
        (StateDictDataset, "torch.load"),
        (ImageStoreDataset, "numpy.load"),
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
