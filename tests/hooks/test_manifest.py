import json
import logging
from hashlib import sha256

import pytest
from kedro.framework.hooks.manager import _create_hook_manager
from kedro.io import DataCatalog
from kedro.pipeline import node, pipeline
from kedro.runner import SequentialRunner, ThreadRunner

from lymphocytosis.datasets.text_table import TextTableDataset
from lymphocytosis.datasets.whole import JSONDataset
from lymphocytosis.errors import UserError
from lymphocytosis.hooks.manifest import ManifestHooks
from lymphocytosis.hooks.timings import TIMINGS
from lymphocytosis.runs.manifest import manifest_path, read_manifest

OLD, NOW = "2024-01-01T00.00.00.000Z", "2026-05-05T12.00.00.000Z"
USE = node(lambda table, number: [len(table), number], ["table", "old"], "made", name="use")
THEN = node(lambda made, rate: [made, rate], ["made", "params:rate"], "last", name="then")


def fail(*_):
    raise UserError("P1 has no cells.")


@pytest.fixture
def run(tmp_path, run_params):
    """A function that runs nodes, with our hooks, and returns what is in the manifest."""
    (tmp_path / "table.tsv").write_text("ID\tLABEL\nP1\t0\n")
    path = tmp_path / "ws/02_x/old.json" / OLD / "old.json"
    path.parent.mkdir(parents=True)
    path.write_text("7")
    manager = _create_hook_manager()
    manager.register(TIMINGS)
    manager.register(ManifestHooks())

    def go(*nodes, runner=None, **changes):
        params = run_params | changes
        catalog = DataCatalog.from_config(
            {
                name: {
                    "type": JSONDataset,
                    "filepath": f"{tmp_path}/ws/02_x/{name}.json",
                    "versioned": True,
                }
                for name in ("old", "made", "last")
            },
            save_version=params["run_id"],
        )
        catalog["table"] = TextTableDataset(filepath=str(tmp_path / "table.csv"))
        parameters = {"workspace": str(tmp_path / "ws"), "rate": 0.5}
        catalog["parameters"] = parameters
        for name, value in parameters.items():
            catalog[f"params:{name}"] = value
        what = {"run_params": params, "pipeline": pipeline(nodes), "catalog": catalog}
        manager.hook.before_pipeline_run(**what)
        try:
            (runner or SequentialRunner()).run(
                what["pipeline"], catalog, manager, run_id=params["run_id"]
            )
        except UserError as error:
            manager.hook.on_pipeline_error(error=error, **what)
        else:
            manager.hook.after_pipeline_run(run_result={}, **what)
        return read_manifest(manifest_path(tmp_path / "ws", params["run_id"]))

    return go


@pytest.mark.parametrize("runner", [SequentialRunner(), ThreadRunner(max_workers=2)])
def test_what_it_read_what_it_made_and_how_long_that_took(run, tmp_path, runner):
    manifest = run(USE, THEN, runner=runner, env="demo")
    assert (manifest.exit, manifest.message) == ("done", None)
    assert manifest.ended > manifest.began
    assert manifest.options == {"env": "demo"}
    assert manifest.parameters["rate"] == 0.5
    assert manifest.code["version"]
    assert manifest.packages["kedro"]
    assert {entry: file.version for entry, file in manifest.inputs.items()} == {
        "old": OLD,
        "table": None,
    }
    assert manifest.inputs["table"].path == str(tmp_path / "table.tsv")
    assert list(manifest.seconds) == ["use", "then"]
    assert set(manifest.outputs) == {"made", "last"}
    for file in (*manifest.outputs.values(), manifest.inputs["old"]):
        content = (tmp_path / "ws" / file.path).read_bytes()
        assert (file.size, file.sha256) == (len(content), sha256(content).hexdigest())


def test_a_failed_run_says_why_and_what_it_had_saved(run):
    manifest = run(USE, node(fail, "made", "last", name="fails"))
    assert (manifest.exit, manifest.message) == ("failed", "P1 has no cells.")
    assert set(manifest.outputs) == {"made"}
    assert "fails" not in manifest.seconds


def test_a_killed_run_has_one_without_an_end(run, tmp_path):
    def die(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(USE, node(die, "made", "last", name="dies"))
    manifest = read_manifest(manifest_path(tmp_path / "ws", NOW))
    assert (manifest.exit, manifest.ended, manifest.outputs) == (None, None, {})
    assert manifest.inputs["old"].version == OLD


def test_a_full_disk_at_the_end_hides_no_error(run, monkeypatch, caplog):
    def full(*_):
        monkeypatch.setattr("lymphocytosis.hooks.manifest.write_manifest", no_room)
        fail()

    def no_room(*_):
        raise OSError("no room")

    with caplog.at_level(logging.WARNING):
        assert run(node(full, "table", "made", name="full")).exit is None
    assert "the manifest can't be completed: no room" in caplog.text


def test_it_is_plain_json(run, tmp_path):
    run(USE)
    content = json.loads(manifest_path(tmp_path / "ws", NOW).read_text())
    assert content["run"] == NOW
