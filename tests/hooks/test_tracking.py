"""Runs in MLflow, with the extra `tracking`; and that without it there is no trace of them."""

from importlib.util import find_spec
from pathlib import Path

import click
import pandas as pd
import pytest
from kedro.config import OmegaConfigLoader
from kedro.io import DataCatalog
from kedro.pipeline import node, pipeline

from lymphocytosis.datasets.bundle_folder import BundleDataset
from lymphocytosis.datasets.figure import FigureDataset
from lymphocytosis.datasets.whole import CSVDataset, ParquetDataset
from lymphocytosis.hooks.tracking import TrackingHooks
from lymphocytosis.parameters import SplitParameters
from lymphocytosis.runs.manifest import write_manifest
from lymphocytosis.settings import HOOKS
from tests.runs.conftest import manifest_of

PROJECT = Path(__file__).parents[2]
RUN = "2026-05-05T12.00.00.000Z"
INSTALLED = find_spec("kedro_mlflow") is not None


@pytest.mark.skipif(INSTALLED, reason="the extra tracking is installed")
def test_without_the_extra_no_hook_of_it_is_there():
    assert not [hooks for hooks in HOOKS if isinstance(hooks, TrackingHooks)]


class Context:
    """What the hooks ask of Kedro's."""

    def __init__(self, workspace):
        self.config_loader = OmegaConfigLoader(
            str(PROJECT / "conf"), base_env="base", default_run_env="base",
            config_patterns={"mlflow": ["mlflow*"]},
        )  # fmt: skip
        self.project_path, self.params = PROJECT, {"workspace": str(workspace)}

    def _get_config_credentials(self):
        return {}


@pytest.mark.skipif(not INSTALLED, reason="the extra tracking is not installed")
class TestTracked:
    @pytest.fixture
    def tracked(self, tmp_path, run_params, monkeypatch):
        """A function that tracks a run to its end; it returns the run, and a client to ask."""
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        monkeypatch.chdir(tmp_path)  # a database elsewhere has its files in the current folder
        workspace = tmp_path / "ws"
        names = {
            "large_history": ParquetDataset, "results": CSVDataset, "patients": ParquetDataset,
            "large_history_plot": FigureDataset,
        }  # fmt: skip
        catalog = DataCatalog.from_config(
            {
                name: {"type": kind, "filepath": f"{workspace}/08_x/{name}", "versioned": True}
                for name, kind in names.items()
            },
            save_version=RUN,
            load_versions=dict.fromkeys(names, RUN),
        )
        catalog["bundle"] = BundleDataset(filepath=str(tmp_path / "bundle"))
        (tmp_path / "bundle").mkdir()
        (tmp_path / "bundle/card.md").write_text("A card.")
        splits = SplitParameters(source="stratified", count=5, validation_share=0.125)
        catalog["parameters"] = {"mil": {"epochs": 3}, "splits": splits}
        catalog["params:workspace"] = str(workspace)
        history = pd.DataFrame({"epoch": [1, 2], "loss": [1.0, 0.5], "split": 1, "kept": False})
        columns = ["method", "test_balanced_accuracy", "out_of_fold_balanced_accuracy"]
        catalog.save("large_history", history)
        catalog.save("results", pd.DataFrame([("large AVG", 0.9, 0.8)], columns=columns))
        catalog.save("patients", pd.DataFrame({"patient_id": ["P1"]}))
        plot = Path(catalog["large_history_plot"]._get_versioned_path(RUN))
        plot.parent.mkdir(parents=True)
        plot.touch()
        write_manifest(workspace, manifest_of(RUN))
        made = pipeline([node(print, None, name, name=name) for name in (*names, "bundle")])

        def track(fails=False, uri=None):
            if uri:
                monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
            hooks, context = TrackingHooks(), Context(workspace)
            hooks.after_context_created(context)
            hooks.before_pipeline_run(run_params, catalog)
            end = hooks.on_pipeline_error if fails else hooks.after_pipeline_run
            end(run_params, made, catalog)
            if hooks.run is None:
                return None, None
            return hooks.client.get_run(hooks.run), hooks.client

        return track

    def test_parameters_metrics_figures_and_bundle(self, tracked, tmp_path):
        run, client = tracked()
        assert run.info.status == "FINISHED"
        assert run.info.run_name == run.data.tags["run"] == RUN
        assert run.data.params == {
            "mil.epochs": "3",
            "splits.source": "stratified",
            "splits.count": "5",
            "splits.validation_share": "0.125",
        }
        losses = client.get_metric_history(run.info.run_id, "large/loss")
        assert [(loss.step, loss.value) for loss in losses] == [(1, 1.0), (2, 0.5)]
        assert run.data.metrics["results/large AVG/out_of_fold_balanced_accuracy"] == 0.8
        files = {file.path for file in client.list_artifacts(run.info.run_id)}
        # No table with a row a patient.
        assert files == {"bundle", "large_history_plot", "manifest.json", "results"}
        assert (tmp_path / "mlflow.db").exists()
        assert list((tmp_path / "mlflow_files").rglob("bundle/card.md"))
        assert not (PROJECT / "mlruns").exists()

    def test_a_failed_run_is_one_and_has_no_bundle(self, tracked):
        run, client = tracked(fails=True)
        assert run.info.status == "FAILED"
        assert "bundle" not in {file.path for file in client.list_artifacts(run.info.run_id)}

    def test_an_address_in_the_environment_is_taken(self, tracked, tmp_path):
        tracked(uri=f"sqlite:///{tmp_path / 'elsewhere.db'}")
        assert (tmp_path / "elsewhere.db").exists()
        assert not (tmp_path / "mlflow.db").exists()

    def test_a_server_that_is_away_costs_a_warning(self, tracked, caplog, monkeypatch):
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        assert tracked(uri="http://127.0.0.1:9") == (None, None)
        assert "MLflow: this run is not tracked: " in caplog.text

    def test_a_mistake_in_the_file_is_refused(self, tmp_path):
        context = Context(tmp_path)
        context.config_loader["mlflow"] = {"sever": {}}
        with pytest.raises(click.ClickException, match=r"(?s)mlflow.yml can't be read.*sever"):
            TrackingHooks().after_context_created(context)
