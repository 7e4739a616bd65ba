"""Diagnosing one patient by a trained system."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from lymphocytosis.cohort.inventory import reasons_of
from lymphocytosis.cohort.pictures import PictureFile
from lymphocytosis.compute import give_memory_back, start_fabric
from lymphocytosis.decision.referral import Advice, advise
from lymphocytosis.decision.rules import RULES, describe
from lymphocytosis.decision.unlike import find_odd_cells, find_unlike
from lymphocytosis.encoders.checkpoint import unpack
from lymphocytosis.encoders.embed import ReadyEncoder
from lymphocytosis.imaging.measures import measure_pictures
from lymphocytosis.imaging.store import decode_pictures, warn_of_pictures
from lymphocytosis.imaging.views import view_of, view_to_compare
from lymphocytosis.mil.prediction import Suite, explain_patient, load_suite, predict_patient
from lymphocytosis.mil.whitening import whiten
from lymphocytosis.parameters import ComputeParameters, ImageParameters
from lymphocytosis.system.bundle import Bundle

# What a run or a service decides by itself; the shape of the pictures is the bundle's.
_POLICIES = ("unreadable", "other_size", "other_mode")
_OF_CELLS = ["image_id", "status", "reason", "contribution", "distance", "odd"]
_STATISTICS = ("mean", "std", "min", "max")

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Diagnosis:
    """What a system says of one patient.

    Attributes:
        row: plain values. patient_id, cell_count, age_years, lymphocyte_count; inputs: what the
            advice rests on; probability, referral, set and advice as in
            `decision.referral.Advice`, but a patient unlike the training patients is always to be
            looked at again; probability_pictures: of the pictures alone, calibrated too; unlike;
            flags, reasons and warnings: lists of texts; predictions: those that the advice rests
            on, a list for each classifier, of a probability for each view; and of each model's
            predictions mean, std, min, max and the rules' decisions, None where the model was not
            asked.
        cells: a row for each picture: image_id, status, reason; contribution to the mean logit of
            the predictions that the advice rests on; distance of its embedding from the patient's
            mean, small for a typical cell; odd: further from the training patients' cells than 99 %
            of these are. The last three are empty where the picture was left out.
    """

    row: dict[str, Any]
    cells: pd.DataFrame


class ReadySystem:
    """A bundle made ready to diagnose patients, in any number of threads.

    On one machine a patient gets the same bits whoever else is diagnosed.

    Attributes:
        image: how pictures must be prepared.
        facts: what the bundle tells of itself.
        card: the model card, in Markdown.
        fingerprint: of everything that a diagnosis depends on.
    """

    def __init__(self, bundle: Bundle, compute: ComputeParameters) -> None:
        """Build the encoder and the classifiers, once.

        Args:
            bundle: as `read_bundle` returns it.
            compute: the block `compute` of the parameters. Only its accelerator is used; what
                decides bits is the bundle's.

        Raises:
            UserError: a model of the bundle can't be built, or the accelerator is missing.
        """
        compute = bundle.compute.model_copy(update={"accelerator": compute.accelerator})
        self.facts, self.card, self.fingerprint = bundle.facts, bundle.card, bundle.fingerprint
        self._bundle = bundle
        self._fabric = start_fabric(compute)
        self._decoding, self._encoding = Lock(), Lock()
        self._suites: dict[str, Suite] = {}
        self._whitening: dict[str, dict[str, Tensor]] = {}
        for model, content in bundle.classifiers.items():
            suite = load_suite(content).on(self._fabric.device)
            # Both kinds of a size were trained on the same embeddings: they are whitened once.
            shared = self._whitening.setdefault(_size_of(model), suite.whitening)
            if all(torch.equal(shared[name], value) for name, value in suite.whitening.items()):
                suite = replace(suite, whitening={})
            self._suites[model] = suite
        self._size = bundle.ensemble.size
        # Where no model takes clinical values, those of the bare sizes are for pictures only.
        self._clinical = f"{self._size}_pictures_only" in self._suites
        self._pictures_only = f"{self._size}_pictures_only" if self._clinical else self._size
        embedder, self.image = unpack(bundle.autoencoder)
        views = self._suites[self._size].views
        self._compared = views.index(view_to_compare(views))
        self._encoder = ReadyEncoder(
            embedder, self.image.size, views, view_of, compute, bundle.onnx
        )

    def diagnose(
        self,
        pictures: Sequence[PictureFile],
        age: float | None,
        count: float | None,
        image: ImageParameters,
    ) -> Diagnosis:
        """Diagnose a patient.

        Args:
            pictures: the patient's files, at least one.
            age: in years; None where it is not known.
            count: lymphocytes, 10^9 per litre; None where it is not known.
            image: says what to do with pictures that are unreadable or of another size or mode.

        Returns:
            The diagnosis. Where no picture could be taken, nothing is predicted.

        Raises:
            UserError: `image` says `refuse` for what is wrong with a picture.
        """
        image = self.image.model_copy(update={name: getattr(image, name) for name in _POLICIES})
        # While decoding, the process's filters of warnings are changed.
        with self._decoding:
            stored = list(decode_pictures(pictures, image))
        records = pd.DataFrame([picture.record for picture in stored])
        taken = records["status"] != "left_out"
        cells = records.reindex(columns=_OF_CELLS).astype(
            {"contribution": float, "distance": float, "odd": "boolean"}
        )
        known = age is not None and count is not None
        row: dict[str, Any] = {
            "patient_id": pictures[0].patient_id,
            "cell_count": int(taken.sum()),
            "age_years": age,
            "lymphocyte_count": count,
            "inputs": "pictures and clinical values" if known and self._clinical else "pictures",
        }
        warnings = reasons_of(records) + warn_of_pictures(records)
        if self._clinical and not known:
            warnings.insert(0, "Age or count is missing: the advice rests on the pictures alone.")
        if not taken.any():
            return Diagnosis(row | self._nothing() | {"warnings": warnings}, cells)
        shown = np.stack([picture.pixels for picture in stored if picture.pixels is not None])
        with ThreadPoolExecutor(1) as aside:  # the encoder leaves Python time to measure
            measured = aside.submit(measure_pictures, shown)
            embedded = self._embed(shown)
        bags = {size: self._bag(vectors) for size, vectors in embedded.items()}
        whitened = {
            size: whiten(bag, self._whitening[size]) if self._whitening[size] else bag
            for size, bag in bags.items()
        }
        bag_of = {
            model: (bags if suite.whitening else whitened)[_size_of(model)]
            for model, suite in self._suites.items()
        }
        clinical = self._fabric.to_device(torch.tensor([age, count] if known else [0.0, 0.0]))
        predictions = {
            model: predict_patient(suite, bag_of[model], clinical, self._fabric)[0]
            for model, suite in self._suites.items()
            if known or not self._clinical or model.endswith("_pictures_only")
        }
        decides = self._size if self._size in predictions else self._pictures_only
        statistics = self._statistics(predictions)
        advice, of_pictures = (
            advise(self._bundle.referrals[model], statistics[f"{model}_mean"])
            for model in (decides, self._pictures_only)
        )
        original = embedded["large"][:, self._compared]
        converted = float((records["status"] == "converted").sum() / taken.sum())
        flags = find_unlike(
            self._bundle.reference, measured.result(), original, converted, age, count
        )
        shares = explain_patient(self._suites[decides], bag_of[decides], clinical)
        cells.loc[taken, "contribution"] = shares.mean(axis=(0, 1))
        cells.loc[taken, "distance"] = np.linalg.norm(original - original.mean(axis=0), axis=1)
        cells.loc[taken, "odd"] = find_odd_cells(self._bundle.reference, original)
        row |= asdict(advice) | {
            "advice": "look again" if flags else advice.advice,
            "probability_pictures": of_pictures.probability,
            "unlike": bool(flags),
            "flags": [flag.text for flag in flags],
            "reasons": self._reasons(advice, decides, predictions[decides], bool(flags)),
            "warnings": warnings,
            "predictions": predictions[decides].tolist(),
        }
        give_memory_back()
        return Diagnosis(row | statistics, cells)

    def _embed(self, pixels: npt.NDArray[np.uint8]) -> dict[str, Vectors]:
        """Embed pictures (n, S, S, 3); (n, v, D) by size."""
        # One patient's run keeps all cores busy; two at once would only get in each other's way.
        with self._encoding:
            parts = list(self._encoder.embed(pixels, np.arange(len(pixels))))
        _, large, small = zip(*parts, strict=True)
        return {"large": np.concatenate(large), "small": np.concatenate(small)}

    def _bag(self, embedded: Vectors) -> Tensor:
        """Order embeddings (n, v, D) as classifiers take them: (v n, D), view by view."""
        by_view = np.ascontiguousarray(embedded.swapaxes(0, 1)).reshape(-1, embedded.shape[2])
        return self._fabric.to_device(torch.from_numpy(by_view))

    def _statistics(self, predictions: Mapping[str, npt.NDArray[np.float64]]) -> dict[str, Any]:
        """Describe each model's predictions, as `ensemble` does; None for those not asked."""
        names = (*_STATISTICS, *RULES)
        found: dict[str, Any] = {
            f"{model}_{name}": None for model in self._suites for name in names
        }
        if not predictions:
            return found
        # Each model in the place of a patient: pandas takes milliseconds a call.
        rows = [
            {"patient_id": model, **describe(values.ravel())}
            for model, values in predictions.items()
        ]
        described = pd.DataFrame(rows)
        for name, rule in RULES.items():
            decided = rule.decide(described, self._bundle.ensemble)["decision"].tolist()
            found |= {f"{m}_{name}": d for m, d in zip(predictions, decided, strict=True)}
        for row in rows:
            found |= {f"{row['patient_id']}_{name}": row[name] for name in _STATISTICS}
        return found

    def _nothing(self) -> dict[str, Any]:
        unknown = dict.fromkeys(("probability", "referral", "set"))
        return {
            **unknown,
            "advice": "look again",
            "probability_pictures": None,
            "unlike": None,
            "flags": [],
            "reasons": ["No picture could be taken, so nothing was predicted."],
            "predictions": [],
            **self._statistics({}),
        }

    def _reasons(
        self, advice: Advice, model: str, predictions: npt.NDArray[np.float64], unlike: bool
    ) -> list[str]:
        referral = self._bundle.referrals[model]
        above = "at least" if advice.referral == "refer" else "below"
        said = [
            f"The probability of a tumoral lymphocytosis, {advice.probability:.2f}, is {above} "
            f"{referral.threshold:.2f}, from which patients are referred.",
            f"{(predictions >= 0.5).sum()} of {predictions.size} predictions are for tumoral; they "
            f"reach from {predictions.min():.2f} to {predictions.max():.2f}.",
        ]
        rate = f"at an error rate of {self._bundle.ensemble.error_rate:.0%}"
        if advice.set == "both":
            said.append(f"Neither reactive nor tumoral can be excluded {rate}.")
        if advice.set == "none":
            said.append(f"The probability is unusual for a reactive and for a tumoral one {rate}.")
        if advice.set in ("refer", "do not refer") and advice.set != advice.referral:
            one = "tumoral" if advice.set == "refer" else "reactive"
            said.append(f"Only a {one} one is possible {rate}, which contradicts the threshold.")
        if unlike:
            said.append("The patient is unlike the training patients, so all this is uncertain.")
        return said


def _size_of(model: str) -> str:
    return model.split("_")[0]
