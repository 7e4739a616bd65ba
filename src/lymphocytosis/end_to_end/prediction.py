"""Predictions from pictures, each patient in each view (paper, section 3.3)."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import Tensor

from lymphocytosis.end_to_end.bags import PictureBags, pack_pictures
from lymphocytosis.end_to_end.model import PictureClassifier, build_picture_classifier
from lymphocytosis.errors import UserError, brief
from lymphocytosis.imaging.views import view_of
from lymphocytosis.mil.bags import Batch, Indices
from lymphocytosis.mil.contributions import contributions
from lymphocytosis.mil.prediction import EXPLAINED, PREDICTED, in_order
from lymphocytosis.mil.scores import probabilities
from lymphocytosis.mil.splits import fingerprint
from lymphocytosis.model_files import MISFITS, fill
from lymphocytosis.parameters import (
    BagImagesParameters,
    EncoderParameters,
    ImageParameters,
    MilParameters,
    View,
)


@torch.inference_mode()
def predict_pictures(
    model: PictureClassifier,
    bags: PictureBags,
    numbers: Indices,
    views: Sequence[View],
    fabric: Fabric,
) -> Iterator[tuple[Tensor, Batch]]:
    """Predict patients in eval mode, one after the other.

    Args:
        model: a picture classifier, on the device of `fabric`.
        bags: every bag.
        numbers: the patients' numbers.
        views: the views.
        fabric: device and precision.

    Yields:
        For each patient, for each view: the logit (1,), float; and the bag, whose instances are
        the pictures' embeddings (n, D), float32.
    """
    model.eval()
    for number in numbers:
        batch = pack_pictures(bags, np.array([number]))
        for view in views:
            seen = np.ascontiguousarray(view_of(batch.instances.numpy(), view))
            in_view = replace(batch, instances=torch.from_numpy(seen))
            with fabric.autocast():
                embedded = model.embed_bags(fabric.to_device(in_view))
                logit = model.classifier(embedded).logits
            yield logit, replace(embedded, instances=embedded.instances.float())


def load_picture_classifiers(
    content: dict[str, Any], image: ImageParameters, splits: pd.DataFrame
) -> Iterator[tuple[int, PictureClassifier]]:
    """Rebuild a suite's models one after the other: with large encoders, five don't fit in memory.

    Args:
        content: what `train_picture_suite` returned.
        image: how the pictures of the store were shaped.
        splits: the splits by which out-of-fold patients will be chosen.

    Yields:
        Each split's number and its model.

    Raises:
        UserError: these are no such models; their pictures were shaped otherwise; or they were
            trained on other splits, so that nobody knows whom they have seen.
    """
    if content.get("kind") != "picture_classifiers":
        raise UserError(
            "The catalog entry 'pictures_classifiers' holds another kind of model. "
            "Run bag_images again."
        )
    try:
        parameters = content["parameters"]
        for key in ("source_size", "crop", "size"):
            then, now = parameters["image"][key], getattr(image, key)
            if then != now:
                raise UserError(
                    f"The bag-images classifiers were trained with image.{key} = {then}, and the "
                    f"image store has {now}. Run ingest with {then}, or bag_images again."
                )
        if parameters["splits"] != fingerprint(splits):
            raise UserError(
                "The bag-images classifiers were trained on other splits than those of the catalog "
                "entry 'splits'. Run bag_images again."
            )
        if set(content["state_dicts"]) != set(splits["split"]):
            raise ValueError("there is not one for each split")
        # The state dicts hold every weight: nothing need be fetched.
        encoder = EncoderParameters.model_validate(parameters["encoder"] | {"weights": "random"})
        mil = MilParameters.model_validate(parameters["mil"])
        chunk = BagImagesParameters.model_validate(parameters["bag_images"]).chunk
        for split, state in content["state_dicts"].items():
            model = build_picture_classifier(encoder, mil, image.size, chunk, seed=0)
            fill(model, state)
            yield split, model
    except MISFITS as error:
        raise UserError(
            f"The bag-images classifiers can't be rebuilt: {brief(error)}. Run bag_images again."
        ) from error


def predict_patients_by_pictures(
    content: dict[str, Any],
    bags: PictureBags,
    patients: pd.DataFrame,
    splits: pd.DataFrame,
    asked: dict[int, Indices],
    views: Sequence[View],
    fabric: Fabric,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predict patients in every view.

    Args:
        content: what `train_picture_suite` returned.
        bags: every bag; patients are numbered as in `patients`.
        patients: patient_id, and others.
        splits: split, patient_id, role.
        asked: for each split, the numbers of the patients that its model predicts.
        views: the views.
        fabric: device and precision.

    Returns:
        patient_id, split, view, probability (of a tumoral lymphocytosis), sorted; and patient_id,
        image_id, split, view, contribution: of each cell to the logit of that prediction.
    """
    patient_ids = patients["patient_id"].to_numpy()
    predictions, explanations = [], []
    for split, classifier in load_picture_classifiers(content, bags.images.image, splits):
        model = classifier.to(fabric.device)
        logits, of_cells = [torch.empty(0)], [torch.empty(0)]
        for logit, bag in predict_pictures(model, bags, asked[split], views, fabric):
            logits.append(logit.cpu())
            of_cells.append(contributions(model.classifier, bag).cpu())
        keys = pd.DataFrame(
            {
                "patient_id": patient_ids[asked[split]].repeat(len(views)),
                "split": split,
                "view": list(views) * len(asked[split]),
            }
        )
        predictions.append(keys.assign(probability=probabilities(torch.cat(logits))))
        rows = [bags.rows[number] for number in asked[split] for _ in views]
        explained = keys.loc[keys.index.repeat([len(part) for part in rows])]
        images = bags.image_id[np.concatenate(rows)] if rows else []
        contribution = torch.cat(of_cells).double().numpy()
        explanations.append(explained.assign(image_id=images, contribution=contribution))
    return in_order(predictions, PREDICTED), in_order(explanations, EXPLAINED)
