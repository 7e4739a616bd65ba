import re
import shutil
import string
from pathlib import Path

import click
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io import DataCatalog
from kedro_datasets.partitions import PartitionedDataset

from lymphocytosis.datasets.picture_folder import PictureFolderDataset
from lymphocytosis.datasets.state_dict import StateDictDataset
from lymphocytosis.datasets.whole import JSONDataset, ParquetDataset
from lymphocytosis.errors import UserError
from lymphocytosis.hooks.paths import PATHS, absolute_path, make_paths_absolute
from lymphocytosis.model_files import read_model_file, write_model_file

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def context():
    """A function that makes a context, as `kedro run --params=...` does."""
    bootstrap_project(PROJECT)

    def make(**runtime_params):
        with KedroSession.create(PROJECT, runtime_params=runtime_params) as session:
            return session.load_context()

    return make


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("ward", PROJECT / "ward"),
        ("../ward", PROJECT / "../ward"),
        ("/data/ward [3]", "/data/ward [3]"),
        ("~/ward", Path.home() / "ward"),
        ("./~", PROJECT / "~"),
        (2021, PROJECT / "2021"),
    ],
)
def test_paths_are_taken_from_the_project_wherever_the_run_is_started(
    context, monkeypatch, tmp_path, given, meant
):
    monkeypatch.chdir(tmp_path)
    made = context(**dict.fromkeys(PATHS, given))
    assert {made.params[name] for name in PATHS} == {str(meant)}
    catalog = made.catalog
    bundle = catalog.get("bundle")
    assert {str(bundle._folder), bundle._signing_key, bundle._trusted_key} == {str(meant)}
    assert catalog.get("cohort_pictures")._describe()["filepath"] == str(meant)
    assert catalog.get("evaluated_runs")._describe()["path"] == str(meant)
    assert str(catalog.get("cells")._filepath) == f"{meant}/02_intermediate/cells.parquet"
    assert str(catalog.get("large_avg")._filepath) == f"{meant}/07_model_output/large_avg.parquet"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("w.pth", str(PROJECT / "w.pth")),
        ("~/w.pt", str(Path.home() / "w.pt")),
        ("timm", "timm"),
    ],
)
def test_so_is_a_file_of_weights(context, given, meant):
    assert context(encoder={"weights": given}).params["encoder"].weights == meant


def test_a_bundle_is_in_the_workspace_and_no_key_is_given_unless_told(context):
    made = context(workspace="ward")
    assert made.params["bundle"] == str(PROJECT / "ward/06_models/bundle")
    bundle = made.catalog.get("bundle")
    assert str(bundle._folder) == made.params["bundle"]
    assert bundle._signing_key is bundle._trusted_key is None


def test_a_workspace_in_the_users_parameters_is_the_catalogs_too(tmp_path):
    (tmp_path / "local").mkdir()
    (tmp_path / "base").symlink_to(PROJECT / "conf/base")
    (tmp_path / "local/parameters.yml").write_text("workspace: /data/mine\n")
    bootstrap_project(PROJECT)
    with KedroSession.create(PROJECT, conf_source=str(tmp_path)) as session:
        catalog = session.load_context().catalog
    cells = catalog.get("cells")
    assert str(cells._filepath) == "/data/mine/02_intermediate/cells.parquet"
    assert str(catalog.get("bundle")._folder) == "/data/mine/06_models/bundle"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("~nobody-here/x", "home folder meant by ~nobody-here/x is not known"),
        ("ward {3}", "ward {3} contains '{' and '}'"),
        ("ward \udce9", "ward \\udce9' is not in UTF-8"),
        ("", "workspace: String should have at least 1 character"),
        (1.5, "workspace: 1.5 is read as a number. For a path, write ./1.5"),
        (True, "workspace: Input should be a valid string, not True"),
    ],
)
def test_what_can_not_be_used_is_refused_in_one_message(context, given, message):
    with pytest.raises(click.ClickException, match=re.escape(message)):
        context(workspace=given)


def test_a_url_stays_one_for_a_cohort_and_is_a_folder_for_a_workspace(
    context, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = context(cohort_dir="s3://bucket/cohort/", workspace="s3://bucket/run")
    assert made.params["cohort_dir"] == "s3://bucket/cohort"
    folder = Path(made.params["workspace"])
    assert folder.parent == tmp_path / "lymphocytosis"
    assert folder == Path(context(workspace="s3://bucket/run/").params["workspace"])
    assert folder != Path(context(workspace="s3://bucket-run").params["workspace"])
    assert context(cohort_dir="file:///data", workspace="run").params["cohort_dir"] == "/data"


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.text(
        st.sampled_from(string.punctuation.replace("/", " "))
        | st.characters(codec="utf-8", exclude_characters="/\0"),
        min_size=1,
        max_size=20,
    ).filter(lambda name: name not in (".", "..") and len(name.encode()) < 200)
)
@example("ward [3]*?")
def test_any_name_works_or_is_refused(tmp_path, name):
    project = tmp_path / "drawn"
    try:
        folder = absolute_path("workspace", f"./{name}", project)
    except UserError:
        assert set("{}") & set(name)
        return
    config = {
        "{size}_avg": (ParquetDataset, "avg.parquet"),
        "report": (JSONDataset, "report.json"),
        "model": (StateDictDataset, "model.pt"),
    }
    config = {
        entry: {"type": kind, "filepath": f"{folder}/{file}", "versioned": True}
        for entry, (kind, file) in config.items()
    }
    values = {"large_avg": pd.DataFrame({"a": [1]}), "report": {"a": 1}, "model": {"a": 1}}
    for entry, value in values.items():
        DataCatalog.from_config(config, save_version="2026-01-01T00.00.00.000Z").save(entry, value)
        loaded = DataCatalog.from_config(config).load(entry)
        assert loaded.equals(value) if entry == "large_avg" else loaded == value
    made = {"avg.parquet", "model.pt", "report.json"}
    assert {path.name for path in (project / name).iterdir()} == made
    runs = PartitionedDataset(path=folder, filename_suffix="/avg.parquet", dataset=ParquetDataset)
    (load,) = runs.load().values()
    assert load().equals(values["large_avg"])
    (project / name / "trainset/P1").mkdir(parents=True)
    (project / name / "trainset/P1/a.jpg").write_bytes(b"a")
    (picture,) = PictureFolderDataset(filepath=folder).load()
    assert picture.read() == b"a"
    weights = str(project / name / "weights.pth")
    write_model_file({"a": torch.ones(2)}, Path(weights))
    (found,) = read_model_file(Path(weights)).values()
    assert found.tolist() == [1, 1]
    given = {"encoder": {"weights": f"./{name}/weights.pth"}}
    make_paths_absolute(given, project)
    assert given["encoder"]["weights"] == weights
    shutil.rmtree(project)
