import pytest
from kedro.io import Version

from lymphocytosis.datasets.embeddings import EmbeddingsDataset
from lymphocytosis.datasets.image_store import ImageStoreDataset
from lymphocytosis.datasets.state_dict import StateDictDataset


@pytest.mark.parametrize("kind", [EmbeddingsDataset, ImageStoreDataset, StateDictDataset])
class TestExists:
    def test_only_once_the_path_is_there(self, tmp_path, kind):
        path = tmp_path / "entry"
        assert not kind(filepath=str(path)).exists()
        path.mkdir()
        assert kind(filepath=str(path)).exists()

    def test_only_once_some_version_is_there(self, tmp_path, kind):
        def versioned(load=None):
            return kind(filepath=str(tmp_path / "entry"), version=Version(load, None))

        assert not versioned().exists()
        (tmp_path / "entry" / "2021-01-01").mkdir(parents=True)  # a run that was interrupted
        assert not versioned().exists()
        (tmp_path / "entry" / "2021-01-02" / "entry").mkdir(parents=True)
        assert versioned().exists()
        assert not versioned("2021-01-01").exists()
