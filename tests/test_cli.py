"""The project's commands, as `kedro` runs them."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from filelock import FileLock
from kedro.framework.startup import bootstrap_project

from lymphocytosis.cli import cli
from tests.runs.conftest import add_run, version  # noqa: F401

PROJECT = Path(__file__).parents[1]


@pytest.fixture
def command(tmp_path, monkeypatch):
    """A function that gives a command for the workspace `tmp_path`; it returns what is shown."""
    monkeypatch.chdir(PROJECT)
    bootstrap_project(PROJECT)

    def give(*words, status=0):
        done = CliRunner().invoke(cli, ["runs", *words, f"--params=workspace={tmp_path}"])
        assert done.exit_code == status, done.output
        return done.output

    return give


@pytest.fixture
def three(add_run):  # noqa: F811
    """Three runs: one that made classifiers, one from it, and one that was killed."""
    first = add_run(version(0), ["06_models/large_classifiers.pt"])
    loaded = {"06_models/large_classifiers.pt": first}
    second = add_run(version(1), ["08_reporting/results.csv"], loaded)
    third = add_run(
        version(2), (), loaded, exit=None, ended=None,
        options={"pipeline_names": ["ensemble"], "runtime_params": {"mil": {"epochs": 3}}},
    )  # fmt: skip
    return first, second, third


def test_list(command, three, tmp_path):
    lines = command("list").splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [
        [three[2], "killed"],
        [three[1], "done"],
        [three[0], "done"],
    ]
    assert lines[1].split()[-1] == "ensemble"
    assert max(map(len, lines)) <= 80
    with FileLock(tmp_path / ".run.lock"):
        assert command("list").splitlines()[1].split()[1] == "running"


def test_list_tells_what_is_gone(command, three, tmp_path):
    (tmp_path / "06_models/large_classifiers.pt" / three[0]).rename(tmp_path / "elsewhere")
    assert command("list").splitlines()[-1].endswith("1 gone; everything")


def test_show(command, three):
    told = command("show", three[0][:-1])  # as it begins
    assert "fits more than one run" in command("show", "2026", status=1)
    assert "fits no run" in command("show", "2027", status=1)
    assert f"used by:\n  {three[2]}\n  {three[1]}\n" in told
    newest = command("show")
    assert "kedro run --pipelines=ensemble --params=mil.epochs=3\n" in newest
    assert three[0] in newest.partition("made from:")[2].partition("made:")[0]


def test_diff(command, three):
    told = command("diff", three[0], three[1])
    assert told.startswith(f"A: {three[0]}\nB: {three[1]}\n")
    assert "outputs: 0 in both" in told


class TestPrune:
    @pytest.fixture
    def old(self, add_run):  # noqa: F811
        for number in range(3):
            add_run(version(number), ["06_models/large_classifiers.pt"])

    @pytest.mark.usefixtures("old")
    def test_it_says_what_it_would_remove_and_removes_nothing(self, command, tmp_path):
        before = sorted(tmp_path.rglob("*"))
        told = command("prune", "--keep=2")
        assert sorted(tmp_path.rglob("*")) == before
        kept, _, removed = told.partition("to remove:")
        assert [version(n) in kept for n in range(3)] == [False, True, True]
        assert version(0) in removed
        size = sum(p.stat().st_size for p in before if p.is_file() and version(0) in p.parts)
        assert f"{size} B would be free. Nothing is removed without --yes." in removed

    @pytest.mark.usefixtures("old")
    def test_with_yes_it_removes_them(self, command, tmp_path):
        assert "removed 1 run(s)" in command("prune", "--keep=2", "--yes")
        assert len(list(tmp_path.rglob("large_classifiers.pt/*"))) == 2
        assert "to remove: nothing" in command("prune", "--keep=2", "--yes")
        with FileLock(tmp_path / ".run.lock", blocking=False):
            pass  # it let go of the workspace

    @pytest.mark.usefixtures("old")
    def test_not_while_a_run_uses_the_workspace(self, command, tmp_path):
        before = len(list(tmp_path.rglob("*.pt")))
        with FileLock(tmp_path / ".run.lock"):
            assert "Another run is using" in command("prune", "--keep=1", "--yes", status=1)
        assert len(list(tmp_path.rglob("*.pt"))) == before

    def test_a_run_that_a_newer_one_came_from_stays(self, command, three):
        told = command("prune", "--keep=1")
        assert f"{three[0]}  the newest: large_classifiers" in told
        assert "to remove: nothing" in told

    def test_at_least_one_is_kept(self, command):
        assert "--keep" in command("prune", "--keep=0", status=2)


def test_a_workspace_without_runs(command):
    assert "There is no run in" in command("list", status=1)
