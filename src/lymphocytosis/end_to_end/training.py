"""Training from pictures to diagnosis, a step for every few bags (paper, section 2.1)."""

import logging
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import nn

from lymphocytosis.compute import finite_losses, in_batches, keeping_memory
from lymphocytosis.display import Work, numbered, working
from lymphocytosis.end_to_end.bags import PictureBags, pack_pictures
from lymphocytosis.end_to_end.model import PictureClassifier, build_picture_classifier
from lymphocytosis.end_to_end.prediction import predict_pictures
from lymphocytosis.errors import UserError
from lymphocytosis.mil.bags import Batch, Indices
from lymphocytosis.mil.epochs import BestEpoch, train_epoch
from lymphocytosis.mil.scores import balanced_accuracy, probabilities
from lymphocytosis.mil.splits import ROLES, fingerprint, numbers_of
from lymphocytosis.mil.suite import Trained, finished_before, keep
from lymphocytosis.parameters import BagImagesParameters, EncoderParameters, MilParameters, View
from lymphocytosis.pretext.augment import flip_and_turn
from lymphocytosis.progress import Progress

logger = logging.getLogger(__name__)


def train_picture_classifier(
    classifier: PictureClassifier,
    bags: PictureBags,
    train: Indices,
    validation: Indices,
    views: Sequence[View],
    mil: MilParameters,
    bag_images: BagImagesParameters,
    seed: int,
    fabric: Fabric,
) -> pd.DataFrame:
    """Train one model; it is left with the weights of its best epoch on the validation patients.

    Args:
        classifier: with its initial weights.
        bags: every bag.
        train: numbers of the training patients.
        validation: numbers of the validation patients.
        views: the views in which validation patients are predicted, each a bag of its own.
        mil: the block `mil` of the parameters: what is monitored.
        bag_images: the block `bag_images`: how the model is trained.
        seed: of the order of bags, and of flips and turns.
        fabric: device and precision, this training's own.

    Returns:
        A row an epoch: epoch, loss, train_balanced_accuracy (of the predictions made while
        training), validation_balanced_accuracy, learning_rate (the classifier's), kept (whether it
        is the epoch kept).

    Raises:
        UserError: the loss is no longer a finite number.
    """
    classifier.classifier.fit_clinical_scale(bags.clinical[torch.from_numpy(train)])
    classifier.to(fabric.device)
    adam = torch.optim.AdamW(
        [
            {
                "params": classifier.encoder.parameters(),
                "lr": bag_images.encoder_learning_rate,
            },
            {"params": classifier.classifier.parameters(), "lr": bag_images.learning_rate},
        ],
        weight_decay=bag_images.weight_decay,
        fused=True,
    )
    optimizer = fabric.setup_optimizers(adam)
    generator = torch.Generator().manual_seed(seed)
    rates = "bag_images.learning_rate and bag_images.encoder_learning_rate"
    best = BestEpoch(mil.monitor)
    steps, note = bag_images.epochs * len(train), numbered("epoch", bag_images.epochs, len(train))
    with keeping_memory(), working("model", steps, "patients", note) as work:
        for epoch in range(1, bag_images.epochs + 1):
            shuffled = train[torch.randperm(len(train), generator=generator).numpy()]
            parts = in_batches(shuffled, bag_images.batch_bags)
            batches = _turned(bags, parts, generator, fabric, work)
            losses, said = train_epoch(classifier, optimizer, fabric, batches)
            of_batches = finite_losses(losses, epoch, "a bag-images classifier", rates)
            loss = float(np.average(of_batches, weights=[len(part) for part in parts]))
            _renew_batchnorm(classifier, fabric, bags, parts)
            predicted = predict_pictures(classifier, bags, validation, views, fabric)
            score = balanced_accuracy(
                np.repeat(bags.label[validation], len(views)),
                probabilities(torch.cat([logit for logit, _ in predicted])),
                mil.monitor_threshold,
            )
            best.add(
                classifier,
                {
                    "loss": loss,
                    "train_balanced_accuracy": balanced_accuracy(
                        bags.label[shuffled], said, mil.monitor_threshold
                    ),
                    "validation_balanced_accuracy": score,
                    "learning_rate": bag_images.learning_rate,
                },
            )
            logger.info(
                "bag-images: epoch %d of %d, loss %.4g, %.3f in validation",
                epoch, bag_images.epochs, loss, score,
            )  # fmt: skip
    return best.restore(classifier)


def _turned(
    bags: PictureBags, parts: list[Indices], generator: torch.Generator, fabric: Fabric, work: Work
) -> Iterator[Batch]:
    """Read each batch when it is asked for; all eight flips and turns are equally likely."""
    for part in parts:
        batch = pack_pictures(bags, part)
        turned = replace(batch, instances=flip_and_turn(batch.instances, 1.0, generator))
        yield fabric.to_device(turned)
        work.advance(len(part))


@torch.no_grad()
def _renew_batchnorm(
    model: PictureClassifier, fabric: Fabric, bags: PictureBags, parts: list[Indices]
) -> None:
    """Measure BatchNorm's figures anew on the training bags, with the weights as they are now.

    The usual running figures lag: an epoch has few steps, and the encoder moves under the
    classifier. In eval mode the classifier would then see instances scaled otherwise than those it
    has just learnt from.
    """
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.reset_running_stats()
            module.momentum = None  # the plain mean over batches
    for part in parts:
        with fabric.autocast():
            model(fabric.to_device(pack_pictures(bags, part)))


def train_picture_suite(
    bags: PictureBags,
    patients: pd.DataFrame,
    splits: pd.DataFrame,
    encoder: EncoderParameters,
    mil: MilParameters,
    bag_images: BagImagesParameters,
    views: Sequence[View],
    seed: int,
    fabric: Fabric,
    progress: Progress,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Train one model for each split; after a kill, go on with those that are not finished.

    Args:
        bags: every bag; patients are numbered as in `patients`.
        patients: patient_id, and others.
        splits: split, patient_id, role.
        encoder: the block `encoder` of the parameters.
        mil: the block `mil`.
        bag_images: the block `bag_images`.
        views: the views in which validation patients are predicted.
        seed: of the first split's model; each further one adds 1.
        fabric: device and precision.
        progress: where each finished model is kept.

    Returns:
        The models as plain values: parameters, and a state dict for each split; and their
        histories, with a column split.

    Raises:
        UserError: a step is to see a single bag, and a patient has a single picture.
    """
    alone = [patients["patient_id"].iloc[i] for i, rows in enumerate(bags.rows) if len(rows) == 1]
    if bag_images.batch_bags == 1 and alone:
        raise UserError(
            f"bag_images.batch_bags is 1, and patient {alone[0]} has a single picture: BatchNorm "
            "can't train on one value. Set it to 2 or more."
        )
    image = bags.images.image
    trained: dict[int, Trained] = {}
    numbers = sorted(int(split) for split in splits["split"].unique())
    note = numbered("split", len(numbers))
    with working("bag-images", len(numbers), "models", note) as work:
        for place, split in enumerate(numbers):
            if finished := finished_before(progress, split):
                trained[split] = finished
                work.resume()
                continue
            train, validation = (numbers_of(patients, splits, split, role) for role in ROLES)
            own_seed = seed + place
            model = build_picture_classifier(encoder, mil, image.size, bag_images.chunk, own_seed)
            history = train_picture_classifier(
                model, bags, train, validation, views, mil, bag_images, own_seed, deepcopy(fabric)
            )
            trained[split] = keep(progress, split, model, history)
            work.advance()
    parameters = {
        "encoder": encoder.model_dump(mode="json"),
        "image": image.model_dump(mode="json"),
        "mil": mil.model_dump(mode="json"),
        "bag_images": bag_images.model_dump(mode="json"),
        "views": list(views),
        "seed": seed,
        "splits": fingerprint(splits),
    }
    states = {split: state for split, (state, _) in trained.items()}
    content = {"kind": "picture_classifiers", "parameters": parameters, "state_dicts": states}
    histories = [history.assign(split=split) for split, (_, history) in trained.items()]
    return content, pd.concat(histories, ignore_index=True)
