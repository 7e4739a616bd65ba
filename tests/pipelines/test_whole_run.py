"""The whole method on a tiny simulated cohort, through Kedro as a user runs it."""

import hashlib
import json
import os
import re
import shutil
from functools import cache
from pathlib import Path

import click
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.runner import ThreadRunner

PROJECT = Path(__file__).parents[2]
TINY = {
    "simulation": {
        "train_reactive": 8, "train_tumoral": 12, "test": 6, "min_cells": 2, "max_cells": 5,
        "picture_size": 64, "test_labels": "shown",
    },
    "image": {"source_size": 64, "crop": 48, "size": 40},
    "encoder": {"small_dim": 8},
    "pretext": {"epochs": 2},
    "mil": {"embedding_width": 8, "hidden_widths": [8, 4], "epochs": 4, "dropout": 0.3},
    "splits": {"validation_share": 0.25},
}  # fmt: skip


def run(folder, names=None, env="demo", runner=None, to_outputs=None, **changes):
    places = {"cohort_dir": str(folder / "cohort"), "workspace": str(folder / "out")}
    bootstrap_project(PROJECT)
    parameters = {**places, **TINY, **changes}
    with KedroSession.create(PROJECT, env=env, runtime_params=parameters) as session:
        session.run(pipeline_names=names, runner=runner, to_outputs=to_outputs)
        return session.load_context().catalog


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder, run(folder)


@pytest.fixture
def copied(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)


def digests(folder):
    """The digest of every file of the newest version, by name without the version.

    The report names its versions: they are cut out of it.
    """
    found = {}
    # Less the note of who ran last, and less the manifest, which tells when.
    told = {".run.txt", "manifest.json"}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in told):
        name = "/".join(part for part in path.relative_to(folder).parts if "T" not in part[:11])
        content = path.read_bytes()
        if path.suffix == ".html":
            content = content.replace(path.parent.name.encode(), b"")
        found[name] = hashlib.sha256(content).hexdigest()
    return found


class TestOutputs:
    def test_every_persisted_entry_of_the_run_is_there(self, finished):
        _, catalog = finished
        memory = {
            "registered_patients", "clinical_warnings", "clinical_reading", "shown_pictures",
            "large_embeddings", "small_embeddings", "large_bags", "small_bags", "system",
        }  # fmt: skip
        for name in pipelines["__default__"].all_outputs() - memory:
            assert catalog.exists(name), name

    def test_embeddings_are_readable_by_pandas_as_they_are(self, finished):
        folder, catalog = finished
        (path,) = (folder / "out/04_features").rglob("*/embeddings.parquet")
        frame = pd.read_parquet(path)
        cells = catalog.load("cells")
        assert len(frame) == 3 * len(cells)
        assert set(frame["view"]) == {"original", "horizontal", "vertical"}
        assert {len(v) for v in frame["large"]} == {256}
        assert {len(v) for v in frame["small"]} == {8}
        assert pq.read_schema(path).field("large").type.list_size == 256

    def test_small_embeddings_are_the_large_ones_narrowed(self, finished):
        _, catalog = finished
        state = catalog.load("autoencoder")["state_dict"]
        frame = catalog.load("embeddings").to_pandas()
        large, small = (np.stack(frame[name].to_list()) for name in ("large", "small"))
        weight, bias = state["narrow.weight"][:, :, 0, 0].numpy(), state["narrow.bias"].numpy()
        np.testing.assert_allclose(small, large @ weight.T + bias, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("size", ["large", "small"])
    def test_fifteen_predictions_for_each_test_patient(self, finished, size):
        _, catalog = finished
        patients, table = catalog.load("patients"), catalog.load(f"{size}_predictions")
        test = set(patients.loc[patients["subset"] == "test", "patient_id"])
        assert set(table["patient_id"]) == test
        assert (table.groupby("patient_id").size() == 15).all()
        assert table.groupby("patient_id")["split"].nunique().eq(5).all()

    @pytest.mark.parametrize("size", ["large", "small"])
    def test_out_of_fold_predictions_are_of_validation_patients_only(self, finished, size):
        _, catalog = finished
        splits, table = catalog.load("splits"), catalog.load(f"{size}_out_of_fold")
        held_out = splits[splits["role"] == "validation"]
        asked = set(zip(held_out["split"], held_out["patient_id"], strict=True))
        assert set(zip(table["split"], table["patient_id"], strict=True)) == asked
        assert len(table) == 3 * len(asked)

    @pytest.mark.parametrize("size", ["large", "small"])
    def test_decisions_follow_from_the_predictions(self, finished, size):
        _, catalog = finished
        by_patient = catalog.load(f"{size}_predictions").groupby("patient_id")["probability"]
        submission = catalog.load(f"submission_{size}_avg")
        assert list(submission.columns) == ["ID", "Predicted"]
        expected = (by_patient.mean() >= 0.5).astype(int)
        assert submission.set_index("ID")["Predicted"].to_dict() == expected.to_dict()
        statistics = catalog.load(f"{size}_statistics").set_index("patient_id")
        np.testing.assert_allclose(statistics["std"], by_patient.std(ddof=0))

    def test_results_name_the_four_methods_in_the_papers_order(self, finished):
        _, catalog = finished
        results = catalog.load("results")
        assert list(results["method"]) == [
            "small AVG",
            "large AVG",
            "small SA (corrected)",
            "large SA (corrected)",
        ]
        assert (results["test_patients"] == 6).all()

    def test_the_manifest_names_everything_that_was_made_and_read(self, finished):
        folder, catalog = finished
        manifest = catalog.load("manifest")
        made = {path.parent for path in (folder / "out").glob("0*/*/*/*")}
        made.add(folder / "out/03_encoder")  # of training.pt, which has no versions
        paths = [folder / "out" / file["path"] for file in manifest["outputs"].values()]
        assert {path.parent for path in paths} == made - {
            Path(catalog["manifest"]._get_load_path()).parent
        }
        assert set(manifest["inputs"]) == {"clinical_annotation", "cohort_pictures"}
        assert set(manifest["seconds"]) == {node.name for node in pipelines["__default__"].nodes}

    def test_the_answers_are_those_of_the_large_size_by_avg(self, finished):
        _, catalog = finished
        decisions = catalog.load("decisions").set_index("ID")
        submission = catalog.load("submission_large_avg").set_index("ID")["Predicted"]
        assert decisions["decision"].eq("tumoral").astype(int).to_dict() == submission.to_dict()
        cells = catalog.load("patients").set_index("patient_id")["cell_count"]
        assert decisions["cells"].to_dict() == cells[decisions.index].to_dict()

    def test_models_hold_no_code(self, finished):
        folder, _ = finished
        models = list((folder / "out").rglob("*.pt/*/*.pt"))
        assert len(models) == 3
        for path in models:
            assert "parameters" in torch.load(path, weights_only=True)


class TestReport:
    def test_it_ends_the_run_with_everybody_and_their_cells(self, finished):
        _, catalog = finished
        page, patients = catalog.load("report"), catalog.load("patients")
        assert "No report" not in page
        assert len(re.findall(r'<details class="patient"', page)) == len(patients)
        assert len(re.findall(r'id="all-\d+"', page)) == len(patients)
        said = f"{len(patients)} patients with {patients['cell_count'].sum()} cells"
        assert said in page
        assert "<code>kedro run --pipelines=evaluate</code>" in page

    def test_it_is_made_again_and_without_names(self, finished, tmp_path):
        folder, catalog = finished
        shutil.copytree(folder / "out", tmp_path / "out")
        page = run(tmp_path, ["report"], env="base", report={"names": False}).load("report")
        for name in catalog.load("patients")["patient_id"]:
            assert f">{name}<" not in page
        # The models' parameters, though this run has others.
        assert '<th scope="row">encoder.name</th><td>test_efficientnet</td>' in page


class TestSameTwice:
    def test_same_seed_same_bytes_in_every_file_whatever_the_runner_and_workers(
        self, finished, tmp_path, monkeypatch
    ):
        others = 1 if os.cpu_count() > 1 else 2
        monkeypatch.setattr("os.cpu_count", lambda: others)  # threads that decode
        run(tmp_path, runner=ThreadRunner(max_workers=2))
        first, second = (digests(folder) for folder in (finished[0], tmp_path))
        assert len(first) > 25
        assert first == second


NOTEBOOKS = {
    path.stem: json.loads(path.read_text())["cells"]
    for path in (PROJECT / "notebooks").glob("*.ipynb")
}
EVERY_NOTEBOOK = pytest.mark.parametrize("name", sorted(NOTEBOOKS))


@pytest.fixture(scope="module")
def twice(finished, tmp_path_factory):
    """A copy of the finished run's workspace, with a second run that decides otherwise."""
    folder = tmp_path_factory.mktemp("twice")
    shutil.copytree(finished[0] / "out", folder / "out")
    run(folder, ["ensemble"], ensemble={"sa_variant": "as_printed"})
    return folder / "out"


@pytest.fixture(scope="module")
def executed(twice):
    """A function that executes a notebook, once, and returns its names and figures."""
    from matplotlib import pyplot as plt

    @cache
    def execute(name):
        names, figures = {}, []
        with plt.rc_context({"backend": "agg"}):
            for cell in (cell for cell in NOTEBOOKS[name] if cell["cell_type"] == "code"):
                source = "".join(cell["source"]).replace('"data/demo"', repr(str(twice)))
                exec(compile(source, name, "exec"), names)  # noqa: S102
                figures += map(plt.figure, plt.get_fignums())
            plt.close("all")
        return names, figures

    return execute


class TestNotebooks:
    @EVERY_NOTEBOOK
    def test_it_opens_any_workspace_and_draws_it(self, executed, name):
        asked = [
            line for cell in NOTEBOOKS[name] for line in cell["source"] if '"data/demo"' in line
        ]
        assert len(asked) == 1
        assert asked[0].startswith('workspace = "data/demo"  #')
        _, figures = executed(name)
        for figure in figures:
            figure.draw_without_rendering()
        assert figures or name == "embedding_map"

    def test_they_show_what_the_run_saved(self, executed, twice, finished):
        shown, _ = executed("results")
        newest = max((twice / "08_reporting/results.csv").rglob("*.csv"))
        assert list(shown["results"].index) == list(pd.read_csv(newest)["method"])
        shown, _ = executed("why_this_patient")
        table = finished[1].load("large_statistics").set_index("patient_id")["mean"]
        assert abs(table[shown["patient"]] - 0.5) == (table - 0.5).abs().min()
        cells = finished[1].load("cells").set_index("patient_id")["image_id"]
        assert set(shown["ranked"].index) == {*cells[[shown["patient"]]]}
        shown, _ = executed("compare_runs")
        assert shown["first"].version < shown["second"].version
        assert set(shown["both"].index) == set(table.index)
        assert shown["both"]["A"].equals(shown["both"]["B"])

    @EVERY_NOTEBOOK
    def test_nothing_that_it_showed_is_kept(self, name):
        assert not [c for c in NOTEBOOKS[name] if c.get("outputs") or c.get("execution_count")]


class TestOnePipelineAlone:
    def test_each_loads_the_newest_version(self, tmp_path):
        for name in ("simulate", "ingest", "ssl_pretrain", "embed", "classify", "ensemble"):
            catalog = run(tmp_path, [name])
        before = catalog.load("large_classifiers")
        run(tmp_path, ["classify"], seed=1)
        catalog = run(tmp_path, ["ensemble"], ensemble={"sa_variant": "as_printed"})
        assert "large SA (as_printed)" in set(catalog.load("results")["method"])
        after = catalog.load("large_classifiers")
        weight = "head.0.weight"
        assert not torch.equal(before["state_dicts"][1][weight], after["state_dicts"][1][weight])

    @pytest.mark.parametrize(
        ("name", "missing", "maker"),
        [
            ("ssl_pretrain", "cell_images, cells, patients", "ingest"),
            ("classify", "patients, embeddings", "ingest,ssl_pretrain,embed"),
            ("ensemble", "large_classifiers", "ingest,ssl_pretrain,embed,classify"),
        ],
    )
    def test_what_is_missing_and_who_makes_it_are_named(self, tmp_path, name, missing, maker):
        with pytest.raises(click.ClickException, match=rf"{missing}.*--pipelines=.*{maker}"):
            run(tmp_path, [name])

    def test_classifiers_of_another_encoders_embeddings_are_refused(self, copied, tmp_path):
        run(tmp_path, ["ssl_pretrain", "embed"], seed=1, to_outputs=["embeddings"])
        with pytest.raises(click.ClickException, match=r"another encoder.*Run classify again"):
            run(tmp_path, ["ensemble"])

    def test_an_ingest_that_did_not_end_is_not_embedded(self, copied, tmp_path):
        patient = next((tmp_path / "cohort/trainset").iterdir())
        for picture in patient.iterdir():
            picture.write_bytes(b"damaged")
        with pytest.raises(click.ClickException, match=f"patient {patient.name}"):
            run(tmp_path, ["ingest"])
        for name in ("ssl_pretrain", "embed"):
            with pytest.raises(click.ClickException, match="Run ingest again"):
                run(tmp_path, [name])

    def test_pictures_shaped_otherwise_are_not_embedded(self, finished, tmp_path):
        folder, _ = finished
        (tmp_path / "out").symlink_to(folder / "out")
        other = {**TINY["image"], "crop": 64}
        places = {"cohort_dir": str(folder / "cohort")}
        run(tmp_path, ["ingest"], **places, image=other)
        with pytest.raises(click.ClickException, match=r"image\.crop = 48.*has 64"):
            run(tmp_path, ["embed"], **places)

    @pytest.mark.parametrize(
        ("name", "changes", "told"),
        [
            (
                "ensemble",
                {"mil": {"aggregator": "max"}},
                r"mil\.aggregator is 'max' ",
            ),
            ("embed", {"encoder": {"name": "resnet18"}}, r"encoder\.name is 'resnet18' "),
        ],
    )
    def test_what_a_loaded_model_contradicts_is_refused(self, finished, name, changes, told):
        folder, _ = finished
        before = digests(folder)
        changed = {block: {**TINY[block], **values} for block, values in changes.items()}
        with pytest.raises(click.ClickException, match=told):
            run(folder, [name], **changed)
        assert digests(folder) == before


class TestEnvironments:
    def test_without_test_labels_the_table_says_so(self, tmp_path):
        hidden = {**TINY["simulation"], "test_labels": "hidden"}
        results = run(tmp_path, to_outputs=["results"], simulation=hidden).load("results")
        assert results["test_balanced_accuracy"].isna().all()
        assert results["note"].str.contains("no labels").all()
        assert results["out_of_fold_tumoral"].gt(0).all()

    def test_a_cohort_without_test_patients_runs_to_its_end(self, tmp_path):
        catalog = run(tmp_path, simulation={**TINY["simulation"], "test": 0})
        assert catalog.load("large_predictions").empty
        assert catalog.load("submission_small_sa").empty
        assert catalog.load("results")["out_of_fold_balanced_accuracy"].between(0, 1).all()

    def test_a_wrong_encoder_is_refused_before_any_work(self, tmp_path):
        with pytest.raises(click.ClickException, match=r"encoder\.name.*no model 'tf_eff'"):
            run(tmp_path, encoder={"name": "tf_eff", "weights": "random"})
        assert not list(tmp_path.iterdir())


def test_every_node_is_tagged_with_its_pipeline_and_gpu_work_with_gpu():
    bootstrap_project(PROJECT)
    for name in ("ingest", "ssl_pretrain", "embed", "classify", "ensemble"):
        assert all(name in node.tags for node in pipelines[name].nodes)
    gpu = {node.name for node in pipelines["__default__"].nodes if "gpu" in node.tags}
    assert gpu == {
        "ssl_pretrain.pretrain_encoder",
        "embed.embed_cells",
        "classify.large.train_classifiers",
        "classify.small.train_classifiers",
        *(
            f"ensemble.{size}.{name}"
            for size in ("large", "small")
            for name in ("predict", "score_out_of_fold", "explain_cells")
        ),
    }
