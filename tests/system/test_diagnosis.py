from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from lightning_fabric import Fabric
from scipy.special import logit

from lymphocytosis.cohort.pictures import PictureFile
from lymphocytosis.decision.referral import Referral
from lymphocytosis.decision.rules import RULES, summarise
from lymphocytosis.decision.unlike import fit_reference
from lymphocytosis.encoders.checkpoint import fingerprint, pack
from lymphocytosis.encoders.embed import ReadyEncoder, table_of
from lymphocytosis.encoders.pooled import PooledEncoder, build_pooled_encoder
from lymphocytosis.errors import UserError
from lymphocytosis.imaging.measures import measure_pictures
from lymphocytosis.imaging.store import decode_pictures
from lymphocytosis.imaging.views import view_of
from lymphocytosis.mil.bags import gather_bags
from lymphocytosis.mil.prediction import load_suite, predict_patients
from lymphocytosis.mil.suite import train_suite
from lymphocytosis.parameters import ComputeParameters, EncoderParameters, EnsembleParameters
from lymphocytosis.pipelines.sizes import select_embedding
from lymphocytosis.progress import Progress
from lymphocytosis.system.bundle import Bundle
from lymphocytosis.system.diagnosis import ReadySystem
from tests.conftest import POOLED
from tests.mil.conftest import mil  # noqa: F401

VIEWS = ["original", "horizontal", "vertical"]
FABRIC = Fabric(accelerator="cpu", devices=1)
ENCODER = EncoderParameters(name="test_efficientnet", weights="random", small_dim=6, **POOLED)
COMPUTE = ComputeParameters(
    accelerator="cpu", precision="32-true", embed_batch_size=4, embed_backend="torch"
)
ENSEMBLE = EnsembleParameters(
    sa_variant="corrected", wanted_sensitivity=0.95, size="large", error_rate=0.1
)
REFERRAL = Referral("platt", (2.0, 0.1), 0.4, 0.3, 0.6, 12, 12, "out of fold")
PATIENTS = 24


def file_of(patient_id, name, content):
    path = f"{patient_id}/{name}"
    return PictureFile("test", patient_id, name, path, lambda: content)


@pytest.fixture(scope="module")
def world(picture, image_parameters, pretext_parameters, mil):  # noqa: F811
    """Patients, their files and embeddings; and a function that makes a system of them."""
    rng = np.random.default_rng(0)
    image = image_parameters()
    files = {
        f"P{n:02d}": [
            file_of(f"P{n:02d}", f"{k:06d}.png", picture(1000 * n + k))
            for k in range(rng.integers(2, 7))
        ]
        for n in range(PATIENTS)
    }
    patients = pd.DataFrame(
        {
            "patient_id": list(files),
            "person": list(files),
            "subset": ["train"] * 18 + ["test"] * 6,
            "label": pd.array([n % 2 for n in range(18)] + [pd.NA] * 6, dtype="Int8"),
            "age_years": rng.integers(30, 90, PATIENTS),
            "lymphocyte_count": np.exp(rng.normal(2, 0.5, PATIENTS)),
            "cell_count": [len(of) for of in files.values()],
        }
    )
    stored = [cell for of in files.values() for cell in decode_pictures(of, image)]
    pixels = np.stack([cell.pixels for cell in stored])
    cells = pd.DataFrame([cell.record for cell in stored])
    encoder = build_pooled_encoder(ENCODER, image.size, seed=0).eval()
    packed = pack(
        PooledEncoder, encoder.state_dict(), ENCODER, image, pretext_parameters(name="frozen"), 0
    )
    ready = ReadyEncoder(encoder, image.size, VIEWS, view_of, COMPUTE)
    parts = zip(*ready.embed(pixels, np.arange(len(pixels))), strict=True)
    _, large, small = (np.concatenate(part) for part in parts)
    embeddings = table_of(cells[["patient_id", "image_id"]], VIEWS, large, small)
    embeddings = embeddings.replace_schema_metadata({"autoencoder": fingerprint(packed)})
    ids = patients["patient_id"].to_numpy()
    parts = {1: (np.arange(12), np.arange(12, 18)), 2: (np.arange(6, 18), np.arange(6))}
    splits = pd.concat(
        pd.DataFrame({"split": split, "patient_id": ids[part], "role": role})
        for split, both in parts.items()
        for role, part in zip(("train", "validation"), both, strict=True)
    )
    train = patients["subset"] == "train"
    of_train = cells["patient_id"].isin(ids[train])
    reference = fit_reference(
        patients[train],
        cells[of_train].reset_index(drop=True),
        measure_pictures(pixels[of_train]),
        large[of_train, 0],
    )

    def classifiers(inputs, **changes):
        settings = mil(epochs=1, inputs=inputs, **changes)
        return {
            size: train_suite(
                gather_bags(select_embedding(embeddings, size), patients), patients, splits,
                settings, 0, FABRIC, Progress(None),
            )[0]
            for size in ("large", "small")
        }  # fmt: skip

    def bundle(clinical=True, size="large", **changes):
        if not clinical:
            models = classifiers("pictures", **changes)
        else:
            alone = classifiers("pictures", **changes)
            models = classifiers("both", **changes) | {
                f"{of}_pictures_only": content for of, content in alone.items()
            }
        return Bundle(
            packed, None, models, {model: REFERRAL for model in models if model.startswith(size)},
            reference, ENSEMBLE.model_copy(update={"size": size}), COMPUTE, {}, "card",
        )  # fmt: skip

    return SimpleNamespace(
        files=files, patients=patients, embeddings=embeddings, image=image, bundle=bundle
    )


def diagnose(system, world, patient_id, **changes):
    of = world.patients.set_index("patient_id").loc[patient_id]
    values = {"age": float(of["age_years"]), "count": float(of["lymphocyte_count"])}
    return system.diagnose(world.files[patient_id], **values | changes, image=world.image)


@pytest.mark.parametrize(
    "changes", [{"classifier": "logistic", "components": 3}, {"aggregator": "attention"}]
)
def test_the_numbers_are_those_of_a_test_patient_of_the_workspace(world, changes):
    bundle = world.bundle(**changes)
    system = ReadySystem(bundle, COMPUTE)
    test = np.arange(18, 24)
    for size in ("large", "small"):
        suite = load_suite(bundle.classifiers[size])
        bags = gather_bags(select_embedding(world.embeddings, size), world.patients)
        said = predict_patients(suite, bags, world.patients, {1: test, 2: test}, FABRIC)
        statistics = summarise(said)
        decided = {name: rule.decide(statistics, ENSEMBLE) for name, rule in RULES.items()}
        for k, patient_id in enumerate(statistics["patient_id"]):
            row = diagnose(system, world, patient_id).row
            for name in ("mean", "std", "min", "max"):
                assert row[f"{size}_{name}"] == statistics[name][k]
            for name, decision in decided.items():
                assert row[f"{size}_{name}"] == decision["decision"][k]


def test_who_came_before_changes_no_bit(world):
    system = ReadySystem(world.bundle(), COMPUTE)
    first = diagnose(system, world, "P20")
    for other in ("P00", "P23"):
        diagnose(system, world, other)
    again = diagnose(system, world, "P20")
    assert again.row == first.row
    assert again.cells.equals(first.cells)


def test_contributions_add_up_to_the_mean_logit(world):
    bundle = world.bundle(classifier="logistic", fusion="late")
    diagnosis = diagnose(ReadySystem(bundle, COMPUTE), world, "P19")
    bags = gather_bags(select_embedding(world.embeddings, "large"), world.patients)
    suite = load_suite(bundle.classifiers["large"])
    asked = dict.fromkeys(suite.classifiers, np.array([19]))
    said = predict_patients(suite, bags, world.patients, asked, FABRIC)
    assert diagnosis.cells["contribution"].sum() == pytest.approx(logit(said["probability"]).mean())


class TestWithoutClinicalValues:
    @pytest.mark.parametrize("missing", [{"age": None}, {"count": None}])
    def test_the_pictures_classifiers_answer_and_it_is_said(self, world, missing):
        system = ReadySystem(world.bundle(), COMPUTE)
        whole = diagnose(system, world, "P18").row
        row = diagnose(system, world, "P18", **missing).row
        assert whole["inputs"] == "pictures and clinical values"
        assert row["inputs"] == "pictures"
        assert row["large_mean"] is None
        assert row["small_avg"] is None
        for model in ("large_pictures_only", "small_pictures_only"):
            assert row[f"{model}_mean"] == whole[f"{model}_mean"]
        assert row["probability"] == row["probability_pictures"] == whole["probability_pictures"]
        assert any("pictures alone" in text for text in row["warnings"])

    def test_a_system_for_pictures_only_never_uses_them(self, world):
        system = ReadySystem(world.bundle(clinical=False), COMPUTE)
        row = diagnose(system, world, "P18").row
        other = diagnose(system, world, "P18", age=99.0, count=1.0).row
        assert row["inputs"] == other["inputs"] == "pictures"
        assert row["probability"] == other["probability"] == row["probability_pictures"]
        assert "large_pictures_only_mean" not in row
        assert not any("alone" in text for text in row["warnings"])


class TestPictures:
    def test_a_picture_that_is_left_out_has_a_row_and_no_share(self, world):
        system = ReadySystem(world.bundle(), COMPUTE)
        files = [file_of("P18", "000000.png", b"no picture"), *world.files["P18"]]
        diagnosis = system.diagnose(files, 50.0, 10.0, world.image)
        assert diagnosis.row["cell_count"] == len(files) - 1
        assert diagnosis.cells["status"].tolist() == ["left_out"] + ["taken"] * (len(files) - 1)
        assert diagnosis.cells["contribution"].isna().tolist() == [True] + [False] * (
            len(files) - 1
        )
        assert any("left_out" in text for text in diagnosis.row["warnings"])

    def test_no_picture_means_no_prediction(self, world):
        system = ReadySystem(world.bundle(), COMPUTE)
        diagnosis = system.diagnose([file_of("P", "a.png", b"")], 50.0, 10.0, world.image)
        row = diagnosis.row
        assert row["cell_count"] == 0
        assert row["advice"] == "look again"
        assert row["probability"] is None
        assert row["large_mean"] is None
        assert row.keys() == diagnose(system, world, "P18").row.keys()

    def test_the_bundle_says_how_pictures_are_shaped_and_the_user_what_else_happens(
        self, world, picture
    ):
        system = ReadySystem(world.bundle(), COMPUTE)
        other = world.image.model_copy(update={"crop": 20, "size": 33})
        files = world.files["P18"]
        same = system.diagnose(files, 50.0, 10.0, other)
        assert same.row == system.diagnose(files, 50.0, 10.0, world.image).row
        small = [file_of("P18", "small.png", picture(size=(30, 30)))]
        refuse = world.image.model_copy(update={"other_size": "refuse"})
        with pytest.raises(UserError, match=r"P18/small\.png.*30x30"):
            system.diagnose(small, 50.0, 10.0, refuse)

    def test_a_patient_unlike_the_training_patients_is_looked_at_again(self, world, picture):
        system = ReadySystem(world.bundle(), COMPUTE)
        grey = [file_of("G", f"{k}.png", picture(k, mode="L")) for k in range(3)]
        row = system.diagnose(grey, 50.0, 10.0, world.image).row
        assert row["unlike"]
        assert row["advice"] == "look again"
        assert row["flags"]
        assert any("unlike" in text for text in row["reasons"])


def test_a_row_is_plain_values(world):
    row = diagnose(ReadySystem(world.bundle(), COMPUTE), world, "P18").row
    plain = (str, float, int, bool, type(None))
    predictions = row.pop("predictions")
    for value in row.values():
        assert type(value) in plain or all(type(text) is str for text in value)
    assert {type(p) for of_classifier in predictions for p in of_classifier} == {float}
    assert np.mean(predictions) == pytest.approx(row["large_mean"])


def test_the_small_embedding_may_decide(world):
    row = diagnose(ReadySystem(world.bundle(size="small"), COMPUTE), world, "P18").row
    plain = 1 / (1 + np.exp(-(2 * logit(row["small_mean"]) + 0.1)))
    assert row["probability"] == pytest.approx(plain)


def test_why_to_look_again_is_always_told(world):
    bundle = world.bundle()
    # Refers everybody, and holds nobody for tumoral.
    contradicts = replace(REFERRAL, threshold=0.0, tumoral_from=1.0, reactive_up_to=1.0)
    system = ReadySystem(
        replace(bundle, referrals=dict.fromkeys(bundle.referrals, contradicts)), COMPUTE
    )
    row = diagnose(system, world, "P18").row
    assert (row["referral"], row["set"], row["advice"]) == ("refer", "do not refer", "look again")
    assert any(text.startswith("Only a reactive one is possible") for text in row["reasons"])
