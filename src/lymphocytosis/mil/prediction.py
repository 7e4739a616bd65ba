"""Predictions of trained classifiers, for each patient and view (paper, section 3.3)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import Tensor

from lymphocytosis.errors import UserError, brief
from lymphocytosis.mil.bags import Bags, Batch, Indices
from lymphocytosis.mil.classifiers import Classifier, build_classifier
from lymphocytosis.mil.contributions import contributions
from lymphocytosis.mil.scores import Floats, probabilities
from lymphocytosis.mil.whitening import whiten
from lymphocytosis.model_files import MISFITS, fill
from lymphocytosis.parameters import MilParameters

# The columns of predictions, and of the cells' contributions to them.
PREDICTED = ["patient_id", "split", "view", "probability"]
EXPLAINED = ["patient_id", "image_id", "split", "view", "contribution"]


@dataclass(frozen=True)
class Suite:
    """The trained classifiers of one embedding size.

    Attributes:
        classifiers: one for each split, in eval mode.
        whitening: mean (D,) and matrix (D, k) of the instances; empty where they are not whitened.
        in_dim: width of the instances that a classifier takes.
        views: the views of the bags that they were trained on.
        encoder: the fingerprint of the encoder that embedded those bags.
        splits: the fingerprint of the splits that they were trained on.
    """

    classifiers: dict[int, Classifier]
    whitening: dict[str, Tensor]
    in_dim: int
    views: tuple[str, ...]
    encoder: str
    splits: str

    def on(self, device: torch.device) -> Self:
        """Move the classifiers and the whitening to a device, once for many patients.

        Args:
            device: where `predict_patient` will be given its instances.

        Returns:
            A suite of the same classifiers, which are moved in place.
        """
        whitening = {name: value.to(device) for name, value in self.whitening.items()}
        classifiers = {split: model.to(device) for split, model in self.classifiers.items()}
        return replace(self, classifiers=classifiers, whitening=whitening)


def load_suite(content: dict[str, Any]) -> Suite:
    """Rebuild a suite's classifiers.

    Args:
        content: what `train_suite` returned.

    Returns:
        The suite, on the CPU.

    Raises:
        UserError: the content is not classifiers, or they don't fit its parameters.
    """
    if content.get("kind") != "classifiers":
        raise UserError("The catalog entry holds another kind of model, not classifiers.")
    try:
        parameters, whitening = content["parameters"], content["whitening"]
        mil = MilParameters.model_validate(parameters["mil"])
        in_dim = parameters["in_dim"]
        if whitening:
            if whitening["matrix"].shape != (len(whitening["mean"]), in_dim):
                raise ValueError("the whitening has another width")
            if not all(torch.isfinite(value).all() for value in whitening.values()):
                raise ValueError("the whitening has values that are not finite")
        classifiers = {}
        for split, state in content["state_dicts"].items():
            # Sizes come from the file: allocate no more memory than its weights take.
            with torch.device("meta"):
                classifiers[split] = build_classifier(mil, in_dim, seed=0)
            fill(classifiers[split], state, assign=True)
            classifiers[split].eval()
        if not classifiers:
            raise ValueError("there are none")
        return Suite(
            classifiers,
            whitening,
            in_dim,
            tuple(parameters["views"]),
            parameters["encoder"],
            parameters["splits"],
        )
    except MISFITS as error:
        raise UserError(
            f"The classifiers can't be rebuilt: {brief(error)}. Run classify again."
        ) from error


@torch.inference_mode()
def predict_patient(
    suite: Suite, instances: Tensor, clinical: Tensor, fabric: Fabric
) -> tuple[Floats, Floats]:
    """Predict one patient by every classifier, in every view.

    On one machine the result has the same bits whoever else is predicted: matrix products of
    another shape round otherwise, and here their shape is the patient's own.

    Args:
        suite: the s classifiers, on the device of `fabric`; see `Suite.on`.
        instances: (v n, D) float32 on the same device, as embedded: the suite's v views of n cells,
            view by view.
        clinical: (2,) float32 on the same device: age in years, lymphocyte count in 10^9 per litre.
        fabric: precision.

    Returns:
        (s, v) float64 probabilities of a tumoral lymphocytosis; and (s, v) float64, their logits.
    """
    batch = _one_batch(suite, instances, clinical)
    with fabric.autocast():
        found = [classifier(batch).logits for classifier in suite.classifiers.values()]
    logits = torch.stack(found).cpu().double()
    return probabilities(logits), logits.numpy()


def explain_patient(suite: Suite, instances: Tensor, clinical: Tensor) -> Floats:
    """Give each cell's contribution to the logits of one patient; see `contributions`.

    Args:
        suite: as in `predict_patient`.
        instances: likewise.
        clinical: likewise.

    Returns:
        (s, v, n) float64, computed in float32 whatever the precision of the predictions.
    """
    batch = _one_batch(suite, instances, clinical)
    found = [contributions(classifier, batch) for classifier in suite.classifiers.values()]
    stacked = torch.stack(found).double().cpu().numpy()
    return stacked.reshape(len(found), len(suite.views), -1)


def _one_batch(suite: Suite, instances: Tensor, clinical: Tensor) -> Batch:
    """Whiten a patient's instances, if the classifiers ask for it, and pack all views."""
    if suite.whitening:
        instances = whiten(instances, suite.whitening)
    views = len(suite.views)
    return Batch(
        instances=instances,
        size=[len(instances) // views] * views,
        clinical=clinical.expand(views, 2),
        label=clinical.new_zeros(views),
    )


def predict_patients(
    suite: Suite, bags: Bags, patients: pd.DataFrame, asked: dict[int, Indices], fabric: Fabric
) -> pd.DataFrame:
    """Predict patients in every view, one after the other.

    Args:
        suite: a classifier for each split.
        bags: every bag, in the suite's views; patients are numbered as in `patients`.
        patients: patient_id, and others.
        asked: for each split, the numbers of the patients to predict.
        fabric: device and precision.

    Returns:
        patient_id, split, view, probability (of a tumoral lymphocytosis), sorted.
    """

    def ask(own: Suite, instances: Tensor, clinical: Tensor) -> Floats:
        return predict_patient(own, instances, clinical, fabric)[0]

    tables = [
        keys.assign(probability=values)
        for _, keys, values in _ask(ask, suite, bags, patients, asked, fabric)
    ]
    return in_order(tables, PREDICTED)


def explain_patients(
    suite: Suite, bags: Bags, patients: pd.DataFrame, asked: dict[int, Indices], fabric: Fabric
) -> pd.DataFrame:
    """Give each cell's contribution to its patient's predictions.

    Args:
        suite: as in `predict_patients`.
        bags: likewise.
        patients: likewise.
        asked: likewise.
        fabric: device.

    Returns:
        patient_id, image_id, split, view, contribution (to the logit), sorted.
    """
    tables = []
    for chosen, keys, values in _ask(explain_patient, suite, bags, patients, asked, fabric):
        of_cells = keys.loc[keys.index.repeat(bags.size[chosen])]
        images = bags.image_id[bags.rows_of(chosen)]
        tables.append(of_cells.assign(image_id=images, contribution=values))
    return in_order(tables, EXPLAINED)


def _ask(
    ask: Callable[[Suite, Tensor, Tensor], Floats],
    suite: Suite,
    bags: Bags,
    patients: pd.DataFrame,
    asked: dict[int, Indices],
    fabric: Fabric,
) -> Iterator[tuple[Indices, pd.DataFrame, Floats]]:
    """Yield each split's bags, their keys, and what `ask` says of them, bag by bag."""
    suite, bags = suite.on(fabric.device), bags.on(fabric.device)
    of_split = {split: np.unique(asked[split]) for split in suite.classifiers}
    said: dict[tuple[int, int], Floats] = {}
    for number in np.unique(np.concatenate(list(of_split.values()))):
        classifiers = {s: c for s, c in suite.classifiers.items() if number in of_split[s]}
        rows = torch.from_numpy(bags.rows_of(bags.of_patients(np.array([number]))))
        own = replace(suite, classifiers=classifiers)
        values = ask(own, bags.instances[rows.to(fabric.device)], bags.clinical[number])
        said |= {(s, number): row.ravel() for s, row in zip(classifiers, values, strict=True)}
    for split, numbers in of_split.items():
        chosen = bags.of_patients(numbers)
        keys = pd.DataFrame(
            {
                "patient_id": patients["patient_id"].to_numpy()[bags.patient[chosen]],
                "split": np.full(len(chosen), split),
                "view": [bags.view[bag] for bag in chosen],
            }
        )
        yield chosen, keys, np.concatenate([np.empty(0), *(said[split, n] for n in numbers)])


def in_order(tables: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    """Concatenate the tables of all splits, sorted by patient, then by split.

    Args:
        tables: patient_id, split, and others.
        columns: of the result, in order.

    Returns:
        All rows.
    """
    table = pd.concat(tables, ignore_index=True)[columns]
    table = table.astype(
        {name: "str" for name in columns if name.endswith("_id") or name == "view"}
    )
    return table.sort_values(["patient_id", "split"], kind="stable", ignore_index=True)
