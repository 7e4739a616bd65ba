import pytest
from kedro.io import DatasetError

from lymphocytosis.datasets.bundle_folder import BundleDataset
from lymphocytosis.errors import UserError
from lymphocytosis.system import bundle as module


@pytest.fixture
def calls(monkeypatch):
    """What the dataset asks of `system.bundle`, whose own tests are about the rest."""
    calls = []
    monkeypatch.setattr(module, "read_bundle", lambda *given: calls.append(given) or "a bundle")
    monkeypatch.setattr(module, "check_writable", lambda *given: calls.append(given))

    def write(bundle, folder, key):
        calls.append((bundle, folder, key))
        folder.mkdir()
        (folder / "encoder.pt").write_bytes(bytes(2_000_000))

    monkeypatch.setattr(module, "write_bundle", write)
    return calls


def test_keys_are_read_from_their_files(tmp_path, calls):
    (tmp_path / "mine.pem").write_bytes(b"private")
    (tmp_path / "theirs.pem").write_bytes(b"public")
    keys = {"signing_key": str(tmp_path / "mine.pem"), "trusted_key": str(tmp_path / "theirs.pem")}
    dataset = BundleDataset(filepath=str(tmp_path / "bundle"), **keys)
    dataset.save("a bundle")
    dataset.check()
    assert dataset.load() == "a bundle"
    folder = tmp_path / "bundle"
    assert calls == [
        ("a bundle", folder, b"private"), (folder, b"private"), (folder, b"public"),
    ]  # fmt: skip


def test_no_key_is_needed(tmp_path, calls, caplog):
    dataset = BundleDataset(filepath=str(tmp_path / "bundle"))
    with caplog.at_level("INFO"):
        dataset.save("a bundle")
    assert f"the bundle is {tmp_path / 'bundle'}: 2.0 MB, not signed" in caplog.text
    dataset.load()
    assert [given[-1] for given in calls] == [None, None]


def test_a_key_file_that_is_not_there_is_named_with_its_parameter(tmp_path):
    keys = {name: str(tmp_path / name) for name in ("signing_key", "trusted_key")}
    dataset = BundleDataset(filepath=str(tmp_path / "bundle"), **keys)
    with pytest.raises(UserError, match=r"signing_key: .*signing_key can't be read \(No such file"):
        dataset.check()
    with pytest.raises(DatasetError, match=r"trusted_key: .*trusted_key can't be read"):
        dataset.load()


def test_it_exists_where_its_folder_does(tmp_path):
    assert BundleDataset(filepath=str(tmp_path)).exists()
    assert not BundleDataset(filepath=str(tmp_path / "none")).exists()


def test_kedro_viz_shows_the_model_card(tmp_path):
    (tmp_path / "README.md").write_text("# A model")
    assert BundleDataset(filepath=str(tmp_path)).preview() == "# A model"
