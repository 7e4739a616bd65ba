"""Training the classifiers of a suite of splits (paper, section 3.2)."""

import logging
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from lightning_fabric import Fabric
from sklearn.metrics import balanced_accuracy_score, roc_curve
from torch.nn import functional as F
from tqdm import tqdm

from lymphocytosis.errors import UserError
from lymphocytosis.mil.bags import Bags, Batch, pack
from lymphocytosis.mil.classifier import PatientClassifier
from lymphocytosis.mil.splits import ROLES, fingerprint, numbers_of
from lymphocytosis.parameters import MilParameters

logger = logging.getLogger(__name__)

Indices = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def build_classifier(mil: MilParameters, in_dim: int, seed: int) -> PatientClassifier:
    """Build a classifier; the same seed gives the same weights and the same dropout.

    Args:
        mil: the block `mil` of the parameters.
        in_dim: width of the instances.
        seed: of weights and dropout.

    Returns:
        The classifier, on the CPU.
    """
    return PatientClassifier(
        in_dim=in_dim,
        embedding_width=mil.embedding_width,
        hidden_widths=mil.hidden_widths,
        dropout=mil.dropout,
        log_count=mil.log_count,
        generator=torch.Generator().manual_seed(seed),
    )


def train_classifier(
    bags: Bags,
    train: Indices,
    validation: Indices,
    mil: MilParameters,
    seed: int,
    fabric: Fabric,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Train one classifier and keep the epoch that does best on the validation patients.

    All views of a patient are bags of their own, in training and in validation.

    Args:
        bags: every bag.
        train: numbers of the training patients.
        validation: numbers of the validation patients.
        mil: the block `mil` of the parameters.
        seed: of weights, dropout and the order of bags.
        fabric: device and precision.

    Returns:
        The kept state dict, on the CPU; and a row an epoch: epoch, loss, train_balanced_accuracy,
        validation_balanced_accuracy, learning_rate, kept (whether it is the epoch kept).

    Raises:
        UserError: the loss is no longer a finite number.
    """
    classifier = build_classifier(mil, bags.instances.shape[1], seed)
    classifier.fit_clinical_scale(bags.clinical[torch.from_numpy(train)])
    optimizer = torch.optim.Adam(classifier.parameters(), lr=mil.learning_rate, fused=True)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="max", factor=mil.scheduler.factor, patience=mil.scheduler.patience
    )
    model, optimizer = fabric.setup(classifier, optimizer)
    order = torch.Generator().manual_seed(seed)
    bags_of = {"train": bags.of_patients(train), "validation": bags.of_patients(validation)}
    history: list[dict[str, float]] = []
    best_score, best_epoch, best_state = -np.inf, 0, {}
    for epoch in range(1, mil.epochs + 1):
        rate = optimizer.param_groups[0]["lr"]
        loss = _train_epoch(model, optimizer, fabric, bags, bags_of["train"], mil.batch_size, order)
        if not np.isfinite(loss):
            raise UserError(
                f"Training a classifier stopped: the loss of epoch {epoch} is {loss}. "
                "Lower mil.learning_rate."
            )
        scores = {
            part: balanced_accuracy(
                bags.label[bags.patient[chosen]],
                predict_bags(model, bags, chosen, fabric, mil.batch_size),
                mil.monitor_threshold,
            )
            for part, chosen in bags_of.items()
        }
        monitored = scores["validation"]
        if mil.monitor == "train_and_validation":
            monitored = (scores["train"] + scores["validation"]) / 2
        scheduler.step(monitored)
        if monitored > best_score:
            best_score, best_epoch = monitored, epoch
            best_state = {k: v.detach().cpu().clone() for k, v in classifier.state_dict().items()}
        history.append(
            {
                "epoch": epoch,
                "loss": loss,
                "train_balanced_accuracy": scores["train"],
                "validation_balanced_accuracy": scores["validation"],
                "learning_rate": rate,
            }
        )
    table = pd.DataFrame(history)
    return best_state, table.assign(kept=table["epoch"] == best_epoch)


def _train_epoch(
    model: Any,
    optimizer: Any,
    fabric: Fabric,
    bags: Bags,
    chosen: Indices,
    batch_size: int,
    order: torch.Generator,
) -> float:
    """Take a step for each batch of bags; return the bags' mean loss."""
    model.train()
    total = torch.zeros((), device=fabric.device)
    shuffled = chosen[torch.randperm(len(chosen), generator=order).numpy()]
    for part in in_batches(shuffled, batch_size):
        batch = _on_device(pack(bags, part), fabric)
        loss = F.binary_cross_entropy_with_logits(model(batch), batch.label)
        optimizer.zero_grad()
        fabric.backward(loss)
        optimizer.step()
        total += loss.detach() * len(batch.label)
    return float(total) / len(shuffled)


def in_batches(bags: Indices, batch_size: int) -> list[Indices]:
    """Cut bags into batches; a last batch of one bag joins the one before it.

    A bag may hold a single cell, and BatchNorm can't train on a single value.

    Args:
        bags: (b,) indices.
        batch_size: bags in a batch, 2 or more.

    Returns:
        The batches, in order.
    """
    batches = np.split(bags, range(batch_size, len(bags), batch_size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [np.concatenate(batches[-2:])]
    return batches


@torch.inference_mode()
def predict_bags(
    model: Any, bags: Bags, chosen: Indices, fabric: Fabric, batch_size: int
) -> Floats:
    """Predict bags in eval mode; a bag's prediction does not depend on its batch mates.

    Args:
        model: a classifier, set up by `fabric`.
        bags: every bag.
        chosen: (b,) the bags to predict.
        fabric: device and precision.
        batch_size: bags in a batch.

    Returns:
        (b,) float64 probabilities of a tumoral lymphocytosis.
    """
    model.eval()
    logits = [
        model(_on_device(pack(bags, chosen[start : start + batch_size]), fabric)).float().cpu()
        for start in range(0, len(chosen), batch_size)
    ]
    return torch.sigmoid(torch.cat(logits).double()).numpy() if logits else np.empty(0)


def _on_device(batch: Batch, fabric: Fabric) -> Batch:
    return Batch(**{name: fabric.to_device(value) for name, value in vars(batch).items()})


def balanced_accuracy(label: Indices, probability: Floats, threshold: str) -> float:
    """Score predictions (scikit-learn's balanced accuracy).

    Args:
        label: (n,) 0 or 1.
        probability: (n,) float64.
        threshold: fixed: positive from 0.5 on; fitted: from where sensitivity and specificity are
            nearest to each other.

    Returns:
        The mean of sensitivity and specificity.
    """
    at = 0.5
    if threshold == "fitted":
        # As in the authors' code: where sensitivity and specificity come nearest to each other.
        false_positive, true_positive, cuts = roc_curve(label, probability)
        at = float(cuts[np.argmin(np.abs(true_positive - (1 - false_positive)))])
    return float(balanced_accuracy_score(label, probability >= at))


def train_suite(
    bags: Bags,
    patients: pd.DataFrame,
    splits: pd.DataFrame,
    mil: MilParameters,
    seed: int,
    fabric: Fabric,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Train one classifier for each split.

    Args:
        bags: every bag; patients are numbered as in `patients`.
        patients: patient_id, and others.
        splits: split, patient_id, role.
        mil: the block `mil` of the parameters.
        seed: of the first split's classifier; each further one adds 1.
        fabric: device and precision.

    Returns:
        The classifiers as plain values: parameters, and a state dict for each split; and their
        histories, with a column split.
    """
    states: dict[int, Any] = {}
    histories = []
    for split in tqdm(sorted(splits["split"].unique()), "splits", leave=False, disable=None):
        train, validation = (numbers_of(patients, splits, split, role) for role in ROLES)
        state, history = train_classifier(bags, train, validation, mil, seed + len(states), fabric)
        kept = history[history["kept"]].iloc[0]
        logger.info(
            "split %s: epoch %d kept, validation balanced accuracy %.3f",
            split,
            kept["epoch"],
            kept["validation_balanced_accuracy"],
        )
        states[int(split)] = state
        histories.append(history.assign(split=split))
    parameters = {
        "mil": mil.model_dump(mode="json"),
        "in_dim": bags.instances.shape[1],
        "encoder": bags.encoder,
        "splits": fingerprint(splits),
    }
    classifiers = {"kind": "classifiers", "parameters": parameters, "state_dicts": states}
    return classifiers, pd.concat(histories, ignore_index=True)
