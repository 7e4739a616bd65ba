import pytest
from kedro.io import DatasetError, Version

from lymphocytosis.datasets.embeddings import EmbeddingsDataset
from lymphocytosis.datasets.image_store import ImageStoreDataset
from lymphocytosis.datasets.state_dict import StateDictDataset
from lymphocytosis.datasets.whole import TextDataset


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


@pytest.mark.parametrize("newest", ["2099-01-01T00.00.00.000Z", "backup"])
def test_outside_a_run_too_no_odd_folder_counts_as_the_newest(tmp_path, newest):
    for version in ("2026-01-01T00.00.00.000Z", newest):
        (tmp_path / "note" / version).mkdir(parents=True)
        (tmp_path / "note" / version / "note").write_text(version)
    entry = TextDataset(filepath=str(tmp_path / "note"), version=Version(None, None))
    assert entry.exists()
    with pytest.raises(DatasetError, match=rf"note/{newest}: (later than|not a version name)"):
        entry.load()
    (tmp_path / "note" / newest).rename(tmp_path / "elsewhere")
    assert entry.load() == "2026-01-01T00.00.00.000Z"
