"""A small made-up workspace, as the catalog would give it to the report."""

import types

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from lymphocytosis.decision.controls import CLINICAL
from lymphocytosis.decision.evidence import measure
from lymphocytosis.decision.referral import out_of_fold_probabilities
from lymphocytosis.decision.referral_evidence import judge_referral, measure_referral
from lymphocytosis.decision.results import tabulate
from lymphocytosis.decision.rules import RULES, summarise
from lymphocytosis.decision.subgroups import measure_subgroups
from lymphocytosis.parameters import EnsembleParameters, EvaluationParameters
from lymphocytosis.report.cohort import report_on_cohort
from lymphocytosis.report.page import write_page

ENSEMBLE = EnsembleParameters(
    sa_variant="corrected", size="large", wanted_sensitivity=0.9, error_rate=0.2
)
EVALUATION = EvaluationParameters(
    source="stratified", folds=2, repeats=2, seed=0, pretraining="once", resamples=100,
    confidence=0.95,
)  # fmt: skip
VIEWS = ["original", "horizontal", "vertical"]
MIL = {"inputs": "both", "classifier": "neural", "aggregator": "mean", "epochs": 3}
SIDE = 8


class Images(np.ndarray):
    """As `CellImages`."""

    records: pd.DataFrame


def _spread(ids, of):
    return pd.DataFrame({"patient_id": ids}).merge(pd.DataFrame(of), how="cross")


def make_entries(names=None, cells=4, seed=0, image="img{}.jpg"):
    """The entries of a workspace of 20 labelled training patients and 4 test patients."""
    generator = np.random.default_rng(seed)
    images = pd.DataFrame({"image_id": [image.format(n) for n in range(cells)]})
    names = names or [f"Pat{n:02d}" for n in range(24)]
    label = np.array([0, 1] * 10 + [0, 1, 0, 1])
    patients = pd.DataFrame(
        {
            "patient_id": names,
            "person": names,
            "subset": ["train"] * 20 + ["test"] * 4,
            "label": pd.array(label, dtype="Int8"),
            "age_years": (50 + 20 * label + generator.integers(0, 9, 24)).astype("int16"),
            "sex": ["F", "M"] * 12,
            "lymphocyte_count": 5 + 20 * label + generator.random(24).round(2),
            "cell_count": np.full(24, cells, dtype="int32"),
        }
    )
    truth = dict(zip(names, label, strict=True))
    train, test = names[:20], names[20:]

    def predict(rows, noise=0.3):
        middle = rows["patient_id"].map(truth) * 0.4 + 0.3
        values = middle + generator.normal(0, noise, len(rows))
        return rows.assign(probability=np.clip(values, 0.001, 0.999).to_numpy())

    every = pd.MultiIndex.from_product([range(1, 6), VIEWS], names=["split", "view"]).to_frame(
        index=False
    )
    entries = {"versions": {"run": "2026-01-31T09.15.00.000Z", "results": "x"}}
    entries |= {"patients": patients, "autoencoder": None}
    for size in ("large", "small"):
        entries[f"{size}_predictions"] = predict(_spread(test, every))
        entries[f"{size}_out_of_fold"] = predict(_spread(train[:6], every[every["split"] == 1]))
        judged = pd.concat([entries[f"{size}_predictions"], entries[f"{size}_out_of_fold"]])
        shares = judged[["patient_id", "split", "view"]].merge(images, how="cross")
        shares["contribution"] = generator.normal(size=len(shares))
        entries[f"{size}_cell_contributions"] = shares
    decisions = {
        f"{size} {rule.title.format(**ENSEMBLE.model_dump())}": (size, rule)
        for rule in RULES.values()
        for size in ("small", "large")
    }

    def decided(kind):
        return {
            title: rule.decide(summarise(entries[f"{size}_{kind}"]), ENSEMBLE)
            for title, (size, rule) in decisions.items()
        }

    entries["results"] = tabulate(patients, decided("predictions"), decided("out_of_fold"), True)
    files = _spread(names, images)
    records = files.assign(
        row=pd.array(range(len(files)), dtype="Int64"), status="taken", reason="",
        path=files["patient_id"] + "/" + files["image_id"], sha256="", subset="train",
    )  # fmt: skip
    pixels = generator.integers(0, 256, (len(files), SIDE, SIDE, 3), dtype=np.uint8).view(Images)
    pixels.records = records
    entries["cell_images"] = pixels
    keys = _spread(names, images)
    keys = keys.merge(pd.DataFrame({"view": VIEWS}), how="cross")
    vectors = generator.normal(size=(len(keys), 3)).astype(np.float32)
    entries["embeddings"] = pa.table(
        {
            **{name: pa.array(keys[name].tolist(), pa.string()) for name in keys.columns},
            "large": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 3),
        }
    )
    entries["ingest_report"] = {
        "read": ["clinical_annotation.csv: read"],
        "pictures": {"taken": len(files), "converted": 0, "left_out": 0},
        "warnings": [f"Patients {names[0]}, {names[1]} share a birth date and sex."],
    }
    made = {"mil": MIL, "views": VIEWS, "encoder": "e" * 64, "splits": "s"}
    entries["large_classifiers"] = {"parameters": made}
    return entries | _evaluate(patients, train, every, predict)


def _evaluate(patients, train, every, predict):
    folds = pd.DataFrame(
        [(r, 1 + (n // 2 + r) % 2, name) for r in (1, 2) for n, name in enumerate(train)],
        columns=["repeat", "fold", "patient_id"],
    )
    single = pd.concat(
        [
            predict(folds.merge(every, how="cross").assign(size=size, system=system))
            for size in ("large", "small")
            for system in ("pictures", "pictures + clinical")
        ],
        ignore_index=True,
    ).assign(role="held_out")
    single.attrs = {"encoder": "e" * 64, "views": VIEWS, "mil": MIL}
    label = patients.set_index("patient_id")["label"]
    mean = single.assign(method=single["size"] + ", " + single["system"]).groupby(
        ["method", "repeat", "fold", "patient_id"], as_index=False
    )["probability"].mean()  # fmt: skip
    controls = [predict(folds.assign(method=m), 0.5) for m in (CLINICAL, "bag size")]
    nested = pd.concat([*controls, mean], ignore_index=True)
    nested = nested.assign(
        threshold=0.4,
        person=nested["patient_id"],
        label=label.loc[nested["patient_id"]].astype(int).to_numpy(),
        decision=(nested["probability"] >= 0.5).astype(int),
        referral=(nested["probability"] >= 0.4).astype(int),
        sa_corrected=pd.array([None] * len(nested), dtype="Int8"),
        sa_as_printed=pd.array([None] * len(nested), dtype="Int8"),
    )
    known = out_of_fold_probabilities(single, patients, size="large", system="pictures + clinical")
    judged = judge_referral(known, 0.9, 0.2).assign(method="large, pictures + clinical")
    return {
        "evaluated_with": {
            "evaluation": EVALUATION.model_dump(mode="json"),
            "ensemble": ENSEMBLE.model_dump(mode="json"),
        },
        "classifier_predictions": single,
        "nested_predictions": nested,
        "evaluation": measure(nested, 100, 0.95, 0),
        "subgroups": measure_subgroups(nested, patients, 100, 0.95, 0),
        "referral_predictions": judged,
        "referral_evaluation": measure_referral(judged, 100, 0.95, 0),
        "evaluation_summary": "- **Mind the <order> of rows.**\n\nand more\n",
    }


@pytest.fixture(scope="session")
def entries():
    return types.MappingProxyType(make_entries())


@pytest.fixture(scope="session")
def write():
    """A function that writes the page of entries."""

    def go(entries, names=True):
        return write_page(report_on_cohort(entries, ENSEMBLE, EVALUATION, names))

    return go


@pytest.fixture(scope="session")
def page(entries, write):
    return write(entries)
