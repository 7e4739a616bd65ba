import errno

import pytest

from lymphocytosis.whole_files import appearing_whole, naming, remove_parts


class TestAppearingWhole:
    def test_a_file_appears_at_the_end_and_parents_are_made(self, tmp_path):
        path = tmp_path / "deep" / "file.bin"
        with appearing_whole(path) as temporary:
            temporary.write_bytes(b"half")
            assert not path.exists()
            # The same folder, so that the last step is a rename, which is all or nothing.
            assert temporary.parent == path.parent
        assert path.read_bytes() == b"half"
        assert list(path.parent.iterdir()) == [path]

    def test_a_folder_appears_at_the_end(self, tmp_path):
        path = tmp_path / "folder"
        with appearing_whole(path) as temporary:
            temporary.mkdir()
            (temporary / "a").write_text("1")
            assert not path.exists()
        assert (path / "a").read_text() == "1"
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
    def test_an_interrupted_file_leaves_nothing_and_the_earlier_file_as_it_was(
        self, tmp_path, error
    ):
        path = tmp_path / "file.bin"
        path.write_bytes(b"earlier")
        with pytest.raises(error), appearing_whole(path) as temporary:
            temporary.write_bytes(b"half")
            raise error
        assert path.read_bytes() == b"earlier"
        assert list(tmp_path.iterdir()) == [path]

    def test_an_interrupted_folder_leaves_nothing(self, tmp_path):
        with pytest.raises(ValueError), appearing_whole(tmp_path / "folder") as temporary:
            temporary.mkdir()
            (temporary / "a").write_text("1")
            raise ValueError
        assert list(tmp_path.iterdir()) == []

    def test_an_earlier_folder_is_replaced_with_all_that_it_held(self, tmp_path):
        path = tmp_path / "folder"
        for name in ("old", "new"):
            with appearing_whole(path) as temporary:
                temporary.mkdir()
                (temporary / name).touch()
        assert [file.name for file in path.iterdir()] == ["new"]
        assert list(tmp_path.iterdir()) == [path]

    def test_an_earlier_file_is_replaced(self, tmp_path):
        path = tmp_path / "file.bin"
        path.write_bytes(b"a longer earlier content")
        with appearing_whole(path) as temporary:
            temporary.write_bytes(b"new")
        assert path.read_bytes() == b"new"


def test_parts_of_killed_processes_are_removed_and_nothing_else(tmp_path):
    (tmp_path / "deep").mkdir()
    kept = [tmp_path / "a.pt", tmp_path / "deep/a.part", tmp_path / "deep/.hidden"]
    for path in [*kept, tmp_path / "deep/.a.pt.123.part"]:
        path.touch()
    (tmp_path / "deep/.store.9.earlier.part").mkdir()
    (tmp_path / "deep/.store.9.part").mkdir()
    (tmp_path / "deep/.store.9.part/pixels.npy").touch()
    remove_parts(tmp_path)
    assert sorted(p for p in tmp_path.rglob("*") if p.is_file()) == sorted(kept)
    assert not list(tmp_path.glob("deep/.store*"))


class TestNaming:
    def test_an_operating_system_error_names_the_file(self, tmp_path):
        with pytest.raises(ValueError, match="bad") as caught, appearing_whole(tmp_path / "a.pt"):
            try:
                raise OSError(errno.ENOSPC, "No space left on device")
            except OSError as error:
                raise ValueError("bad") from error
        assert str(caught.value.__cause__).endswith(f"left on device: '{tmp_path / 'a.pt'}'")

    def test_an_error_that_names_its_file_keeps_that_name(self, tmp_path):
        with pytest.raises(OSError, match=r"left on device: 'other'"), naming(tmp_path / "a.pt"):
            raise OSError(errno.ENOSPC, "No space left on device", "other")
