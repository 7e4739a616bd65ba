"""Cohort and workspace behind URLs: in fsspec's memory, and on an S3 server where there is one."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from kedro.framework.cli.cli import KedroCLI

from lymphocytosis.datasets.image_store import ImageStoreDataset
from lymphocytosis.datasets.picture_folder import MOST_BYTES, PictureFolderDataset
from lymphocytosis.errors import UserError
from lymphocytosis.hooks import mirror
from lymphocytosis.hooks.mirror import Mirror, mirror_of_url
from lymphocytosis.remote import open_filesystem

REPOSITORY = Path(__file__).parents[1]
SIZES = "image.source_size=40,image.crop=40,image.size=40"
pytestmark = pytest.mark.filterwarnings(
    "ignore:Option '--pipeline'", "ignore:'BaseCommand'", "ignore:Accessing the 'model_fields'"
)


@pytest.fixture(scope="module", params=["memory", "s3"])
def bucket(request):
    """The URL of an empty bucket."""
    if request.param == "memory":
        yield "memory://ward"
        open_filesystem("memory://")[0].store.clear()
        return
    pytest.importorskip("s3fs", reason="needs the extra s3")
    server = pytest.importorskip("moto.server", reason="needs moto, an S3 server")
    served = server.ThreadedMotoServer(port=0)
    served.start()
    host, port = served.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        open_filesystem("s3://ward")[0].mkdir("ward")
        yield "s3://ward"
    served.stop()


@pytest.fixture(scope="module")
def kedro():
    """A function that runs Kedro's command line on a machine of its own."""

    def run(machine, cohort, workspace, *options, params=SIZES):
        arguments = f"--params=cohort_dir={cohort},workspace={workspace},{params}"
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(REPOSITORY)
            patch.setenv("COLUMNS", "1000")
            patch.setenv("XDG_CACHE_HOME", str(machine))
            return CliRunner().invoke(KedroCLI(REPOSITORY), ["run", arguments, *options])

    return run


@pytest.fixture(scope="module")
def cohort(write_cohort):
    labelled = {f"P{n}": {"LABEL": str(n % 2)} for n in range(16)}
    return write_cohort(labelled | {"Q": {"LABEL": "-1", "subset": "test"}})


@pytest.fixture(scope="module")
def ingested(bucket, kedro, cohort, tmp_path_factory):
    """The URL of a workspace after ingest from a URL, and a folder after ingest from a folder."""
    filesystem, root = open_filesystem(bucket)
    filesystem.put(f"{cohort}/", f"{root}/cohort/", recursive=True)
    machine, local = tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("run")
    for given, made in ((f"{bucket}/cohort", f"{bucket}/run"), (cohort, local)):
        result = kedro(machine, given, made, "--pipelines=ingest")
        assert result.exit_code == 0, result.output
    assert f"All of it is at {bucket}/run" not in result.output
    return f"{bucket}/run", local


@pytest.fixture
def another_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return mirror_of_url


def test_ingest_makes_there_what_it_makes_in_a_folder(ingested, another_machine):
    url, local = ingested
    elsewhere = another_machine(url)
    entries = ("02_intermediate/cells.parquet", "02_intermediate/cell_images")
    elsewhere.pull({elsewhere.folder / entry: None for entry in entries})

    def made(folder):
        (table,), (store,) = (
            list((folder / entry).glob(f"*/{Path(entry).name}")) for entry in entries
        )
        return pd.read_parquet(table), ImageStoreDataset(filepath=str(store)).load()

    (cells, images), (cells_here, images_here) = made(elsewhere.folder), made(local)
    pd.testing.assert_frame_equal(cells, cells_here)
    np.testing.assert_array_equal(images, images_here)
    assert len(images) == 34


def test_another_machine_goes_on_with_it(ingested, kedro, cohort, tmp_path):
    url, _ = ingested
    result = kedro(tmp_path, cohort, url, "--nodes=classify.make_splits")
    assert result.exit_code == 0, result.output
    filesystem, root = open_filesystem(url)
    names = [name.removeprefix(f"{root}/") for name in filesystem.find(root)]
    (splits,) = [name for name in names if name.startswith("05_model_input/splits.parquet/")]
    version = Path(splits).parent.name
    # The manifest has come too, and the lock has gone.
    manifest = json.loads(
        filesystem.cat_file(f"{root}/08_reporting/manifest.json/{version}/manifest.json")
    )
    assert (manifest["exit"], list(manifest["outputs"])) == ("done", ["splits"])
    assert ".run.lock" not in names


def test_what_is_missing_there_is_refused_with_the_command_that_makes_it(bucket, kedro, tmp_path):
    result = kedro(tmp_path, tmp_path, f"{bucket}/none", "--pipelines=embed")
    assert result.exit_code == 1
    assert "Make it first, in the same workspace: kedro run --pipelines=ingest" in result.output
    assert not open_filesystem(bucket)[0].exists(f"{open_filesystem(bucket)[1]}/none/.run.lock")


def test_an_object_whose_file_would_lie_elsewhere_is_refused(tmp_path):
    filesystem, root = open_filesystem("memory://hostile")
    name = "08_reporting/manifest.json/../../../../escaped"
    filesystem.store[f"{root}/{name}"] = filesystem.open(f"{root}/x", "wb")
    with pytest.raises(UserError, match=r"holds an object named .*escaped.*outside the workspace"):
        Mirror("memory://hostile", tmp_path / "a/b/c", "me").pull({})
    assert not list(tmp_path.rglob("escaped"))
    filesystem.store.clear()


def test_one_machines_run_keeps_out_anothers_and_not_its_own_after_a_kill(bucket, tmp_path):
    url = f"{bucket}/locked"
    first, other = (Mirror(url, tmp_path / name, name) for name in ("first", "other"))
    first.lock()
    with pytest.raises(UserError, match=rf"Another run is using {url}: process .* remove .*lock"):
        other.lock()
    first.lock()  # the first was killed
    first.unlock()
    other.lock()
    other.unlock()


def test_the_newest_whole_version_comes_and_what_was_removed_there_goes(bucket, tmp_path):
    filesystem, root = open_filesystem(f"{bucket}/versions")
    here = Mirror(f"{bucket}/versions", tmp_path, "here")
    store, table = tmp_path / "02_intermediate/cell_images", tmp_path / "02_intermediate/cells.p"
    days = [f"2026-01-0{day}T00.00.00.000Z" for day in (1, 2, 3)]

    def write(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.parts[-2])

    for day in days:
        for path in (store / day / "cell_images/pixels-00000.npy", table / day / "cells.p"):
            write(path)
        if day != days[-1]:
            write(store / day / "cell_images/image.json")
        here.push(store / day / "cell_images")
        here.push(table / day / "cells.p")
    here.pull({store: None, table: days[1]})
    assert [path.name for path in store.iterdir()] == [days[1]]  # of the last one, a part was sent
    assert [path.name for path in table.iterdir()] == [days[1]]
    filesystem.rm(f"{root}/02_intermediate/cell_images/{days[1]}", recursive=True)
    here.pull({store: None, table: None})
    assert [path.name for path in store.iterdir()] == [days[0]]
    assert (table / days[2] / "cells.p").read_text() == days[2]


def test_a_file_without_versions_is_the_one_there(bucket, tmp_path):
    first, other = (Mirror(f"{bucket}/plain", tmp_path / name, name) for name in ("a", "b"))
    for text in ("once", "more"):
        (first.folder / "03_encoder").mkdir(parents=True, exist_ok=True)
        (first.folder / "03_encoder/training.pt").write_text(text)
        first.push(first.folder / "03_encoder/training.pt")
        other.pull({other.folder / "03_encoder/training.pt": None})
        assert (other.folder / "03_encoder/training.pt").read_text() == text


def test_a_picture_that_can_not_be_read_says_why(bucket, monkeypatch):
    filesystem, root = open_filesystem(f"{bucket}/odd")
    filesystem.pipe({f"{root}/trainset/P1/a.png": b"a", f"{root}/trainset/P1/b.png": b"bb"})
    monkeypatch.setattr("lymphocytosis.datasets.picture_folder.MOST_BYTES", 1)
    assert MOST_BYTES > 1
    first, second = PictureFolderDataset(filepath=f"{bucket}/odd").load()
    assert first.read() == b"a"
    with pytest.raises(OSError, match="has 2 bytes; at most 1 are read"):
        second.read()
    filesystem.rm_file(f"{root}/trainset/P1/a.png")
    with pytest.raises(OSError, match="FileNotFoundError"):
        first.read()


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ("cohort_dir=nowhere://c", r"nowhere://c can't be used: Protocol not known"),
        ("cohort_dir=memory://none", r"There is no cohort folder memory://none"),
        ("bundle=memory://b", r"bundle: memory://b is a URL, and only cohort_dir and workspace"),
        ("workspace=memory://w,compute.nodes=2,compute.rendezvous=h:1", r"2, .* is memory://w:"),
    ],
)
def test_what_can_not_be_used_is_refused(kedro, tmp_path, params, told):
    result = kedro(tmp_path, tmp_path, tmp_path, "--pipelines=ingest", params=params)
    assert result.exit_code == 1
    assert re.search(told, re.sub(r"\s+", " ", result.output)), result.output


def test_a_place_that_can_not_be_reached_is_told_in_one_message(monkeypatch, another_machine):
    def unreachable(*_, **__):
        raise ConnectionError("no route")

    here = another_machine("memory://far")
    monkeypatch.setattr(type(open_filesystem("memory://far")[0]), "find", unreachable)
    with pytest.raises(UserError, match=r"memory://far can't be reached, .*ConnectionError: no"):
        here.pull({})


def test_a_folder_that_can_not_stand_for_it_is_told(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"stands for memory://w, .* Set XDG_CACHE_HOME to another"):
        mirror_of_url("memory://w")


def test_runs_there_are_not_listed(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(REPOSITORY)
    result = CliRunner().invoke(
        KedroCLI(REPOSITORY), ["runs", "list", "--params=workspace=memory://w"]
    )
    assert result.exit_code == 1
    assert "runs are listed and removed in folders alone" in result.output
    assert mirror.mirror_of(tmp_path) is None
