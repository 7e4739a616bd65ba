"""The evaluate pipeline on a tiny simulated cohort, through Kedro as a user runs it."""

import shutil
import warnings
from pathlib import Path

import click
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from lymphocytosis.decision.rules import decide_by_sa, summarise
from lymphocytosis.decision.thresholds import threshold_for_sensitivity
from lymphocytosis.encoders import checkpoint
from lymphocytosis.encoders.pooled import PooledEncoder
from lymphocytosis.errors import UserError
from lymphocytosis.model_files import write_model_file
from lymphocytosis.parameters import check_parameters
from lymphocytosis.pipelines.evaluate import nodes
from lymphocytosis.progress import Progress

PROJECT = Path(__file__).parents[2]
TINY = {
    "simulation": {
        "train_reactive": 12, "train_tumoral": 16, "test": 2, "min_cells": 2, "max_cells": 4,
        "picture_size": 64,
    },
    "image": {"source_size": 64, "crop": 48, "size": 40},
    "encoder": {"small_dim": 8},
    "pretext": {"epochs": 1},
    "mil": {"classifier": "logistic", "components": 8},
    "splits": {"validation_share": 0.25, "count": 2},
    "ensemble": {"wanted_sensitivity": 0.9},
    "evaluation": {"folds": 3, "repeats": 2, "resamples": 100},
}  # fmt: skip
WARNED = []
BEFORE = ["simulate", "ingest", "ssl_pretrain", "embed"]


def run(folder, names, to_outputs=None, **changes):
    places = {"cohort_dir": str(folder / "cohort"), "workspace": str(folder / "out")}
    bootstrap_project(PROJECT)
    parameters = places | {k: v | changes.get(k, {}) for k, v in TINY.items()}
    with KedroSession.create(PROJECT, env="demo", runtime_params=parameters) as session:
        session.run(pipeline_names=names, to_outputs=to_outputs)
        return session.load_context().catalog


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate")
    with warnings.catch_warnings(record=True) as seen:
        # As Python filters them for a user.
        warnings.resetwarnings()
        warnings.simplefilter("ignore", DeprecationWarning)
        run(folder, BEFORE, ["embeddings"])
        catalog = run(folder, ["evaluate"])
    WARNED.extend(seen)
    return folder, catalog


def test_no_library_warns(finished):
    assert [str(warning.message) for warning in WARNED] == []


class TestOutputs:
    def test_every_method_predicts_every_labelled_patient_in_every_repeat(self, finished):
        nested = finished[1].load("nested_predictions")
        # The simulated pictures are of one format and size, and need no conversion.
        assert nested["method"].nunique() == 5 + 2 * 3
        assert (nested.groupby(["method", "repeat"])["patient_id"].nunique() == 28).all()

    def test_the_folds_are_the_same_for_all_methods(self, finished):
        nested = finished[1].load("nested_predictions")
        folds = nested.pivot_table("fold", ["repeat", "patient_id"], "method")
        assert folds.eq(folds.iloc[:, 0], axis=0).all(axis=None)

    def test_decisions_follow_from_the_classifiers_predictions(self, finished):
        _, catalog = finished
        raw, nested = catalog.load("classifier_predictions"), catalog.load("nested_predictions")
        label = catalog.load("patients").set_index("patient_id")["label"]
        chosen = (raw["size"] == "small") & (raw["system"] == "pictures")
        rows = raw[chosen & (raw["repeat"] == 2) & (raw["fold"] == 3)]
        held_out, inner = (
            summarise(rows[rows["role"] == role]).set_index("patient_id", drop=False)
            for role in ("held_out", "inner")
        )
        found = nested[
            (nested["method"] == "small, pictures")
            & (nested["repeat"] == 2)
            & (nested["fold"] == 3)
        ].set_index("patient_id")
        assert not set(held_out.index) & set(inner.index)
        np.testing.assert_allclose(found["probability"], held_out["mean"].loc[found.index])
        threshold = threshold_for_sensitivity(
            label.loc[inner.index].to_numpy(int), inner["mean"].to_numpy(), 0.9
        )
        assert (found["threshold"] == threshold).all()
        sa = decide_by_sa(held_out, "corrected").set_index("patient_id")["decision"]
        assert (found["sa_corrected"] == sa.loc[found.index]).all()

    def test_summary_and_figures_are_there(self, finished):
        folder, catalog = finished
        summary = catalog.load("evaluation_summary")
        assert "| clinical, logistic regression | AVG |" in summary
        for control in catalog.load("control_tests").to_dict("records"):
            assert f"| {control['control']} | {control['found']} | {control['p']:.3f} |" in summary
        assert "| large, shuffled labels | AUC" in summary.rpartition("judgement")[2]
        for name in ("curves", "calibration", "net_benefit", "differences", "learning_curves"):
            (path,) = (folder / "out/08_reporting").glob(f"evaluation_{name}.png/*/*.png")
            assert path.stat().st_size > 10_000

    def test_cells_and_rows_that_were_drawn_without_the_label_raise_no_alarm(self, finished):
        _, catalog = finished
        assert (catalog.load("control_tests")["p"] > 0.05).all()
        assert "the diagnosis:" not in catalog.load("evaluation_summary")

    def test_advice_follows_from_the_held_out_predictions(self, finished):
        _, catalog = finished
        judged, nested = catalog.load("referral_predictions"), catalog.load("nested_predictions")
        keys = ["method", "repeat", "fold", "patient_id", "person", "label"]
        both = judged.merge(nested, on=keys, suffixes=("", "_nested"))
        assert len(both) == len(judged) == 2 * 2 * 2 * 28  # sizes, systems, repeats, patients
        np.testing.assert_allclose(both["probability"], both["probability_nested"])
        scored = catalog.load("referral_evaluation")
        assert set(scored["method"]) == set(judged["method"])
        row = scored[scored["metric"] == "coverage_tumoral"].iloc[0]
        shown = f"| {row['method']} | {row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}] |"
        assert shown in catalog.load("evaluation_summary")

    def test_the_saved_predictions_tell_what_they_were_made_with(self, finished):
        _, catalog = finished
        made_with = catalog.load("classifier_predictions").attrs
        given = check_parameters(catalog.load("parameters"))
        assert made_with == {
            "encoder": checkpoint.fingerprint(catalog.load("autoencoder")),
            "views": list(given.views),
            "mil": given.mil.model_dump(mode="json"),
        }

    def test_what_the_encoder_saw_stands_beside_the_scores(self, finished):
        assert "on the pictures of held-out patients too" in finished[1].load("evaluation_summary")

    def test_again_gives_the_same_predictions(self, finished):
        folder, catalog = finished
        first = catalog.load("classifier_predictions")
        pd.testing.assert_frame_equal(
            run(folder, ["evaluate"], ["classifier_predictions"]).load("classifier_predictions"),
            first,
        )


class TestChoices:
    def test_pretraining_in_each_fold_is_another_embedding(self, finished):
        folder, catalog = finished
        once = catalog.load("classifier_predictions")
        each_fold = {"pretraining": "each_fold", "repeats": 1}
        anew = run(folder, ["evaluate"], ["evaluation_summary"], evaluation=each_fold)
        summary, predicted = (
            anew.load("evaluation_summary"),
            anew.load("classifier_predictions"),
        )
        assert "never saw a picture of the patients held out" in summary
        assert predicted.attrs["encoder"] == "pretrained in each fold"
        keys = ["size", "system", "repeat", "fold", "role", "patient_id", "split", "view"]
        both = predicted.merge(once, on=keys, suffixes=("", "_once"))
        assert len(both) == len(predicted)
        assert not np.allclose(both["probability"], both["probability_once"])

    def test_supplied_folds_are_used(self, finished):
        folder, catalog = finished
        folds = catalog.load("evaluation_folds")
        mine = folds[folds["repeat"] == 1].assign(fold=lambda t: 4 - t["fold"])
        mine.to_csv(folder / "cohort/folds.csv", index=False)
        made = ["evaluation_folds", "control_predictions"]
        taken = run(folder, ["evaluate"], made, evaluation={"source": "supplied"})
        predicted = taken.load("control_predictions")[["repeat", "fold", "patient_id"]]
        assert len(predicted.drop_duplicates().merge(mine)) == len(mine)
        pd.testing.assert_frame_equal(
            taken.load("evaluation_folds"),
            mine.sort_values(["repeat", "fold", "patient_id"], ignore_index=True),
        )

    def test_too_many_folds_are_refused(self, finished):
        folder, _ = finished
        with pytest.raises(click.ClickException, match=r"evaluation\.folds is 20.*12 reactive"):
            run(folder, ["evaluate"], evaluation={"folds": 20})

    def test_an_encoder_that_each_fold_pretrains_is_checked_before_any_work(self, finished):
        folder, _ = finished
        with pytest.raises(click.ClickException, match=r"nowhere\.pth"):
            run(
                folder,
                ["evaluate"],
                evaluation={"pretraining": "each_fold"},
                encoder={"weights": str(folder / "nowhere.pth")},
            )

    def test_a_frozen_encoder_is_described_by_its_weights_origin(self, finished):
        catalog = finished[1]
        given = check_parameters(catalog.load("parameters"))
        frozen = checkpoint.pack(
            PooledEncoder,
            {},
            given.encoder.model_copy(
                update={"name": "tf_efficientnet_lite0", "weights": "mine.pth"}
            ),
            given.image,
            given.pretext.model_copy(update={"name": "frozen"}),
            seed=0,
        )
        _, summary = nodes.measure_evidence(
            catalog.load("nested_predictions"), catalog.load("control_tests"),
            catalog.load("referral_evaluation"), frozen, given.encoder, given.pretext,
            given.evaluation, given.ensemble,
        )  # fmt: skip
        assert "pictures they were trained on is unknown" in summary

    def test_an_encoder_that_did_not_make_the_embeddings_is_refused(self, finished, tmp_path):
        shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
        run(tmp_path, ["ssl_pretrain"], ["autoencoder"], pretext={"learning_rate": 0.001})
        with pytest.raises(click.ClickException, match=r"another encoder.*Run embed again"):
            run(tmp_path, ["evaluate"], pretext={"learning_rate": 0.001})

    def test_another_kind_of_model_as_the_encoder_is_refused(self, finished, tmp_path):
        shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
        other = {"kind": "classifiers", "parameters": {"mil": {}}, "state_dicts": {1: {}}}
        for path in (tmp_path / "out").rglob("autoencoder.pt/*/*.pt"):
            write_model_file(other, path)
        told = r"'autoencoder' holds another kind of model. Run ssl_pretrain again"
        with pytest.raises(click.ClickException, match=told):
            run(tmp_path, ["evaluate"])
        catalog = finished[1]
        given = check_parameters(catalog.load("parameters"))
        with pytest.raises(UserError, match=told):
            nodes.measure_evidence(
                catalog.load("nested_predictions"), catalog.load("control_tests"),
                catalog.load("referral_evaluation"), other, given.encoder, given.pretext,
                given.evaluation, given.ensemble,
            )  # fmt: skip

    def test_after_a_kill_in_a_fold_its_encoder_is_not_pretrained_again(
        self, finished, monkeypatch, tmp_path
    ):
        catalog = finished[1]
        given = check_parameters(catalog.load("parameters"))
        folds = catalog.load("evaluation_folds")
        work = tmp_path / "work"
        pretrained, embedded = [], []

        def pretrain(*given):
            progress = given[-1]
            progress.begin({"the parameter seed": given[-2]})
            if not progress.values("epoch"):
                pretrained.append(given[-2])
                progress.save_values("epoch", {"losses": [0.5]})
            return {}, None, None

        def embed(*_):
            embedded.append(1)
            if len(embedded) == 2:
                raise KeyboardInterrupt
            return iter([pa.table({"large": [1.0]})])

        monkeypatch.setattr(nodes, "pretrain_encoder", pretrain)
        monkeypatch.setattr(nodes, "embed_cells", embed)
        monkeypatch.setattr(nodes, "_predict_sizes", lambda *_: pd.DataFrame({"size": ["large"]}))
        images = catalog.load("cell_images")

        def predict():
            return nodes.predict_by_classifiers(
                catalog.load("embeddings"), catalog.load("autoencoder"), images,
                catalog.load("cells"), catalog.load("patients"), folds, ["original"],
                given.encoder, given.pretext, given.mil, given.splits, given.compute,
                given.evaluation.model_copy(update={"pretraining": "each_fold"}), Progress(work),
            )  # fmt: skip

        with pytest.raises(KeyboardInterrupt):
            predict()
        count = len(folds.groupby(["repeat", "fold"]))
        assert len(predict()) == len(pretrained) == count
        assert len(embedded) == count + 1
        # Of finished folds nothing stays but their tables.
        assert not [path for path in work.rglob("*") if path.is_dir()]

    def test_in_each_fold_no_picture_of_a_person_held_out_is_seen(self, finished, monkeypatch):
        """Nor one of the test patient who may be the same person."""
        catalog = finished[1]
        given = check_parameters(catalog.load("parameters"))
        patients, folds = catalog.load("patients"), catalog.load("evaluation_folds")
        (test, *_) = patients.loc[patients["subset"] == "test", "patient_id"]
        twin = folds["patient_id"].iloc[0]
        person = patients.set_index("patient_id")["person"]
        person[test] = person[twin]
        patients["person"] = person.to_numpy()
        seen = []

        def pretrain(images, cells, others, earlier, encoder, pretext, compute, seed, progress):
            seen.append((set(others["patient_id"]), seed))
            return {}, None, None

        monkeypatch.setattr(nodes, "pretrain_encoder", pretrain)
        monkeypatch.setattr(nodes, "embed_cells", lambda *_: iter([pa.table({"large": [1.0]})]))
        monkeypatch.setattr(nodes, "_predict_sizes", lambda *_: pd.DataFrame({"size": ["large"]}))
        images = catalog.load("cell_images")
        nodes.predict_by_classifiers(
            catalog.load("embeddings"), catalog.load("autoencoder"), images,
            catalog.load("cells"), patients, folds, ["original"], given.encoder, given.pretext,
            given.mil, given.splits, given.compute,
            given.evaluation.model_copy(update={"pretraining": "each_fold"}), Progress(None),
        )  # fmt: skip
        in_turn = folds.groupby(["repeat", "fold"])["patient_id"].agg(set)
        assert len(seen) == len(in_turn)
        for ((repeat, _), held_out), (others, seed) in zip(in_turn.items(), seen, strict=True):
            gone = {p for p in person.index if person[p] in {person[out] for out in held_out}}
            assert (test in gone) == (twin in held_out)
            assert others == set(person.index) - gone
            assert seed == given.evaluation.seed + 1000 * (repeat - 1)
