import os
from pathlib import Path

import pytest

from lymphocytosis.datasets.picture_folder import MOST_BYTES, PictureFolderDataset


def load(root, **options):
    return PictureFolderDataset(filepath=str(root), **options).load()


@pytest.fixture
def cohort(tmp_path):
    """A function that writes empty files by their paths; returns the cohort's folder."""

    def write(*paths):
        root = tmp_path / "cohort"
        for path in paths:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).touch()
        return root

    return write


class TestListing:
    def test_each_file_is_listed_with_its_patient_and_subset(self, cohort):
        files = load(cohort("testset/P71/b.jpg", "trainset/007/a.jpg"))
        assert [(file.subset, file.patient_id, file.image_id, file.path) for file in files] == [
            ("train", "007", "a.jpg", "trainset/007/a.jpg"),
            ("test", "P71", "b.jpg", "testset/P71/b.jpg"),
        ]

    def test_files_are_sorted_by_name_whatever_the_disks_order(self, cohort, monkeypatch):
        names = [f"trainset/{patient}/{n}.jpg" for patient in ("P1", "P10", "P2") for n in "ab"]
        root = cohort(*reversed(names))
        listed = Path.iterdir
        monkeypatch.setattr(Path, "iterdir", lambda path: sorted(listed(path), reverse=True))
        assert [file.path for file in load(root)] == names

    @pytest.mark.parametrize("name", ["a b", "Ä 7", "a;b'c", "100%", "[bold]", "é\u0301"])
    def test_odd_letters_in_names_are_kept(self, cohort, name):
        files = load(cohort(f"trainset/{name}/{name}.jpg"))
        assert [(file.patient_id, file.image_id) for file in files] == [(name, f"{name}.jpg")]

    def test_a_patient_has_the_normal_form_of_the_folders_name(self, cohort):
        (file,) = load(cohort("trainset/Pe\u0301 /e\u0301.jpg"))
        assert (file.patient_id, file.image_id) == ("P\u00e9", "e\u0301.jpg")
        assert file.path == "trainset/Pe\u0301 /e\u0301.jpg"
        assert file.read() == b""

    def test_hidden_files_are_passed_over(self, cohort):
        root = cohort(
            "trainset/P1/a.jpg", "trainset/P1/.DS_Store", "trainset/.P2/a.jpg", "trainset/.b.jpg"
        )
        assert [file.path for file in load(root)] == ["trainset/P1/a.jpg"]

    def test_other_things_in_a_patients_folder_are_listed_not_hidden(self, cohort):
        root = cohort("trainset/P1/Thumbs.db", "trainset/P1/more/a.jpg")
        assert [file.path for file in load(root)] == ["trainset/P1/Thumbs.db", "trainset/P1/more"]

    def test_no_file_is_opened(self, cohort):
        root = cohort("trainset/P1/a.jpg")
        os.mkfifo(root / "trainset/P1/b.jpg")  # to open it would wait for ever
        assert len(load(root)) == 2


class TestReading:
    def test_gives_the_files_bytes(self, cohort):
        root = cohort("trainset/P1/a.jpg")
        (root / "trainset/P1/a.jpg").write_bytes(b"content")
        assert load(root)[0].read() == b"content"

    @pytest.fixture
    def secret(self, tmp_path):
        path = tmp_path / "elsewhere" / "secret.jpg"
        path.parent.mkdir()
        path.write_bytes(b"secret")
        return path

    def test_a_link_out_of_the_folder_is_never_read(self, cohort, secret):
        root = cohort("trainset/P1/a.jpg")
        (root / "trainset/P1/b.jpg").symlink_to(secret)
        (root / "trainset/P1/c.jpg").symlink_to("../../../elsewhere/secret.jpg")
        for file in load(root)[1:]:
            with pytest.raises(OSError, match="a link that leads out of the cohort's folder"):
                file.read()

    @pytest.mark.parametrize("linked", ["trainset/P1", "trainset"])
    def test_nor_is_a_file_in_a_linked_folder(self, cohort, tmp_path, linked):
        root = cohort("testset/P2/a.jpg", "trainset/P1/secret.jpg")
        (root / linked).rename(tmp_path / "elsewhere")
        (root / linked).symlink_to(tmp_path / "elsewhere")
        file = load(root)[0]
        assert file.path == "trainset/P1/secret.jpg"
        with pytest.raises(OSError, match="a link that leads out of the cohort's folder"):
            file.read()

    def test_a_link_within_the_folder_is_read(self, cohort):
        root = cohort("trainset/P1/a.jpg")
        (root / "trainset/P1/a.jpg").write_bytes(b"content")
        (root / "trainset/P1/b.jpg").symlink_to("a.jpg")
        assert [file.read() for file in load(root)] == [b"content", b"content"]

    def test_the_cohorts_folder_may_itself_be_a_link(self, cohort, tmp_path):
        root = cohort("trainset/P1/a.jpg")
        (root / "trainset/P1/a.jpg").write_bytes(b"content")
        (tmp_path / "link").symlink_to(root)
        assert load(tmp_path / "link")[0].read() == b"content"

    def test_a_link_to_itself_is_not_read(self, cohort):
        root = cohort("trainset/P1/a.jpg")
        (root / "trainset/P1/b.jpg").symlink_to("b.jpg")
        with pytest.raises(OSError, match=r"a link that leads to itself|not a file"):
            load(root)[1].read()

    def test_what_is_no_file_is_not_read(self, cohort):
        root = cohort("trainset/P1/more/a.jpg")
        os.mkfifo(root / "trainset/P1/pipe.jpg")
        (root / "trainset/P1/void.jpg").symlink_to("nowhere.jpg")
        files = load(root)
        assert len(files) == 3
        for file in files:
            with pytest.raises(OSError, match="not a file"):
                file.read()

    def test_a_file_beyond_any_picture_is_not_read(self, cohort):
        root = cohort("trainset/P1/a.jpg")
        os.truncate(root / "trainset/P1/a.jpg", MOST_BYTES + 1)
        with pytest.raises(OSError, match=f"has {MOST_BYTES + 1} bytes"):
            load(root)[0].read()


class TestRefusals:
    def test_no_such_folder(self, tmp_path, refused):
        with refused(rf"There is no cohort folder {tmp_path}/nowhere.*cohort_dir"):
            load(tmp_path / "nowhere")

    def test_a_file_is_no_folder(self, tmp_path, refused):
        (tmp_path / "cohort").touch()
        with refused(rf"There is no cohort folder {tmp_path}/cohort"):
            load(tmp_path / "cohort")

    def test_neither_trainset_nor_testset(self, cohort, refused):
        root = cohort("train/P1/a.jpg", "notes.txt")
        with refused(r"neither trainset/ nor testset/; it has: notes.txt, train\."):
            load(root)

    @pytest.mark.parametrize("files", [[], ["trainset/P2/.hidden"]])
    def test_an_empty_patients_folder_is_reported(self, cohort, files):
        root = cohort("trainset/P1/a.png", *files)
        (root / "trainset/P2").mkdir(exist_ok=True)
        files = load(root)
        assert [file.path for file in files] == ["trainset/P1/a.png"]
        assert files.empty_folders == ["trainset/P2"]

    @pytest.mark.parametrize("other", ["Pe\u0301", "P\u00e9 "])
    def test_two_folders_of_one_name(self, cohort, refused, other):
        root = cohort("trainset/P\u00e9/a.png", f"trainset/{other}/a.png")
        with refused(r"trainset/P.*: names of folders that differ in blanks or in Unicode's"):
            load(root)

    def test_folders_without_a_picture(self, cohort, refused):
        root = cohort("trainset/P1/.hidden", "testset/README")
        with refused(r"The folders trainset, testset in .* hold no pictures"):
            load(root)

    def test_a_picture_outside_any_patients_folder(self, cohort, refused):
        root = cohort("trainset/P1/a.jpg", "testset/b.JPG", "testset/README")
        with refused(r"testset/b.JPG: pictures without a patient"):
            load(root)

    def test_of_many_such_pictures_ten_are_named(self, cohort, refused):
        root = cohort(*(f"trainset/{n}.jpg" for n in range(10, 23)))
        with refused(r"trainset/10.jpg, .*trainset/19.jpg and 3 more: pictures without a patient"):
            load(root)

    @pytest.mark.parametrize("name", [b"P\xe9/a.jpg", b"P1/\xe9.jpg"])
    def test_a_name_that_no_table_can_hold(self, cohort, refused, name):
        root = cohort("trainset/P1/a.jpg", "trainset/" + os.fsdecode(name))
        with refused(r"trainset/P.*\\udce9.*: these names are not in UTF-8.*PYTHONUTF8=1"):
            load(root)

    def test_a_folder_that_can_not_be_listed(self, cohort, refused, monkeypatch):
        root = cohort("trainset/P1/a.jpg")
        listed = os.scandir

        def scandir(path):
            if Path(path).name == "P1":
                raise PermissionError(13, "Permission denied", str(path))
            return listed(path)

        monkeypatch.setattr(os, "scandir", scandir)
        with refused(r"can't be listed: .*Permission denied: '.*trainset/P1'"):
            load(root)

    def test_a_folder_that_may_not_be_entered(self, cohort, refused, monkeypatch):
        root = cohort("trainset/P1/a.jpg")

        def is_dir(path):
            if path.parent == root:
                raise PermissionError(13, "Permission denied", str(path))
            return True

        monkeypatch.setattr(Path, "is_dir", is_dir)
        with refused(rf"folder {root} can't be listed: .*Permission denied: '.*cohort/trainset'"):
            load(root)
        # Asked before a run; `load` tells the reason.
        assert not PictureFolderDataset(filepath=str(root)).exists()


class TestNewPatients:
    """Folders of patients straight in the cohort's folder."""

    @pytest.fixture
    def load_new(self):
        return lambda root: load(root, new_patients=True)

    def test_each_folder_with_a_picture_is_a_patient(self, cohort, load_new):
        files = load_new(cohort("P2/b.jpg", "P2/notes.txt", "007/a.TIF", ".P3/a.jpg", "table.csv"))
        assert [(file.patient_id, file.image_id, file.path) for file in files] == [
            ("007", "a.TIF", "007/a.TIF"),
            ("P2", "b.jpg", "P2/b.jpg"),
            ("P2", "notes.txt", "P2/notes.txt"),
        ]
        assert files.empty_folders == files.folders_beside == []
        assert files[0].read() == b""

    def test_a_folder_without_one_is_told(self, cohort, load_new):
        root = cohort("P1/a.png", "results/more/a.png", "notes/a.txt", "P2/.a.png")
        (root / "P3").mkdir()
        files = load_new(root)
        assert {file.patient_id for file in files} == {"P1"}
        assert files.empty_folders == ["P2", "P3", "notes", "results"]

    def test_so_is_one_in_testset(self, cohort, load_new):
        files = load_new(cohort("testset/P1/a.png", "testset/P2/notes.txt"))
        assert [file.path for file in files] == ["testset/P1/a.png"]
        assert files.empty_folders == ["testset/P2"]

    @pytest.mark.parametrize("subset", ["trainset", "testset"])
    def test_beside_a_subset_none_is_a_patient(self, cohort, load_new, subset):
        files = load_new(cohort(f"{subset}/P1/a.png", "P2/a.png", "b.png", ".hidden/a.png"))
        assert [file.path for file in files] == [f"{subset}/P1/a.png"]
        assert files.folders_beside == ["P2"]

    def test_a_picture_outside_any_patients_folder(self, cohort, refused, load_new):
        root = cohort("P1/a.jpg", "b.JPG", "README")
        told = r"b.JPG: pictures without a patient; .* folder, as <patient>/<picture>\.$"
        with refused(told):
            load_new(root)

    @pytest.mark.parametrize("other", ["Pe\u0301", "P\u00e9 "])
    def test_two_folders_of_one_name(self, cohort, refused, load_new, other):
        with refused(r"'P.*: names of folders that differ in blanks or in Unicode's"):
            load_new(cohort("P\u00e9/a.png", f"{other}/a.png"))

    @pytest.mark.parametrize("paths", [["notes/a.txt"], ["clinical_annotation.csv"]])
    def test_no_picture_at_all(self, cohort, refused, load_new, paths):
        with refused(r"The patients' folders in .*/cohort hold no pictures\."):
            load_new(cohort(*paths))

    def test_a_folder_that_leads_out_is_never_read(self, cohort, tmp_path, load_new):
        root = cohort("P1/a.jpg", "P2/secret.jpg")
        (root / "P2").rename(tmp_path / "elsewhere")
        (root / "P2").symlink_to(tmp_path / "elsewhere")
        file = load_new(root)[1]
        with pytest.raises(OSError, match="a link that leads out of the cohort's folder"):
            file.read()

    def test_it_is_there_before_a_run(self, cohort, tmp_path):
        root = cohort("P1/a.jpg")
        assert PictureFolderDataset(filepath=str(root), new_patients=True).exists()
        assert not PictureFolderDataset(filepath=str(root)).exists()
        nowhere = PictureFolderDataset(filepath=str(tmp_path / "none"), new_patients=True)
        assert not nowhere.exists()


class TestSimulated:
    """What `simulate` writes, and what it never writes over."""

    def save(self, root, *paths):
        data = ((path, path.encode()) for path in paths)
        PictureFolderDataset(filepath=str(root)).save(data)

    def contents(self, root):
        return {
            path.relative_to(root).as_posix(): path.read_bytes()
            for path in root.rglob("*")
            if path.is_file() and not path.name.startswith(".")
        }

    def test_what_is_saved_is_listed_and_read(self, tmp_path):
        self.save(tmp_path / "new" / "cohort", "testset/P2/b.jpg", "trainset/P1/a.jpg")
        files = load(tmp_path / "new" / "cohort")
        assert [file.path for file in files] == ["trainset/P1/a.jpg", "testset/P2/b.jpg"]
        assert [file.read() for file in files] == [b"trainset/P1/a.jpg", b"testset/P2/b.jpg"]

    def test_an_earlier_simulated_cohort_is_replaced_whole(self, tmp_path):
        self.save(tmp_path, "trainset/P1/a.jpg", "testset/P2/b.jpg")
        self.save(tmp_path, "trainset/P1/c.jpg")
        assert self.contents(tmp_path) == {"trainset/P1/c.jpg": b"trainset/P1/c.jpg"}

    def test_an_interrupted_one_too(self, tmp_path):
        def broken():
            yield "trainset/P1/a.jpg", b"a"
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            PictureFolderDataset(filepath=str(tmp_path)).save(broken())
        self.save(tmp_path, "trainset/P1/c.jpg")
        assert list(self.contents(tmp_path)) == ["trainset/P1/c.jpg"]

    @pytest.mark.parametrize(
        "path", ["trainset/P1/a.jpg", "clinical_annotation.csv", "notes.txt", ".hidden"]
    )
    def test_a_folder_that_holds_anything_else_is_refused_and_left_as_it_is(
        self, cohort, refused, path
    ):
        root = cohort(path)
        (root / path).write_bytes(b"precious")
        with refused(rf"simulate would write over {root}.*cohort_dir"):
            self.save(root, "trainset/P1/a.jpg")
        assert [file for file in root.rglob("*") if file.is_file()] == [root / path]
        assert (root / path).read_bytes() == b"precious"

    def test_a_file_is_refused_and_left_as_it_is(self, tmp_path, refused):
        (tmp_path / "cohort").write_bytes(b"precious")
        with refused(rf"simulate needs a folder, and {tmp_path}/cohort is a file"):
            self.save(tmp_path / "cohort", "trainset/P1/a.jpg")
        assert (tmp_path / "cohort").read_bytes() == b"precious"
