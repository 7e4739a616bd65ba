"""Training from pictures to diagnosis, a step for every few bags (paper, section 2.1)."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from lymphocytosis.encoders.augment import flip_and_turn
from lymphocytosis.end_to_end.bags import Indices, PictureBags, pack_pictures
from lymphocytosis.end_to_end.model import PictureClassifier, build_picture_classifier
from lymphocytosis.end_to_end.prediction import predict_pictures
from lymphocytosis.errors import UserError
from lymphocytosis.mil.splits import ROLES, fingerprint, numbers_of
from lymphocytosis.mil.training import Floats, balanced_accuracy, finite_losses, in_batches
from lymphocytosis.parameters import BagImagesParameters, EncoderParameters, MilParameters, View
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
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Train one model and keep the epoch that does best on the validation patients.

    Args:
        classifier: with its initial weights.
        bags: every bag.
        train: numbers of the training patients.
        validation: numbers of the validation patients.
        views: the views in which validation patients are predicted, each a bag of its own.
        mil: the block `mil` of the parameters: what is monitored.
        bag_images: the block `bag_images`: how the model is trained.
        seed: of the order of bags, and of flips and turns.
        fabric: device and precision.

    Returns:
        The kept state dict, on the CPU; and a row an epoch: epoch, loss, train_balanced_accuracy
        (of the predictions made while training), validation_balanced_accuracy, learning_rate (the
        classifier's), kept (whether it is the epoch kept).

    Raises:
        UserError: the loss is no longer a finite number.
    """
    classifier.classifier.fit_clinical_scale(bags.clinical[torch.from_numpy(train)])
    optimizer = torch.optim.AdamW(
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
    model, optimizer = fabric.setup(classifier, optimizer)
    generator = torch.Generator().manual_seed(seed)
    history: list[dict[str, float]] = []
    best_score, best_epoch, best_state = -np.inf, 0, {}
    for epoch in range(1, bag_images.epochs + 1):
        shuffled = train[torch.randperm(len(train), generator=generator).numpy()]
        batches = in_batches(shuffled, bag_images.batch_bags)
        loss, probability = _train_epoch(model, optimizer, fabric, bags, batches, generator, epoch)
        _renew_batchnorm(model, fabric, bags, batches)
        train_score = balanced_accuracy(bags.label[shuffled], probability, mil.monitor_threshold)
        validation_score = balanced_accuracy(
            np.repeat(bags.label[validation], len(views)),
            predict_pictures(model, bags, validation, views, fabric)[0],
            mil.monitor_threshold,
        )
        monitored = validation_score
        if mil.monitor == "train_and_validation":
            monitored = (train_score + validation_score) / 2
        if monitored > best_score:
            best_score, best_epoch = monitored, epoch
            best_state = {k: v.detach().cpu().clone() for k, v in classifier.state_dict().items()}
        history.append(
            {
                "epoch": epoch,
                "loss": loss,
                "train_balanced_accuracy": train_score,
                "validation_balanced_accuracy": validation_score,
                "learning_rate": bag_images.learning_rate,
            }
        )
        logger.info(
            "bag-images: epoch %d of %d, loss %.4g, validation balanced accuracy %.3f",
            epoch, bag_images.epochs, loss, validation_score,
        )  # fmt: skip
    table = pd.DataFrame(history)
    return best_state, table.assign(kept=table["epoch"] == best_epoch)


def _train_epoch(
    model: Any,
    optimizer: Any,
    fabric: Fabric,
    bags: PictureBags,
    batches: list[Indices],
    generator: torch.Generator,
    epoch: int,
) -> tuple[float, Floats]:
    """Take a step for each batch; return the bags' mean loss and their probabilities, in order."""
    model.train()
    losses, logits = [], []
    for part in tqdm(batches, "batches", leave=False, disable=None):
        batch = pack_pictures(bags, part)
        # All eight flips and turns are equally likely.
        turned = replace(batch, instances=flip_and_turn(batch.instances, 1.0, generator))
        on_device = fabric.to_device(turned)
        output = model(on_device)
        loss = F.binary_cross_entropy_with_logits(output.logits, on_device.label)
        # Each expert learns by a loss of its own too; with concatenation there is none.
        for expert in output.experts:
            loss = loss + F.binary_cross_entropy_with_logits(expert, on_device.label)
        optimizer.zero_grad()
        fabric.backward(loss)
        optimizer.step()
        losses.append(loss.detach())
        logits.append(output.logits.detach().float())
    rates = "bag_images.learning_rate and bag_images.encoder_learning_rate"
    of_batches = finite_losses(losses, epoch, "a bag-images classifier", rates)
    probability = torch.sigmoid(torch.cat(logits).double()).cpu().numpy()
    return float(np.average(of_batches, weights=[len(part) for part in batches])), probability


@torch.no_grad()
def _renew_batchnorm(model: Any, fabric: Fabric, bags: PictureBags, batches: list[Indices]) -> None:
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
    for part in batches:
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
    states: dict[int, Any] = {}
    histories = []
    for split in sorted(splits["split"].unique()):
        state, history = progress.values(f"split-{split}"), progress.table(f"split-{split}")
        if state is None or history is None:
            logger.info("bag-images: split %s", split)
            train, validation = (numbers_of(patients, splits, split, role) for role in ROLES)
            own_seed = seed + len(states)
            model = build_picture_classifier(encoder, mil, image.size, bag_images.chunk, own_seed)
            state, history = train_picture_classifier(
                model, bags, train, validation, views, mil, bag_images, own_seed, fabric
            )
            progress.save_table(f"split-{split}", history)
            progress.save_values(f"split-{split}", state)
        else:
            logger.info("bag-images: split %s was finished before", split)
        states[int(split)] = state
        histories.append(history.assign(split=split))
    parameters = {
        "encoder": encoder.model_dump(mode="json"),
        "image": image.model_dump(mode="json"),
        "mil": mil.model_dump(mode="json"),
        "bag_images": bag_images.model_dump(mode="json"),
        "views": list(views),
        "seed": seed,
        "splits": fingerprint(splits),
    }
    content = {"kind": "picture_classifiers", "parameters": parameters, "state_dicts": states}
    return content, pd.concat(histories, ignore_index=True)
