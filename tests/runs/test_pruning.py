"""What is kept and what is removed, beside a search that is written out."""

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lymphocytosis.runs.history import Run, find_runs
from lymphocytosis.runs.manifest import File
from lymphocytosis.runs.pruning import choose_kept, remove_run
from tests.runs.conftest import manifest_of, version

ENTRIES = [f"0{number}_x/{name}" for number, name in enumerate("abcd")]


def file_of(made_by, **changes):
    values = {"path": "-", "version": made_by, "size": 1, "modified": 1, "sha256": "0"}
    return File(**values | changes)


@st.composite
def histories(draw):
    """Runs, the newest first: each made some entries from some versions of earlier ones."""
    runs = []
    for number in range(draw(st.integers(1, 8))):
        name, made = version(number), draw(st.sets(st.sampled_from(ENTRIES)))
        there = [(entry, run.version) for run in runs for entry in run.folders]
        loaded = draw(st.sets(st.sampled_from(there))) if there else set()
        inputs = {f"{entry} {of}": file_of(of) for entry, of in loaded}
        traced = draw(st.integers(0, 5)) > 0
        manifest = manifest_of(name, inputs=inputs) if traced else None
        runs.append(Run(name, {entry: Path(entry, name) for entry in made}, manifest))
    return runs[::-1]


@given(histories(), st.integers(1, 3))
def test_nothing_that_a_kept_run_needs_is_removed_and_everything_else_is(runs, keep):
    names = [run.version for run in runs]
    needs = {
        run.version: {file.version for file in run.manifest.inputs.values()}
        if run.manifest
        else {name for name in names if name < run.version}
        for run in runs
    }
    expected = set()
    for entry in ENTRIES:
        holders = [run.version for run in runs if entry in run.folders]
        expected |= set(sorted(holders)[-keep:])
    for _ in runs:  # a chain of runs is no longer than their number
        expected |= {need for name in expected for need in needs[name]}
    assert choose_kept(runs, keep, ENTRIES, Path("nowhere")).keys() == expected


def kept(workspace, keep=1, entries=("06_models/a.pt", "07_model_output/b.csv")):
    return choose_kept(find_runs(workspace), keep, entries, workspace)


class TestKept:
    def test_the_newest_of_each_entry_and_what_it_was_made_from(self, add_run, tmp_path):
        first = add_run(version(0), ["06_models/a.pt"])
        second = add_run(version(1), ["07_model_output/b.csv"], {"06_models/a.pt": first})
        third = add_run(version(2), ["06_models/a.pt"])
        assert kept(tmp_path) == {
            third: "the newest: manifest, a",
            second: "the newest: b",
            first: f"{second} was made from it",
        }

    def test_an_older_one_that_nothing_was_made_from_is_not(self, add_run, tmp_path):
        for number in range(3):
            add_run(version(number), ["06_models/a.pt", "07_model_output/b.csv"])
        assert kept(tmp_path).keys() == {version(2)}
        assert kept(tmp_path, keep=2).keys() == {version(2), version(1)}

    def test_an_entry_that_the_catalog_has_no_more_keeps_no_run(self, add_run, tmp_path):
        add_run(version(0), ["06_models/renamed.pt"])
        add_run(version(1), ["06_models/a.pt"])
        assert kept(tmp_path).keys() == {version(1)}

    def test_what_an_untraced_run_may_have_been_made_from(self, add_run, tmp_path):
        for number in range(3):
            add_run(version(number), ["06_models/a.pt"], traced=number == 1)
        assert kept(tmp_path) == {
            version(2): "the newest: a",
            version(1): "the newest: manifest",
            version(0): f"{version(2)} was made from it",
        }

    def test_the_maker_of_a_bundle_while_it_is_there(self, add_run, tmp_path):
        bundle = {"bundle": file_of(None, path="06_models/bundle")}
        first = add_run(version(0), ["06_models/a.pt"])
        second = add_run(version(1), (), {"06_models/a.pt": first}, outputs=bundle)
        for number in (2, 3):
            add_run(version(number), ["06_models/a.pt", "07_model_output/b.csv"])
        (tmp_path / "06_models/bundle").mkdir()
        assert kept(tmp_path).keys() == {version(3), second, first}
        (tmp_path / "06_models/bundle").rmdir()
        assert kept(tmp_path).keys() == {version(3)}

    def test_the_maker_of_a_bundle_that_a_kept_run_loaded(self, add_run, tmp_path):
        old, new = ({"bundle": file_of(None, sha256=digest)} for digest in ("1", "2"))
        add_run(version(0), outputs=old)
        maker = add_run(version(1), outputs=new)
        add_run(version(2), ["07_model_output/b.csv"], inputs=new)
        assert kept(tmp_path).keys() == {version(2), maker}


class TestRemoved:
    def test_all_versions_of_the_run_and_no_other(self, add_run, tmp_path):
        for number in range(2):
            add_run(version(number), ["06_models/a.pt", "07_model_output/b.csv"])
        (tmp_path / "06_models/bundle").mkdir()
        newest, old = find_runs(tmp_path)
        before = {path for path in tmp_path.rglob("*") if path.is_dir()}
        remove_run(old)
        gone = before - set(tmp_path.rglob("*"))
        assert gone == set(old.folders.values())
        assert find_runs(tmp_path) == [newest]

    def test_links_lead_nowhere(self, tmp_path):
        outside, place = tmp_path / "outside", tmp_path / "ws/06_models/a.pt" / version(0)
        outside.mkdir()
        (outside / "a.pt").write_text("kept")
        place.mkdir(parents=True)
        (place / "a.pt").symlink_to(outside / "a.pt")
        (place / "folder").symlink_to(outside)
        for link in ("06_models/b.pt", "07_model_output"):
            target = outside / link / "c.csv" / version(0)
            target.mkdir(parents=True)
            (target / "c.csv").write_text("kept")
            (tmp_path / "ws" / link).symlink_to(outside / link)
        (run,) = find_runs(tmp_path / "ws")
        assert run.folders == {"06_models/a.pt": place}
        before = sorted(outside.rglob("*"))
        remove_run(run)
        assert not place.exists()
        assert sorted(outside.rglob("*")) == before

    def test_a_killed_removal_leaves_the_rest_to_the_next_one(self, add_run, tmp_path, monkeypatch):
        for number in range(2):
            add_run(version(number), ["06_models/a.pt", "07_model_output/b.csv"])
        newest, old = find_runs(tmp_path)
        removed = []

        def kill(path):
            removed.append(path)
            if len(removed) == 2:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(shutil, "rmtree", kill)
            remove_run(old)
        _, left = find_runs(tmp_path)
        assert list(left.folders) == ["08_reporting/manifest.json"]
        assert left.gone(tmp_path) == ["a", "b"]
        remove_run(left)
        assert find_runs(tmp_path) == [newest]
