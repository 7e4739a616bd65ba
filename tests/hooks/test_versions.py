import json
import shutil

import pytest
from kedro.io import DataCatalog, MemoryDataset, Version
from kedro.pipeline import Pipeline, node
from kedro.runner import SequentialRunner
from kedro_datasets.partitions import PartitionedDataset

from lymphocytosis.datasets.whole import JSONDataset
from lymphocytosis.errors import UserError
from lymphocytosis.hooks.versions import fix_versions, tell_versions, warn_of_gone
from lymphocytosis.runs.manifest import describe, write_manifest
from tests.runs.conftest import manifest_of

EARLY, LATE, AHEAD = (f"{year}-01-01T00.00.00.000Z" for year in (2024, 2025, 2099))
MAKE = node(lambda: "this run's", None, "made", name="make")
USE = node(lambda made: made, "made", "used", name="use")


@pytest.fixture
def put(tmp_path):
    """A function that puts a version of the entry `made` into the workspace."""

    def write(version, value="another's"):
        path = tmp_path / "made.json" / version / "made.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(value))

    return write


@pytest.fixture
def run(tmp_path, run_params):
    """A function that runs nodes and returns what `use` read; `meanwhile` comes once it began."""

    def go(*nodes, meanwhile=lambda: None, **changes):
        params = run_params | changes
        catalog = DataCatalog.from_config(
            {
                name: {
                    "type": JSONDataset,
                    "filepath": f"{tmp_path}/{name}.json",
                    "versioned": True,
                }
                for name in ("made", "used")
            },
            save_version=params["run_id"],
            load_versions=params["load_versions"],
        )
        pipeline = Pipeline(list(nodes))
        fix_versions(params, pipeline, catalog)
        meanwhile()
        missing = params["only_missing_outputs"]
        SequentialRunner().run(pipeline, catalog, only_missing_outputs=missing)
        return catalog.load("used")

    return go


class TestARunReads:
    def test_the_newest_version(self, run, put):
        put(EARLY)
        put(LATE, "the newest")
        assert run(USE) == "the newest"

    def test_the_version_that_was_the_newest_when_it_began(self, run, put):
        put(EARLY, "the newest")
        assert run(USE, meanwhile=lambda: put(LATE)) == "the newest"

    @pytest.mark.filterwarnings("error")
    def test_what_it_saved_itself_whatever_else_appears(self, run, put):
        put(EARLY)
        assert run(MAKE, USE, meanwhile=lambda: put(AHEAD)) == "this run's"

    def test_the_version_that_it_is_told_to(self, run, put):
        put(EARLY, "the chosen")
        put(LATE)
        put(AHEAD)
        assert run(USE, load_versions={"made": EARLY}) == "the chosen"

    def test_what_was_there_where_only_missing_outputs_are_made(self, run, put):
        put(EARLY, "there already")
        assert run(MAKE, USE, only_missing_outputs=True) == "there already"


class TestRefused:
    @pytest.mark.parametrize("nodes", [[USE], [MAKE, USE]])
    @pytest.mark.parametrize(
        ("folder", "why"), [(AHEAD, "later than 2026-"), ("backup", "not a version name")]
    )
    def test_a_folder_that_would_pass_for_the_newest(self, run, put, tmp_path, nodes, folder, why):
        put(EARLY)
        put(folder)
        with pytest.raises(UserError) as told:
            run(*nodes)
        assert f"{tmp_path}/made.json/{folder}: {why}" in str(told.value)

    def test_once_it_is_moved_away_the_run_works(self, run, put, tmp_path):
        put(EARLY, "the newest")
        put(AHEAD)
        (tmp_path / "made.json" / AHEAD).rename(tmp_path / "elsewhere")
        assert run(USE) == "the newest"

    def test_a_version_to_load_of_what_the_run_makes(self, run, put):
        put(EARLY)
        with pytest.raises(UserError, match="names made, which this run makes itself"):
            run(MAKE, USE, load_versions={"made": EARLY})

    def test_another_workspaces_evaluation_from_the_future(self, tmp_path, run_params):
        for version in (EARLY, AHEAD):
            path = tmp_path / "ward/table.json" / version / "table.json"
            path.parent.mkdir(parents=True)
            path.touch()
        runs = PartitionedDataset(
            path=str(tmp_path), filename_suffix="/table.json", dataset=JSONDataset
        )
        catalog = DataCatalog({"evaluated_runs": runs})
        catalog["params:runs_dir"] = str(tmp_path)
        choose = Pipeline([node(len, "evaluated_runs", "chosen")])
        with pytest.raises(UserError) as told:
            fix_versions(run_params, choose, catalog)
        assert f"1 fault(s).\n  - {tmp_path}/ward/table.json/{AHEAD}" in str(told.value)


def test_folders_without_the_file_and_hidden_ones_are_no_versions(run, put, tmp_path):
    put(EARLY, "the newest")
    put(".trash")
    (tmp_path / "made.json" / "zzz").mkdir()  # a run that was interrupted
    (tmp_path / "made.json" / "Thumbs.db").touch()
    assert run(USE) == "the newest"


class TestRemovedByHand:
    @pytest.fixture
    def warned(self, put, tmp_path, run_params, caplog):
        """A function that tells what is warned of; two runs had made what `USE` loads."""
        for version in (EARLY, LATE):
            put(version)
            path = tmp_path / "made.json" / version / "made.json"
            outputs = {"made": describe(path, tmp_path, version)}
            write_manifest(tmp_path, manifest_of(version, outputs=outputs))

        def warn(*nodes, **changes):
            made = JSONDataset(filepath=f"{tmp_path}/made.json", version=Version(None, None))
            catalog = DataCatalog({"made": made})
            warn_of_gone(run_params | changes, Pipeline(list(nodes)), catalog, tmp_path)
            return caplog.text

        return warn

    def test_nothing_is_said_where_nothing_was(self, warned):
        assert warned(USE) == ""

    def test_the_run_loads_an_older_one(self, warned, tmp_path):
        shutil.rmtree(tmp_path / "made.json" / LATE)
        told = f"made: the version that the run {LATE} saved is gone. This run loads an older one"
        assert f"{told}, {EARLY}." in warned(USE)

    def test_no_other_is_left(self, warned, tmp_path):
        shutil.rmtree(tmp_path / "made.json")
        assert "is gone. No other is left." in warned(USE)

    def test_a_run_that_loads_another_or_makes_it_anew_misses_nothing(self, warned, tmp_path):
        shutil.rmtree(tmp_path / "made.json" / LATE)
        assert warned(USE, load_versions={"made": EARLY}) == ""
        assert warned(MAKE, USE) == ""


def test_reports_are_told_what_the_run_loads_and_makes(put, tmp_path, run_params):
    put(EARLY)
    config = {"type": JSONDataset, "filepath": f"{tmp_path}/made.json", "versioned": True}
    catalog = DataCatalog.from_config({"made": config})
    catalog["versions"] = MemoryDataset(None)
    reads = Pipeline([node(lambda made, versions: 1, ["made", "versions"], "page", name="reads")])
    fix_versions(run_params, reads, catalog)
    tell_versions(run_params["run_id"], reads, catalog, tmp_path)
    assert catalog.load("versions") == {"run": run_params["run_id"], "made": EARLY}


def test_reports_are_told_the_parameters_of_the_evaluations_run(tmp_path, run_params):
    write_manifest(tmp_path, manifest_of(EARLY, parameters={"evaluation": {"folds": 7}}))
    place = tmp_path / "evaluation.json" / EARLY / "evaluation.json"
    place.parent.mkdir(parents=True)
    place.write_text("1")
    config = {"type": JSONDataset, "filepath": f"{tmp_path}/evaluation.json", "versioned": True}
    catalog = DataCatalog.from_config({"evaluation": config})
    for entry in ("versions", "evaluated_with"):
        catalog[entry] = MemoryDataset(None)
    reads = Pipeline([node(lambda *given: 1, list(catalog), "page", name="reads")])
    fix_versions(run_params, reads, catalog)
    tell_versions(run_params["run_id"], reads, catalog, tmp_path)
    assert catalog.load("evaluated_with") == {"evaluation": {"folds": 7}}
