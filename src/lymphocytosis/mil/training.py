"""Training the classifiers of a suite of splits (paper, section 3.2)."""

import logging
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from lightning_fabric import Fabric
from sklearn.metrics import balanced_accuracy_score, roc_curve
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from lymphocytosis.errors import UserError
from lymphocytosis.mil.bags import Bags, pack
from lymphocytosis.mil.classifier import Output, PatientClassifier
from lymphocytosis.mil.logistic import LogisticClassifier
from lymphocytosis.mil.splits import ROLES, fingerprint, numbers_of
from lymphocytosis.mil.turns import Job, run_in_turns
from lymphocytosis.mil.whitening import fit_whitening, whiten
from lymphocytosis.parameters import MilParameters
from lymphocytosis.progress import Progress

logger = logging.getLogger(__name__)

Indices = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Classifier = PatientClassifier | LogisticClassifier
Trained = tuple[dict[str, Any], pd.DataFrame]


def build_classifier(mil: MilParameters, in_dim: int, seed: int) -> Classifier:
    """Build a classifier; the same seed gives the same weights and the same dropout.

    Args:
        mil: the block `mil` of the parameters.
        in_dim: width of the instances.
        seed: of weights and dropout; a logistic regression has neither.

    Returns:
        The classifier, on the CPU.
    """
    if mil.classifier == "logistic":
        return LogisticClassifier(mil, in_dim)
    return PatientClassifier(mil, in_dim, torch.Generator().manual_seed(seed))


def fit_logistic(
    bags: Bags, train: Indices, validation: Indices, mil: MilParameters, fabric: Fabric
) -> Trained:
    """Fit one logistic regression; it needs no epochs, so the validation patients choose nothing.

    Args:
        bags: every bag, on the CPU.
        train: numbers of the training patients.
        validation: numbers of the validation patients.
        mil: the block `mil` of the parameters.
        fabric: device of the predictions.

    Returns:
        The state dict; and a history of one row, as `train_classifier` has it.
    """
    classifier = LogisticClassifier(mil, bags.instances.shape[1])
    bags_of = {"train": bags.of_patients(train), "validation": bags.of_patients(validation)}
    batch = pack(bags, bags_of["train"])
    classifier.fit(batch, views=len(set(bags.view)))
    loss = F.binary_cross_entropy_with_logits(classifier(batch).logits, batch.label)
    # Copied before the model goes to a device.
    state = {name: value.clone() for name, value in classifier.state_dict().items()}
    model = fabric.setup_module(classifier)
    scores = _scores(model, bags.on(fabric.device), bags_of, mil)
    row = {"epoch": 1, "loss": float(loss), **scores, "learning_rate": None, "kept": True}
    return state, pd.DataFrame([row]).astype({"learning_rate": "float64"})


def train_classifier(
    bags: Bags,
    train: Indices,
    validation: Indices,
    mil: MilParameters,
    seed: int,
    fabric: Fabric,
) -> Job[Trained]:
    """Train one classifier and keep the epoch that does best on the validation patients.

    All views of a patient are bags of their own, in training and in validation. Training ends
    before `mil.epochs` once the monitored score is 1: a later epoch is kept only if it is better.

    Args:
        bags: every bag, on the device of `fabric`.
        train: numbers of the training patients.
        validation: numbers of the validation patients.
        mil: the block `mil` of the parameters.
        seed: of weights, dropout and the order of bags.
        fabric: device and precision.

    Yields:
        Nothing, after each epoch but the last: other trainings may take their turn.

    Returns:
        The kept state dict, on the CPU; and a row an epoch: epoch, loss, train_balanced_accuracy
        (of the predictions made while training, dropout and all), validation_balanced_accuracy
        (after the epoch), learning_rate, kept (whether it is the epoch kept).

    Raises:
        UserError: the loss is no longer a finite number.
    """
    classifier = PatientClassifier(
        mil, bags.instances.shape[1], torch.Generator().manual_seed(seed), fabric.device
    )
    classifier.fit_clinical_scale(bags.clinical[torch.from_numpy(train)])
    optimizer = torch.optim.Adam(
        classifier.parameters(), lr=mil.learning_rate, weight_decay=mil.weight_decay, fused=True
    )
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="max", factor=mil.scheduler.factor, patience=mil.scheduler.patience
    )
    model, optimizer = fabric.setup(classifier, optimizer)
    order = torch.Generator().manual_seed(seed)
    learned_from = bags.of_patients(train)
    scored = {"validation": bags.of_patients(validation)}
    history: list[dict[str, float]] = []
    best_score, best_epoch, best_state = -np.inf, 0, {}
    for epoch in range(1, mil.epochs + 1):
        rate = optimizer.param_groups[0]["lr"]
        trained = _train_epoch(model, optimizer, fabric, bags, learned_from, mil, order, epoch)
        scores = trained | _scores(model, bags, scored, mil)
        monitored = scores["validation_balanced_accuracy"]
        if mil.monitor == "train_and_validation":
            monitored = (scores["train_balanced_accuracy"] + monitored) / 2
        scheduler.step(monitored)
        if monitored > best_score:
            best_score, best_epoch = monitored, epoch
            best_state = {k: v.detach().cpu().clone() for k, v in classifier.state_dict().items()}
        history.append({"epoch": epoch} | scores | {"learning_rate": rate})
        if best_score == 1:
            break
        if epoch < mil.epochs:
            yield
    table = pd.DataFrame(history)
    return best_state, table.assign(kept=table["epoch"] == best_epoch)


def _scores(
    model: Any, bags: Bags, bags_of: dict[str, Indices], mil: MilParameters
) -> dict[str, float]:
    return {
        f"{part}_balanced_accuracy": balanced_accuracy(
            bags.label[bags.patient[chosen]],
            predict_bags(model, bags, chosen, mil.batch_size)[0],
            mil.monitor_threshold,
        )
        for part, chosen in bags_of.items()
    }


def _train_epoch(
    model: Any,
    optimizer: Any,
    fabric: Fabric,
    bags: Bags,
    chosen: Indices,
    mil: MilParameters,
    order: torch.Generator,
    epoch: int,
) -> dict[str, float]:
    """Take a step for each batch of bags; return the mean loss and the balanced accuracy."""
    model.train()
    losses, logits = [], []
    shuffled = chosen[torch.randperm(len(chosen), generator=order).numpy()]
    batches = in_batches(shuffled, mil.batch_size)
    longest = max(int(bags.size[part].sum()) for part in batches)
    memory = bags.instances.new_empty(longest, bags.instances.shape[1])
    for part in batches:
        batch = pack(bags, part, memory)
        output = model(batch)
        loss = F.binary_cross_entropy_with_logits(output.logits, batch.label)
        # Each expert learns by a loss of its own too; with concatenation there is none.
        for expert in output.experts:
            loss = loss + F.binary_cross_entropy_with_logits(expert, batch.label)
        optimizer.zero_grad()
        fabric.backward(loss)
        optimizer.step()
        losses.append(loss.detach())
        logits.append(output.logits.detach())
    of_batches = finite_losses(losses, epoch, "a classifier", "mil.learning_rate")
    probability = torch.sigmoid(torch.cat(logits).double()).cpu().numpy()
    label = bags.label[bags.patient[shuffled]]
    return {
        "loss": float(np.average(of_batches, weights=[len(part) for part in batches])),
        "train_balanced_accuracy": balanced_accuracy(label, probability, mil.monitor_threshold),
    }


def finite_losses(losses: list[Tensor], epoch: int, trained: str, rate: str) -> Floats:
    """Look at an epoch's losses; once an epoch, for on a GPU each look waits for it.

    Args:
        losses: one number a batch.
        epoch: from 1.
        trained: what is trained.
        rate: the parameters that a user may lower.

    Returns:
        (batches,) float64.

    Raises:
        UserError: a loss is no finite number; the message names epoch and batch.
    """
    of_batches: Floats = torch.stack(losses).double().cpu().numpy()
    if not np.isfinite(of_batches).all():
        wrong = int(np.flatnonzero(~np.isfinite(of_batches))[0])
        raise UserError(
            f"Training {trained} stopped: the loss of epoch {epoch}, batch {wrong + 1} of "
            f"{len(of_batches)} is {of_batches[wrong]}. Lower {rate}."
        )
    return of_batches


def in_batches(bags: Indices, batch_size: int) -> list[Indices]:
    """Cut bags into batches; a last batch of one bag joins the one before it.

    A bag may hold a single cell, and BatchNorm can't train on a single value.

    Args:
        bags: (b,) indices.
        batch_size: bags in a batch; with 1 every bag stays alone.

    Returns:
        The batches, in order.
    """
    batches = np.split(bags, range(batch_size, len(bags), batch_size))
    if batch_size > 1 and len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [np.concatenate(batches[-2:])]
    return batches


@torch.inference_mode()
def predict_bags(model: Any, bags: Bags, chosen: Indices, batch_size: int) -> tuple[Floats, Floats]:
    """Predict bags in eval mode; a bag's prediction does not depend on its batch mates.

    Args:
        model: a classifier, set up by Fabric.
        bags: every bag, on the classifier's device.
        chosen: (b,) the bags to predict.
        batch_size: bags in a batch.

    Returns:
        (b,) float64 probabilities of a tumoral lymphocytosis; and (n,) float64 weights of the bags'
        n instances, bag by bag.
    """
    model.eval()
    outputs = [
        model(pack(bags, chosen[start : start + batch_size]))
        for start in range(0, len(chosen), batch_size)
    ]
    return probabilities_and_weights(outputs)


def probabilities_and_weights(outputs: list[Output]) -> tuple[Floats, Floats]:
    """Bring a classifier's outputs to what tables hold.

    Args:
        outputs: of batches, in order; none where nobody was asked for.

    Returns:
        (b,) probabilities of all bags and (n,) weights of all instances, float64.
    """
    if not outputs:
        return np.empty(0), np.empty(0)
    logits, weights = (
        torch.cat([part.float() for part in parts]).cpu().double()
        for parts in ((o.logits for o in outputs), (o.weights for o in outputs))
    )
    return torch.sigmoid(logits).numpy(), weights.numpy()


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


def _in_stream(job: Job[Trained], fabric: Fabric) -> Job[Trained]:
    """Give a job a stream of its own on the GPU, on whichever thread its turns are."""
    stream = torch.cuda.Stream(fabric.device)
    while True:
        with torch.cuda.stream(stream):
            try:
                next(job)
            except StopIteration as end:
                result: Trained = end.value
                return result
        yield


def train_suite(
    bags: Bags,
    patients: pd.DataFrame,
    splits: pd.DataFrame,
    mil: MilParameters,
    seed: int,
    fabric: Fabric,
    progress: Progress,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Train one classifier for each split; after a kill, go on with those that are not finished.

    On a CPU the splits are trained side by side, each on one thread: matrices of this size keep one
    thread busier than two. So the result does not depend on the number of cores. On a GPU all
    splits are trained at once, each in a stream of its own; the bags are there once, and only the
    end of an epoch waits for the device.

    Args:
        bags: every bag; patients are numbered as in `patients`.
        patients: patient_id, and others.
        splits: split, patient_id, role.
        mil: the block `mil` of the parameters.
        seed: of the first split's classifier; each further one adds 1.
        fabric: device and precision.
        progress: where each finished classifier is kept.

    Returns:
        The classifiers as plain values: parameters, whitening (empty where the parameters ask for
        none), and a state dict for each split; and their histories, with a column split.
    """
    whitening: dict[str, Tensor] = {}
    if mil.components:
        known = pd.Index(patients["patient_id"]).get_indexer(splits["patient_id"].unique())
        rows = bags.rows_of(bags.of_patients(known))
        whitening = fit_whitening(bags.instances[torch.from_numpy(rows)], mil.components)
        bags = whiten(bags, whitening)
    if mil.classifier == "neural":
        bags = bags.on(fabric.device)
    numbers = sorted(int(split) for split in splits["split"].unique())
    threads = torch.get_num_threads()
    on_gpu = fabric.device.type == "cuda"

    def train_one(place: int, split: int) -> Job[Trained]:
        state, history = progress.values(f"split-{split}"), progress.table(f"split-{split}")
        if state is not None and history is not None:
            logger.info("split %s was finished before", split)
            return state, history
        train, validation = (numbers_of(patients, splits, split, role) for role in ROLES)
        if mil.classifier == "logistic":
            state, history = fit_logistic(bags, train, validation, mil, fabric)
        else:
            epochs = train_classifier(bags, train, validation, mil, seed + place, fabric)
            state, history = yield from epochs
        progress.save_table(f"split-{split}", history)
        progress.save_values(f"split-{split}", state)
        return state, history

    jobs = [train_one(*asked) for asked in enumerate(numbers)]
    if on_gpu:
        jobs = [_in_stream(job, fabric) for job in jobs]
        results = run_in_turns(jobs, at_once=len(jobs))
    else:
        results = run_in_turns(jobs, threads, initializer=partial(torch.set_num_threads, 1))
    trained: dict[int, Trained] = {}
    try:
        for place, result in tqdm(results, "splits", len(jobs), leave=False, disable=None):
            trained[numbers[place]] = result
    finally:
        torch.set_num_threads(threads)
    trained = dict(sorted(trained.items()))
    for split, (_, history) in trained.items():
        kept = history[history["kept"]].iloc[0]
        logger.info(
            "split %s: epoch %d kept, validation balanced accuracy %.3f",
            split,
            kept["epoch"],
            kept["validation_balanced_accuracy"],
        )
    parameters = {
        "mil": mil.model_dump(mode="json"),
        "in_dim": bags.instances.shape[1],
        "views": list(dict.fromkeys(bags.view)),
        "encoder": bags.encoder,
        "splits": fingerprint(splits),
    }
    classifiers = {
        "kind": "classifiers",
        "parameters": parameters,
        "whitening": whitening,
        "state_dicts": {split: state for split, (state, _) in trained.items()},
    }
    histories = [history.assign(split=split) for split, (_, history) in trained.items()]
    return classifiers, pd.concat(histories, ignore_index=True)
