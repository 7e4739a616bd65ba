"""The bundle pipeline on a tiny simulated cohort, through Kedro as a user runs it."""

import csv
import json
import pickletools
import re
import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from huggingface_hub import ModelCard
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from lymphocytosis.decision import evidence
from lymphocytosis.decision.controls import CLINICAL
from lymphocytosis.decision.referral_evidence import measure_referral
from lymphocytosis.encoders.checkpoint import fingerprint, unpack
from lymphocytosis.encoders.embed import ReadyEncoder
from lymphocytosis.imaging.views import view_of
from lymphocytosis.mil.nested import SYSTEMS
from lymphocytosis.parameters import EnsembleParameters
from lymphocytosis.pipelines.bundle import nodes
from lymphocytosis.pipelines.evaluate import nodes as evaluate
from lymphocytosis.pipelines.sizes import select_embedding
from lymphocytosis.system.trained import gather_for, load_system

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
    "evaluation": {"folds": 3, "repeats": 1, "resamples": 100},
}  # fmt: skip
TRAIN = ["simulate", "ingest", "ssl_pretrain", "embed", "classify"]


def run(folder, names, **changes):
    places = {"cohort_dir": str(folder / "cohort"), "workspace": str(folder / "out")}
    bootstrap_project(PROJECT)
    changed = {k: v | changes[k] for k, v in TINY.items() if isinstance(changes.get(k), dict)}
    parameters = places | TINY | changes | changed
    with KedroSession.create(PROJECT, env="demo", runtime_params=parameters) as session:
        if names:
            session.run(pipeline_names=names)
        return session.load_context().catalog


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A workspace that was never evaluated, and its bundle."""
    folder = tmp_path_factory.mktemp("bundle")
    return folder, run(folder, [*TRAIN, "bundle"])


@pytest.fixture(scope="module")
def evaluated(trained, tmp_path_factory):
    """The same workspace evaluated; its bundle is signed."""
    folder = tmp_path_factory.mktemp("evaluated")
    shutil.copytree(trained[0], folder, dirs_exist_ok=True)
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "key.pem").write_bytes(pem)
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "public.pem").write_bytes(pem)
    keys = {"signing_key": str(folder / "key.pem"), "trusted_key": str(folder / "public.pem")}
    save_evaluation(trained[1], folder)
    return folder, run(folder, ["bundle"], bundle=str(folder / "carried"), **keys)


def save_evaluation(catalog, folder):
    """Save what `evaluate` makes, of made-up predictions, as of the catalog's recipe."""
    patients = catalog.load("patients")
    known = patients[patients["subset"] == "train"].reset_index(drop=True)
    drawn = np.random.default_rng(0)
    index = pd.MultiIndex.from_product(
        [("large", "small"), SYSTEMS, (1,), known["patient_id"], (1, 2), ("original", "vertical")],
        names=["size", "system", "repeat", "patient_id", "split", "view"],
    )
    table = index.to_frame(index=False).merge(known[["patient_id", "label"]])
    table["fold"] = 1 + table["patient_id"].map(lambda name: int(name[1:]) % 2)
    table["probability"] = (table.pop("label").astype(float) + 2 * drawn.random(len(table))) / 3
    predictions = pd.concat([table.assign(role=role) for role in ("held_out", "inner")])
    order = ["size", "system", "repeat", "fold", "role", "patient_id", "split", "view"]
    predictions = predictions[[*order, "probability"]].reset_index(drop=True)
    predictions.attrs = {
        "encoder": fingerprint(catalog.load("autoencoder")),
        "views": ["original", "horizontal", "vertical"],
        "mil": catalog.load("large_classifiers")["parameters"]["mil"],
    }
    controls = pd.concat(
        known[["patient_id"]].assign(
            method=method, repeat=1, fold=1, probability=drawn.random(len(known)), threshold=0.5
        )
        for method in (CLINICAL, "bag size")
    )
    nested = evidence.join_predictions(controls, predictions, patients, 0.95)
    judged = evaluate.judge_referral(predictions, patients, catalog.load("params:ensemble"))
    saved = run(folder, [])
    saved.save("classifier_predictions", predictions)
    saved.save("evaluation", evidence.measure(nested, 100, 0.95, 0))
    saved.save("evaluation_summary", "- **The pictures add nothing.**\n\nMore.\n")
    saved.save("referral_evaluation", measure_referral(judged, 100, 0.95, 0))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def folder_of(world):
    return world[1].get("bundle")._folder


class TestBundle:
    def test_a_cpu_that_runs_torch_and_no_key_leave_out_graph_and_signature(self, trained):
        models = [
            f"{size}{alone}" for size in ("large", "small") for alone in ("", "_pictures_only")
        ]
        assert contents(folder_of(trained)).keys() == {
            "README.md", "decision.json", "encoder.pt", "manifest.json", "reference.safetensors",
            *(f"{model}_classifiers.pt" for model in models),
        }  # fmt: skip
        assert folder_of(trained) == trained[0] / "out/06_models/bundle"
        bundle = trained[1].load("bundle")
        assert bundle.compute.embed_backend == "torch"
        assert {r.source for r in bundle.referrals.values()} == {"out of fold"}
        assert bundle.referrals.keys() == {"large", "large_pictures_only"}

    def test_with_an_evaluation_its_predictions_decide(self, evaluated):
        bundle = evaluated[1].load("bundle")
        assert "manifest.sig" in contents(folder_of(evaluated))
        assert {r.source for r in bundle.referrals.values()} == {"evaluation"}
        assert bundle.referrals["large"].reactive == 12
        assert bundle.referrals["large"].tumoral == 16

    def test_the_same_workspace_gives_the_same_bytes_wherever_it_is(self, trained, tmp_path):
        shutil.copytree(trained[0], tmp_path / "elsewhere")
        catalog = run(tmp_path / "elsewhere", ["bundle"], bundle=str(tmp_path / "carried"))
        assert contents(folder_of((None, catalog))) == contents(folder_of(trained))

    def test_it_embeds_and_predicts_as_the_workspace_does_to_the_bit(self, trained):
        _, catalog = trained
        bundle, embeddings = catalog.load("bundle"), catalog.load("embeddings")
        embedder, image = unpack(bundle.autoencoder)
        views = bundle.facts["parameters"]["views"]
        encoder = ReadyEncoder(embedder, image.size, views, view_of, bundle.compute)
        images, cells = catalog.load("cell_images"), catalog.load("cells")
        rows = cells["row"].to_numpy(dtype=np.int64)
        parts = list(encoder.embed(images, rows))
        for size, place in (("large", 1), ("small", 2)):
            found = np.concatenate([part[place] for part in parts]).reshape(len(embeddings), -1)
            column = embeddings[size].combine_chunks().flatten().to_numpy()
            assert np.array_equal(found.ravel(), column)
        carried = load_system(bundle.autoencoder, bundle.classifiers, bundle.ensemble)
        for size in ("large", "small"):
            own = catalog.load(f"{size}_classifiers")["state_dicts"]
            for split, classifier in carried.suites[size].classifiers.items():
                state = classifier.state_dict()
                assert all(torch.equal(state[name], value) for name, value in own[split].items())

    def test_classifiers_for_pictures_only_heed_no_clinical_value(self, trained):
        _, catalog = trained
        bundle, patients = catalog.load("bundle"), catalog.load("patients")
        held = bundle.classifiers["large_pictures_only"]
        assert held["parameters"]["mil"]["inputs"] == "pictures"
        assert held["parameters"]["splits"] == bundle.classifiers["large"]["parameters"]["splits"]
        system = load_system(bundle.autoencoder, bundle.classifiers, bundle.ensemble)
        classifier = system.suites["large_pictures_only"].classifiers[1]
        assert not classifier.weight[:, -2:].any()
        assert len(patients)

    def test_where_no_model_takes_clinical_values_there_is_one_of_each_size(
        self, trained, tmp_path
    ):
        shutil.copytree(trained[0], tmp_path, dirs_exist_ok=True)
        changes = {"mil": {"inputs": "pictures"}, "ensemble": {"size": "small"}}
        catalog = run(tmp_path, ["classify", "bundle"], **changes)
        bundle = catalog.load("bundle")
        assert bundle.classifiers.keys() == {"large", "small"}
        assert bundle.referrals.keys() == {"small"}
        assert "Age and count are never used" in bundle.card
        assert "By the small embedding" in bundle.card


class TestNothingOfOnePatient:
    """Every file is searched: as bytes, and decoded."""

    @pytest.fixture(params=["trained", "evaluated"])
    def world(self, request):
        return request.getfixturevalue(request.param)

    @staticmethod
    def texts(path):
        """Every text that a file holds."""
        content = path.read_bytes()
        if path.suffix == ".pt":
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    yield name
                    if name.endswith(".pkl"):
                        for _, value, _ in pickletools.genops(archive.read(name)):
                            yield str(value)
        elif path.suffix == ".safetensors":
            yield content[8 : 8 + int.from_bytes(content[:8], "little")].decode()
        elif path.suffix != ".sig":
            yield content.decode()

    @staticmethod
    def arrays(path):
        """Every number that a file holds, as arrays."""

        def of(value):
            if isinstance(value, torch.Tensor):
                yield value.numpy()
            elif isinstance(value, dict | list | tuple):
                for inner in value.values() if isinstance(value, dict) else value:
                    yield from of(inner)
            elif isinstance(value, float):
                yield np.array(value)

        if path.suffix == ".pt":
            yield from of(torch.load(path, weights_only=True))
        elif path.suffix == ".safetensors":
            yield from safetensors.numpy.load_file(path).values()
        elif path.suffix == ".json":
            yield from of(json.loads(path.read_text()))
        elif path.suffix == ".md":
            for number in re.findall(r"\d+\.\d+", path.read_text()):
                yield np.array(float(number))

    def test_no_name_no_path_no_birth_date(self, world):
        folder, catalog = world
        cells, patients = catalog.load("cells"), catalog.load("patients")
        with (folder / "cohort/clinical_annotation.csv").open(newline="") as file:
            dates = {row["DOB"] for row in csv.DictReader(file)}
        long = {*cells["image_id"], *cells["path"], *cells["sha256"], *dates, str(folder)}
        # Folders of this machine, too; and IDs are short, so that only whole words count.
        long |= {str(PROJECT), str(Path.home()), "site-packages", "trainset", "testset", ".jpg"}
        ids = re.compile(rf"\b({'|'.join({*patients['patient_id'], *patients['person']})})\b")
        for path in folder_of(world).iterdir():
            content = path.read_bytes()
            assert not [trace for trace in long if trace.encode() in content], path
            for text in self.texts(path):
                assert not ids.search(text), (path, text[:200])

    def test_no_embedding(self, world):
        _, catalog = world
        embeddings = catalog.load("embeddings")
        rows = {}
        for size in ("large", "small"):
            column = embeddings[size].combine_chunks()
            matrix = column.flatten().to_numpy().reshape(len(embeddings), -1)
            bags = pd.DataFrame(matrix).groupby(embeddings["patient_id"].to_pandas()).mean()
            rows[matrix.shape[1]] = {
                row.tobytes() for row in (*matrix, *bags.to_numpy(dtype=np.float32))
            }
        for path in folder_of(world).iterdir():
            for array in self.arrays(path):
                for turned in (array, array.T):
                    width = turned.shape[-1] if turned.ndim else 1
                    if width in rows:
                        flat = np.ascontiguousarray(turned, dtype=np.float32).reshape(-1, width)
                        assert not {row.tobytes() for row in flat} & rows[width], path

    def test_no_prediction(self, world):
        _, catalog = world
        bundle = catalog.load("bundle")
        patients, splits = catalog.load("patients"), catalog.load("splits")
        system = load_system(bundle.autoencoder, bundle.classifiers, bundle.ensemble)
        predictions = set()
        tables = []
        for model in system.suites:
            size = model.split("_")[0]
            known = select_embedding(catalog.load("embeddings"), size)
            known = known.replace_schema_metadata({"autoencoder": system.encoder})
            tables += nodes_predictions(system, model, known, patients, splits)
        if catalog.exists("classifier_predictions"):
            tables.append(catalog.load("classifier_predictions"))
        for table in tables:
            predictions |= set(table["probability"])
            predictions |= set(table.groupby("patient_id")["probability"].mean())
        both = {float(p) for p in predictions} | {float(np.float32(p)) for p in predictions}
        assert len(both) > 200
        for path in folder_of(world).iterdir():
            floats = [array for array in self.arrays(path) if array.dtype.kind == "f"]
            found = [
                x for array in floats for x in array.astype(float).ravel().tolist() if x in both
            ]
            # Of a hundred thousand weights, a few are equal by chance; a leak would be hundreds.
            weights = path.suffix in (".pt", ".safetensors")
            by_chance = weights + sum(array.size for array in floats) // 10_000
            assert len(found) <= by_chance, path


def nodes_predictions(system, model, embeddings, patients, splits):
    from lightning_fabric import Fabric

    from lymphocytosis.system.prediction import predict, predict_out_of_fold

    fabric = Fabric(accelerator="cpu", devices=1)
    bags = gather_for(system, model, embeddings, patients)
    suite = system.suites[model]
    return [
        predict(suite, bags, patients, fabric),
        predict_out_of_fold(suite, bags, patients, splits, fabric),
    ]


class TestCard:
    def test_hugging_face_reads_it(self, trained, evaluated):
        without, with_scores = (
            ModelCard(world[1].load("bundle").card) for world in (trained, evaluated)
        )
        for card in (without, with_scores):
            assert card.data.library_name == "lymphocytosis"
            assert card.data.license == "mit"
            assert card.data.pipeline_tag == "image-classification"
        assert without.data.eval_results is None
        evaluation = evaluated[1].load("evaluation").set_index(["method", "metric"])
        found = {
            result.metric_type: result.metric_value for result in with_scores.data.eval_results
        }
        auc = evaluation.loc[("large, pictures + clinical", "auc"), "value"]
        assert found["auc"] == round(float(auc), 3)
        assert found.keys() == {"balanced_accuracy", "auc", "sensitivity", "specificity", "brier"}

    def test_scores_stand_beside_their_controls(self, evaluated):
        card, evaluation = evaluated[1].load("bundle").card, evaluated[1].load("evaluation")
        for method in set(evaluation["method"]):
            assert (f"| {method} |" in card) == (not method.startswith("small"))
        assert "**How well it does is unknown" not in card
        assert "- **The pictures add nothing.**" in card
        assert "those of the nested cross-validation" in card

    def test_what_is_not_known_is_said(self, trained):
        card = trained[1].load("bundle").card
        assert "**How well it does is unknown: there was no evaluation.**" in card
        assert "those of each split's validation patients" in card

    def test_it_says_once_what_it_is_not(self, trained):
        assert trained[1].load("bundle").card.count("medical\ndevice") == 1

    def test_patients_are_described_by_class(self, trained):
        _, catalog = trained
        card, patients = catalog.load("bundle").card, catalog.load("patients")
        known = patients[patients["subset"] == "train"]
        women = [int((known.loc[known["label"] == label, "sex"] == "F").sum()) for label in (0, 1)]
        assert "| patients | 12 | 16 |" in card
        assert f"| women | {women[0]} | {women[1]} |" in card
        ages = known.loc[known["label"] == 1, "age_years"]
        shown = ", ".join(
            f"{q:g}" for q in np.round(np.quantile(ages, [0.05, 0.25, 0.5, 0.75, 0.95]))
        )
        assert f"| {shown} |" in card


class TestEvidence:
    @pytest.fixture
    def find(self):
        """A function that looks for evidence of one recipe; it takes what differs."""
        system = SimpleNamespace(encoder="a digest", views=("original",))
        mil = {"components": 200, "inputs": "both"}
        ensemble = EnsembleParameters(
            sa_variant="corrected", size="small", wanted_sensitivity=0.95, error_rate=0.1
        )

        def run(attrs, **evaluated):
            predictions = pd.DataFrame({"probability": [0.5]})
            predictions.attrs = {"encoder": "a digest", "views": ["original"], "mil": mil} | attrs
            entries = {"classifier_predictions": predictions, "evaluation": "e"} | evaluated
            classifiers = {"parameters": {"mil": mil}}
            return nodes.find_evidence(system, classifiers, ensemble, **entries)

        return run

    def test_of_the_same_recipe_it_is_taken(self, find):
        for inputs in ("both", "pictures"):
            found = find({"mil": {"components": 200, "inputs": inputs}})
            assert (found["lack"], found["evaluation"]) == ("", "e")
            assert found["methods"] == {
                "small": "small, pictures + clinical", "small_pictures_only": "small, pictures",
            }  # fmt: skip

    @pytest.mark.parametrize(
        ("attrs", "told"),
        [
            ({"encoder": "pretrained in each fold"}, "another encoder, or pretrained one in each"),
            ({"views": ["original", "vertical"]}, "other views"),
            ({"mil": {"components": 100, "inputs": "both"}}, r"another recipe \(components differ"),
        ],
    )
    def test_of_another_it_is_not(self, find, attrs, told):
        found = find(attrs)
        assert re.search(told, found["lack"])
        assert "evaluation" not in found

    def test_nor_in_part(self, find):
        assert find({}, evaluation=None)["lack"] == "there was no evaluation."
        assert find({}, classifier_predictions=None)["lack"] == "there was no evaluation."
