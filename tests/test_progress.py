import logging
import struct

import pandas as pd
import pytest
import torch

from lymphocytosis.progress import Progress
from lymphocytosis.whole_files import remove_parts

TABLE = pd.DataFrame({"split": [1, 2], "loss": [0.1, float("nan")], "kept": [True, False]})


@pytest.fixture
def progress(tmp_path):
    progress = Progress(tmp_path / "work")
    progress.begin({"the parameter seed": 0, "the pictures": "abc"})
    progress.save_values("epoch", {"weights": torch.arange(3.0), "losses": [0.1, 0.2]})
    progress.save_table("split-1", TABLE)
    return progress


def again(tmp_path, **changes):
    progress = Progress(tmp_path / "work")
    progress.begin({"the parameter seed": 0, "the pictures": "abc"} | changes)
    return progress


class TestParts:
    def test_are_found_by_the_next_run_to_the_bit(self, progress, tmp_path):
        found = again(tmp_path)
        values = found.values("epoch")
        assert values["losses"] == [0.1, 0.2]
        assert torch.equal(values["weights"], torch.arange(3.0))
        pd.testing.assert_frame_equal(found.table("split-1"), TABLE, check_exact=True)

    def test_that_were_never_saved_are_none(self, progress):
        assert progress.values("split-1") is None
        assert progress.table("epoch") is None

    @pytest.mark.parametrize("name", ["epoch.pt", "split-1.parquet"])
    @pytest.mark.parametrize("damage", [b"", b"\x80\x02garbage", None])
    def test_that_are_damaged_are_done_again(self, progress, tmp_path, caplog, name, damage):
        path = tmp_path / "work" / name
        path.write_bytes(path.read_bytes()[:-9] if damage is None else damage)
        found = again(tmp_path)
        assert (found.values("epoch") if name == "epoch.pt" else found.table("split-1")) is None
        assert "computed again" in caplog.text

    @pytest.mark.parametrize("name", ["epoch.pt", "split-1.parquet"])
    def test_with_another_value_than_was_saved_are_done_again(
        self, progress, tmp_path, caplog, name
    ):
        path, value = tmp_path / "work" / name, struct.pack("<f", 2.0)
        if name == "split-1.parquet":
            value = struct.pack("<d", 0.1)
        saved = path.read_bytes()
        place = saved.index(value)
        path.write_bytes(saved[:place] + bytes([value[0] ^ 1]) + saved[place + 1 :])
        found = again(tmp_path)
        assert (found.values("epoch") if name == "epoch.pt" else found.table("split-1")) is None
        assert "computed again" in caplog.text

    def test_are_gone_after_clear(self, progress, tmp_path):
        progress.clear()
        assert not (tmp_path / "work").exists()
        assert again(tmp_path).values("epoch") is None

    def test_that_cannot_be_removed_are_not_found(self, progress, tmp_path, monkeypatch):
        monkeypatch.setattr("lymphocytosis.progress.shutil.rmtree", lambda *_, **__: None)
        progress.clear()
        found = again(tmp_path, **{"the pictures": "abd"})
        assert found.values("epoch") is None
        assert found.table("split-1") is None

    def test_what_a_kill_leaves_while_clearing_up_the_next_run_removes(
        self, progress, tmp_path, monkeypatch, caplog
    ):
        def killed(folder):
            (folder / "made_from.json").unlink()
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("lymphocytosis.progress.shutil.rmtree", killed)
            with pytest.raises(KeyboardInterrupt):
                progress.clear()
        remove_parts(tmp_path)
        assert list(tmp_path.iterdir()) == []
        assert again(tmp_path).values("epoch") is None
        assert not caplog.records


class TestPartsOfAPart:
    def test_are_found_by_the_next_run_and_go_with_it_alone(self, progress, tmp_path):
        for name in ("fold-1", "fold-2"):
            progress.part(name).save_table("large", TABLE)
        found = again(tmp_path)
        found.part("fold-1").clear()
        assert found.part("fold-1").table("large") is None
        assert found.part("fold-2").table("large") is not None
        assert found.table("split-1") is not None

    def test_go_with_the_whole(self, progress, tmp_path):
        progress.part("fold-1").save_table("large", TABLE)
        assert again(tmp_path, **{"the pictures": "abd"}).part("fold-1").table("large") is None

    def test_without_a_folder_none_is_kept(self):
        Progress(None).part("fold-1").save_table("large", TABLE)
        assert Progress(None).part("fold-1").table("large") is None


class TestAnotherWork:
    @pytest.mark.parametrize(
        "changes", [{"the parameter seed": 1}, {"the pictures": "abd"}, {"the folds": 5}]
    )
    def test_reuses_nothing_and_says_what_changed(self, progress, tmp_path, caplog, changes):
        found = again(tmp_path, **changes)
        assert found.values("epoch") is None
        assert found.table("split-1") is None
        (name,) = changes
        assert f"this has changed: {name}. Starting from the beginning" in caplog.text

    def test_other_code_or_another_torch_is_another_work(
        self, progress, tmp_path, caplog, monkeypatch
    ):
        monkeypatch.setattr(
            "lymphocytosis.progress.software", lambda: {"the version of torch": "0"}
        )
        assert again(tmp_path).values("epoch") is None
        assert "the version of torch" in caplog.text

    @pytest.mark.parametrize("note", ["", "{", "[]", '"a"'])
    def test_a_damaged_note_counts_as_other_work(self, progress, tmp_path, caplog, note):
        (tmp_path / "work/made_from.json").write_text(note)
        assert again(tmp_path).values("epoch") is None
        assert "the note of what it was made from, which is missing or damaged." in caplog.text

    def test_the_note_names_no_patient(self, tmp_path):
        Progress(tmp_path / "work").begin({"the table of patients": "P01,F,1950"})
        assert "P01" not in (tmp_path / "work/made_from.json").read_text()


def test_the_same_work_is_taken_up_without_a_word(progress, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    assert again(tmp_path).values("epoch")
    assert not caplog.records


def test_without_a_folder_nothing_is_kept():
    progress = Progress(None)
    progress.begin({"the parameter seed": 0})
    progress.save_values("epoch", {"weights": torch.zeros(1)})
    progress.save_table("split-1", TABLE)
    assert progress.values("epoch") is None
    assert progress.table("split-1") is None
    progress.clear()
