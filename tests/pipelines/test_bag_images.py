"""The end-to-end baseline on a tiny simulated cohort, through Kedro as a user runs it."""

import hashlib
from pathlib import Path

import click
import pytest
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

PROJECT = Path(__file__).parents[2]
TINY = {
    "simulation": {
        "train_reactive": 4, "train_tumoral": 6, "test": 3, "min_cells": 2, "max_cells": 3,
        "picture_size": 64, "test_labels": "shown",
    },
    "image": {"source_size": 64, "crop": 48, "size": 40},
    "encoder": {"name": "test_efficientnet", "weights": "random"},
    "mil": {"embedding_width": 8, "hidden_widths": [8, 4], "dropout": 0.3},
    "bag_images": {"epochs": 1, "chunk": 7},
    "splits": {"validation_share": 0.25},
}  # fmt: skip
MADE = ("simulate", "ingest", "bag_images")


def run(folder, names=MADE, **changes):
    places = {"cohort_dir": str(folder / "cohort"), "workspace": str(folder / "out")}
    bootstrap_project(PROJECT)
    parameters = {**places, **TINY, **changes}
    with KedroSession.create(PROJECT, env="demo", runtime_params=parameters) as session:
        session.run(pipeline_names=list(names))
        return session.load_context().catalog


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder, run(folder)


def digests(folder):
    """The digest of the newest version of every file, by the entry's name; less the manifest."""
    files = sorted(path for path in folder.glob("0[5-8]*/*/*/*") if path.is_file())
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.name != "manifest.json"
    }


class TestOutputs:
    def test_every_entry_of_the_pipeline_is_there(self, finished):
        _, catalog = finished
        for name in pipelines["bag_images"].all_outputs():
            assert catalog.exists(name), name

    def test_fifteen_predictions_for_each_test_patient(self, finished):
        _, catalog = finished
        patients, table = catalog.load("patients"), catalog.load("pictures_predictions")
        test = set(patients.loc[patients["subset"] == "test", "patient_id"])
        assert set(table["patient_id"]) == test
        assert (table.groupby("patient_id").size() == 15).all()
        assert (table.groupby("patient_id")["split"].nunique() == 5).all()

    def test_out_of_fold_predictions_are_of_validation_patients_only(self, finished):
        _, catalog = finished
        splits, table = catalog.load("splits"), catalog.load("pictures_out_of_fold")
        held_out = splits[splits["role"] == "validation"]
        asked = set(zip(held_out["split"], held_out["patient_id"], strict=True))
        assert set(zip(table["split"], table["patient_id"], strict=True)) == asked
        assert len(table) == 3 * len(asked)

    def test_decisions_follow_from_the_predictions(self, finished):
        _, catalog = finished
        by_patient = catalog.load("pictures_predictions").groupby("patient_id")["probability"]
        submission = catalog.load("submission_pictures_avg").set_index("ID")["Predicted"]
        assert submission.to_dict() == (by_patient.mean() >= 0.5).astype(int).to_dict()
        results = catalog.load("bag_images_results")
        assert list(results["method"]) == ["bag-images AVG", "bag-images SA (corrected)"]
        assert results[["test_reactive", "test_tumoral"]].sum(axis=1).tolist() == [3, 3]

    def test_the_same_seed_makes_the_same_bytes(self, finished):
        folder, _ = finished
        before = digests(folder / "out")
        run(folder, ["bag_images"])
        after = digests(folder / "out")  # of each entry the newer version, which sorts last
        assert len(list((folder / "out/06_models/pictures_classifiers.pt").iterdir())) == 2
        assert {name for name in before if before[name] != after[name]} == set()
        assert "pictures_classifiers.pt" in before
        assert "submission_pictures_sa.csv" in before


class TestTheRegistry:
    def test_its_pipeline_is_no_part_of_the_default_one(self):
        bootstrap_project(PROJECT)
        assert "pictures_classifiers" not in pipelines["__default__"].all_outputs()

    def test_run_with_classify_it_shares_the_splits(self):
        bootstrap_project(PROJECT)
        both = pipelines["classify"] + pipelines["bag_images"]
        assert sum("splits" in node.outputs for node in both.nodes) == 1

    def test_its_nodes_are_tagged_and_gpu_work_with_gpu(self):
        bootstrap_project(PROJECT)
        nodes = pipelines["bag_images"].nodes
        assert all("bag_images" in node.tags for node in nodes)
        gpu = {node.name.split("__")[0] for node in nodes if "gpu" in node.tags}
        assert gpu == {"bag_images.train_picture_classifiers", "bag_images.predict_from_pictures"}

    def test_missing_splits_are_still_said_to_be_made_by_classify(self, tmp_path):
        with pytest.raises(click.ClickException, match=r"splits.*--pipelines=.*classify"):
            run(tmp_path, ["ensemble"])


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ({"name": "tf_eff", "weights": "random"}, r"encoder\.name.*no model 'tf_eff'"),
        ({"name": "resnet18", "weights": "/none/weights.pth"}, r"encoder\.weights.*no file"),
    ],
)
def test_a_wrong_encoder_is_refused_before_any_work(tmp_path, encoder, message):
    with pytest.raises(click.ClickException, match=message):
        run(tmp_path, encoder=encoder)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mil", [{"classifier": "logistic"}, {"components": 8}])
def test_classifiers_that_need_no_gradient_are_refused_before_any_work(finished, mil):
    folder, _ = finished
    with pytest.raises(click.ClickException, match="trains encoder and classifier as one"):
        run(folder, ["bag_images"], mil=TINY["mil"] | mil)
