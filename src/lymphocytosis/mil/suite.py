"""Training the classifiers of a suite of splits (paper, sections 3.2 and 3.3)."""

import logging
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from lymphocytosis.display import Work, working
from lymphocytosis.mil.bags import Bags
from lymphocytosis.mil.classifiers import build_classifier
from lymphocytosis.mil.epochs import cpu_state
from lymphocytosis.mil.splits import ROLES, fingerprint, numbers_of
from lymphocytosis.mil.turns import Job, run_in_turns
from lymphocytosis.mil.whitening import fit_whitening, whiten
from lymphocytosis.parameters import MilParameters
from lymphocytosis.progress import Progress

logger = logging.getLogger(__name__)

Trained = tuple[dict[str, Any], pd.DataFrame]


def train_suite(
    bags: Bags,
    patients: pd.DataFrame,
    splits: pd.DataFrame,
    mil: MilParameters,
    seed: int,
    fabric: Fabric,
    progress: Progress,
    share: tuple[int, int] = (0, 1),
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Train one classifier for each split; after a killed run, only the unfinished ones.

    On a CPU the splits are trained in parallel, each on one thread: a second thread is no help with
    matrices this small, and so the result does not depend on the number of cores. On a GPU all
    splits are trained at once, each in its own stream; they share the bags, and only the end of an
    epoch waits for the device.

    Args:
        bags: every bag; patients are numbered as in `patients`.
        patients: patient_id, and others.
        splits: split, patient_id, role.
        mil: the block `mil` of the parameters.
        seed: of the first split's classifier; each further one adds 1.
        fabric: device and precision.
        progress: where each finished classifier is saved.
        share: the number of this process, from 0, and how many there are; each trains every so
            many splits, at least one.

    Returns:
        The classifiers as plain values: parameters, whitening (empty if not asked for), and a state
        dict for each split; and their histories, with a column split.
    """
    whitening: dict[str, Tensor] = {}
    if mil.components:
        known = pd.Index(patients["patient_id"]).get_indexer(splits["patient_id"].unique())
        rows = bags.rows_of(bags.of_patients(known))
        whitening = fit_whitening(bags.instances[torch.from_numpy(rows)], mil.components)
        bags = replace(bags, instances=whiten(bags.instances, whitening))
    bags = bags.on(fabric.device)
    width = bags.instances.shape[1]
    numbers = sorted(int(split) for split in splits["split"].unique())
    epochs = mil.epochs if mil.classifier == "neural" else 1

    def train_one(place: int, split: int, own_fabric: Fabric) -> Job[Trained]:
        if finished := finished_before(progress, split):
            work.resume(epochs)
            return finished
        train, validation = (numbers_of(patients, splits, split, role) for role in ROLES)
        classifier = build_classifier(mil, width, seed + place, fabric.device)
        fitting = _told(classifier.fit(bags, train, validation, own_fabric), epochs, work)
        return keep(progress, split, classifier, (yield from fitting))

    # With 16-mixed, Fabric adapts its loss scale to the training: one Fabric for each.
    own = list(enumerate(numbers))[share[0] :: share[1]]
    jobs = [train_one(place, split, deepcopy(fabric)) for place, split in own]
    threads = torch.get_num_threads()
    if fabric.device.type == "cuda":
        jobs = [_in_stream(job, fabric) for job in jobs]
        results = run_in_turns(jobs, at_once=len(jobs))
    else:
        results = run_in_turns(jobs, threads, initializer=partial(torch.set_num_threads, 1))
    title = (progress.title or "classifiers").replace("_", " ")
    with working(title, len(jobs) * epochs, "epochs") as work:
        try:
            trained = dict(sorted((own[job][1], result) for job, result in results))
        finally:
            torch.set_num_threads(threads)
    classifiers = {
        "kind": "classifiers",
        "parameters": {
            "mil": mil.model_dump(mode="json"),
            "in_dim": width,
            "views": list(dict.fromkeys(bags.view)),
            "encoder": bags.encoder,
            "splits": fingerprint(splits),
        },
        "whitening": whitening,
        "state_dicts": {split: state for split, (state, _) in trained.items()},
    }
    histories = [history.assign(split=split) for split, (_, history) in trained.items()]
    return classifiers, pd.concat(histories, ignore_index=True)


def finished_before(progress: Progress, split: int) -> Trained | None:
    """Load a classifier that an earlier run finished.

    Args:
        progress: where it is saved.
        split: of the classifier.

    Returns:
        The classifier's state dict and its history, or None.
    """
    state, history = progress.values(f"split-{split}"), progress.table(f"split-{split}")
    if state is None or history is None:
        return None
    logger.info("%s, split %s was finished before", progress.title, split)
    return state, history


def keep(progress: Progress, split: int, classifier: nn.Module, history: pd.DataFrame) -> Trained:
    """Save a finished classifier until the run succeeds.

    Args:
        progress: where it is saved.
        split: of the classifier.
        classifier: fitted.
        history: of its training.

    Returns:
        The classifier's state dict, on the CPU, and its history.
    """
    if progress.title:  # a nested evaluation trains hundreds of suites, without title
        kept = history[history["kept"]].iloc[0]
        logger.info(
            "%s, split %s: %.3f in validation%s",
            progress.title,
            split,
            kept["validation_balanced_accuracy"],
            f", epoch {kept['epoch']}" if len(history) > 1 else "",
        )
    state = cpu_state(classifier)
    progress.save_table(f"split-{split}", history)
    progress.save_values(f"split-{split}", state)
    return state, history


def _told(job: Job[pd.DataFrame], epochs: int, work: Work) -> Job[pd.DataFrame]:
    """Run a fit, and tell of each epoch; of those that it did without, at its end."""
    done = 0
    while True:
        try:
            next(job)
        except StopIteration as end:
            work.advance(epochs - done)
            history: pd.DataFrame = end.value
            return history
        done += 1
        work.advance()
        yield


def _in_stream(job: Job[Trained], fabric: Fabric) -> Job[Trained]:
    """Run a job in its own stream on the GPU, on whichever thread it runs."""
    stream = torch.cuda.Stream(fabric.device)
    while True:
        with torch.cuda.stream(stream):
            try:
                next(job)
            except StopIteration as end:
                result: Trained = end.value
                return result
        yield
