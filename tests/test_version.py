import subprocess
from importlib.metadata import version

import pytest

from lymphocytosis.version import code_version

RELEASE = {"version": version("lymphocytosis")}
UNKNOWN = {**RELEASE, "commit": None, "changed": None}


@pytest.fixture
def git(tmp_path):
    """A function that runs git in the repository `project`, which has one commit."""
    project = tmp_path / "project"
    (project / "src").mkdir(parents=True)
    (project / "src/code.py").write_text("1")
    (project / "notes.txt").write_text("1")

    def run(*command):
        who = ["-c", "user.name=x", "-c", "user.email=x"]
        whole = ["git", "-C", project, *who, *command]
        return subprocess.run(whole, check=True, capture_output=True, text=True).stdout.strip()

    run("init", "--quiet")
    run("add", ".")
    run("commit", "--quiet", "--message", "first")
    return run


def test_the_commit_and_whether_the_code_differs_from_it(git, tmp_path):
    project, commit = tmp_path / "project", git("rev-parse", "HEAD")
    assert code_version(project) == {**RELEASE, "commit": commit, "changed": False}
    (project / "notes.txt").write_text("2")
    assert code_version(project)["changed"] is False
    (project / "src/new.py").touch()
    assert code_version(project)["changed"] is True
    (project / "src/new.py").unlink()
    (project / "src/code.py").write_text("2")
    assert code_version(project) == {**RELEASE, "commit": commit, "changed": True}


def test_a_work_tree_beside_the_repository(git, tmp_path):
    git("worktree", "add", "--quiet", tmp_path / "other")
    assert code_version(tmp_path / "other")["commit"] == git("rev-parse", "HEAD")


@pytest.mark.usefixtures("git")
def test_no_other_repository_is_asked(tmp_path, monkeypatch):
    subprocess.run(["git", "init", "--quiet", tmp_path / "empty"], check=True)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "project/.git"))
    assert code_version(tmp_path / "project/src") == UNKNOWN  # the repository is above it
    assert code_version(tmp_path / "empty") == UNKNOWN  # nothing is committed


@pytest.mark.usefixtures("git")
def test_without_git_or_with_a_damaged_repository(tmp_path, monkeypatch):
    project = tmp_path / "project"
    (project / ".git/HEAD").write_text("damaged")
    assert code_version(project) == UNKNOWN
    monkeypatch.setenv("PATH", str(tmp_path))
    assert code_version(project) == UNKNOWN
