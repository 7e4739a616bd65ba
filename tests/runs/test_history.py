import os

from lymphocytosis.runs.history import find_gone, find_runs
from lymphocytosis.runs.manifest import manifest_path
from tests.runs.conftest import version


def test_runs_are_found_the_newest_first_and_nothing_else_is_one(add_run, tmp_path):
    for number in range(2):
        add_run(version(number), ["06_models/a.pt"], traced=number == 0)
    (tmp_path / "06_models/b.pt" / version(2)).mkdir(parents=True)  # killed while it wrote
    for other in (
        f"06_models/notes/{version(3)}/mine.txt",  # nothing of this name is saved
        "06_models/a.pt/backup/a.pt",
        f".unfinished/a.pt/{version(3)}/a.pt",
        f"mine/a.pt/{version(3)}/a.pt",
        "06_models/bundle/model.pt",
    ):
        path = tmp_path / other
        path.parent.mkdir(parents=True)
        path.touch()
    found = find_runs(tmp_path)
    assert [(run.version, run.exit) for run in found] == [
        (version(2), "untraced"),
        (version(1), "untraced"),
        (version(0), "done"),
    ]
    assert set(found[2].folders) == {"06_models/a.pt", "08_reporting/manifest.json"}


def test_a_damaged_manifest_is_none(add_run, tmp_path):
    add_run(version(0))
    path = manifest_path(tmp_path, version(0))
    path.write_text(path.read_text()[:-20])
    assert find_runs(tmp_path)[0].manifest is None


def test_the_size_is_what_removing_it_frees(add_run, tmp_path):
    add_run(version(0), ["06_models/a.pt", "06_models/b.pt"], traced=False)
    (run,) = find_runs(tmp_path)
    size = len(f"06_models/a.pt of {version(0)}")
    assert run.size == 2 * size
    os.link(run.folders["06_models/a.pt"] / "a.pt", tmp_path / "second_name")
    assert run.size == size


class TestGone:
    def test_a_removed_version_that_is_newer_than_what_is_there(self, add_run, tmp_path):
        for number in range(3):
            add_run(version(number), ["06_models/a.pt", "06_models/b.pt"])
        there = {"a": version(2), "b": version(2)}
        assert find_gone(tmp_path, there) == {}
        (tmp_path / "06_models/a.pt" / version(2)).rename(tmp_path / "elsewhere")
        assert find_gone(tmp_path, there | {"a": version(1)}) == {"a": version(2)}
        assert find_runs(tmp_path)[0].gone(tmp_path) == ["a"]

    def test_the_last_one(self, add_run, tmp_path):
        add_run(version(0), ["06_models/a.pt"])
        (tmp_path / "06_models/a.pt" / version(0)).rename(tmp_path / "elsewhere")
        assert find_gone(tmp_path, {"a": None, "never": None}) == {"a": version(0)}

    def test_an_older_one_is_not_missed(self, add_run, tmp_path):
        for number in range(2):
            add_run(version(number), ["06_models/a.pt"])
        (tmp_path / "06_models/a.pt" / version(0)).rename(tmp_path / "elsewhere")
        assert find_gone(tmp_path, {"a": version(1)}) == {}
