import hashlib
import os
from importlib.metadata import version as version_of

import pytest

from lymphocytosis.runs.manifest import describe, packages, read_manifest, write_manifest
from tests.runs.conftest import manifest_of, version


def test_it_comes_back_as_it_was_written(tmp_path):
    manifest = manifest_of(version(0), parameters={"a": {"b": [1, None]}}, seconds={"n": 0.5})
    write_manifest(tmp_path, manifest)
    path = tmp_path / "08_reporting/manifest.json" / version(0) / "manifest.json"
    assert read_manifest(path) == manifest
    assert [file.name for file in path.parent.iterdir()] == ["manifest.json"]


def test_packages_are_those_that_are_installed():
    found = packages()
    for name in ("kedro", "pandas", "import_linter"):
        assert found[name] == version_of(name)


class TestChecksum:
    def test_of_a_file_is_that_of_its_bytes(self, tmp_path):
        (tmp_path / "a.csv").write_bytes(b"1,2")
        file = describe(tmp_path / "a.csv", tmp_path)
        assert (file.path, file.size) == ("a.csv", 3)
        assert file.sha256 == hashlib.sha256(b"1,2").hexdigest()

    def test_of_a_folder_tells_names_sizes_and_small_files_apart(self, tmp_path, monkeypatch):
        monkeypatch.setattr("lymphocytosis.runs.manifest._LARGE", 4)
        folder = tmp_path / "store"
        (folder / "P1").mkdir(parents=True)
        seen = set()
        for name, content in (
            ("index", b"1"),
            ("index", b"2"),  # a small file's content
            ("pixels", b"12345"),
            ("pixels", b"123456"),  # a large one's size
            ("P1/a.jpg", b"1"),
            ("P1/b.jpg", b"1"),
        ):
            (folder / name).write_bytes(content)
            seen.add(describe(folder, tmp_path).sha256)
        assert len(seen) == 6
        before = describe(folder, tmp_path)
        (folder / "pixels").write_bytes(b"654321")
        (folder / "loop").symlink_to(folder)
        assert describe(folder, tmp_path).sha256 == before.sha256
        assert before.size == len(b"212345611")

    def test_is_known_from_the_run_that_made_the_file_until_that_changes(
        self, add_run, tmp_path, monkeypatch
    ):
        add_run(version(0), ["06_models/a.pt"])
        path = tmp_path / "06_models/a.pt" / version(0) / "a.pt"
        first = describe(path, tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr("lymphocytosis.runs.manifest._digest", pytest.fail)
            assert describe(path, tmp_path, version(0)).sha256 == first.sha256
        os.utime(path, ns=(0, 0))
        path.write_text(path.read_text().upper())
        assert describe(path, tmp_path, version(0)).sha256 != first.sha256

    def test_outside_the_workspace_the_path_is_whole(self, tmp_path):
        (tmp_path / "a.csv").touch()
        file = describe(tmp_path / "a.csv", tmp_path / "ws")
        assert file.path == str(tmp_path / "a.csv")
