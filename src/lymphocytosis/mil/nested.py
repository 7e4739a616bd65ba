"""Nested cross-validation of the classifiers: everything but the embedding inside each fold."""

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from multiprocessing import parent_process
from threading import Thread
from typing import Any

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, cpu_count, delayed

from lymphocytosis.compute import start_fabric
from lymphocytosis.display import Work
from lymphocytosis.mil.bags import Bags
from lymphocytosis.mil.prediction import load_suite, predict_patients
from lymphocytosis.mil.splits import draw_splits, labelled, numbers_of
from lymphocytosis.mil.suite import train_suite
from lymphocytosis.mil.whitening import fit_whitening, whiten
from lymphocytosis.parameters import ComputeParameters, MilParameters, SplitParameters
from lymphocytosis.progress import Progress

logger = logging.getLogger(__name__)

# For each system, the classifier's inputs, and whether it learns from the true labels.
SYSTEMS = {
    "pictures": ("pictures", True),
    "pictures + clinical": ("both", True),
    "shuffled labels": ("both", False),
}


@dataclass(frozen=True)
class Recipe:
    """What is trained inside a fold.

    Attributes:
        mil: the block `mil` of the parameters.
        splits: the block `splits`; the inner splits are always drawn.
        compute: the block `compute`.
        seed: of inner splits and classifiers; each repeat adds 1000.
    """

    mil: MilParameters
    splits: SplitParameters
    compute: ComputeParameters
    seed: int


def predict_held_out(
    bags: Bags,
    patients: pd.DataFrame,
    folds: pd.DataFrame,
    recipe: Recipe,
    title: str,
    progress: Progress,
    work: Work,
) -> pd.DataFrame:
    """Train every system in every fold, without the held-out patients, and predict them.

    Folds are trained in parallel, one per core: a second core is no help with matrices this
    small. The systems of a fold share one whitening.

    Args:
        bags: every bag; patients are numbered as in `patients`.
        patients: patient_id, subset, label, and others.
        folds: repeat, fold, patient_id: the patients held out in each fold.
        recipe: what is trained.
        title: of the saved parts.
        progress: where each finished fold is saved.
        work: is told of each finished fold.

    Returns:
        system, repeat, fold, role, patient_id, split, view, probability. Role `held_out`: the
        fold's patients, predicted by the classifiers of all inner splits; role `inner`: the other
        patients, each predicted by the classifiers that it validated.
    """
    # A GPU runs one fold at a time. Workers get arrays, not tensors, as memory maps.
    on_cpu = start_fabric(recipe.compute).device.type == "cpu"
    instances = bags.instances.numpy()
    rest = replace(bags, instances=torch.empty(0))
    held_out_of = dict(list(folds.groupby(["repeat", "fold"])["patient_id"]))
    tables = {
        (repeat, fold): progress.table(f"{title}-repeat-{repeat}-fold-{fold}")
        for repeat, fold in held_out_of
    }
    missing = [key for key, table in tables.items() if table is None]
    if before := len(tables) - len(missing):
        logger.info("%s: %d of %d folds were finished before", title, before, len(tables))
        work.resume(before)
    side_by_side = Parallel(
        cpu_count() if on_cpu else 1, return_as="generator", initializer=_end_with_parent
    )
    results = side_by_side(
        delayed(_predict_fold)(
            instances, rest, patients, set(held_out_of[key]), *key, recipe, on_cpu
        )
        for key in missing
    )
    for (repeat, fold), table in zip(missing, results, strict=True):
        progress.save_table(f"{title}-repeat-{repeat}-fold-{fold}", table)
        tables[repeat, fold] = table
        work.advance()
    return pd.concat(tables.values(), ignore_index=True)


def _end_with_parent() -> None:
    """Make this worker exit soon after its parent process, even if the parent was killed.

    A killed run can't stop its workers, and each would keep its memory for minutes.
    """
    parent = parent_process()
    if parent is None:
        return

    def watch() -> None:
        # An orphan gets a new parent. The kernel's own signal (PR_SET_PDEATHSIG) would already come
        # when the thread that started the worker ends, which may not be the main thread.
        while os.getppid() == parent.pid:
            time.sleep(1)
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def _predict_fold(
    instances: Any,
    rest: Bags,
    patients: pd.DataFrame,
    held_out: set[str],
    repeat: int,
    fold: int,
    recipe: Recipe,
    on_cpu: bool,
) -> pd.DataFrame:
    if on_cpu:
        torch.set_num_threads(1)
    bags = replace(rest, instances=torch.from_numpy(np.array(instances)))
    inside = labelled(patients)
    inside = inside[~inside["patient_id"].isin(held_out)]
    numbers = pd.Index(patients["patient_id"]).get_indexer(list(inside["patient_id"]))
    mil = recipe.mil
    if mil.components:
        rows = torch.from_numpy(bags.rows_of(bags.of_patients(numbers)))
        whitening = fit_whitening(bags.instances[rows], mil.components)
        bags = replace(bags, instances=whiten(bags.instances, whitening))
        mil = mil.model_copy(update={"components": 0})
    seed = recipe.seed + 1000 * (repeat - 1)
    asked = pd.Index(patients["patient_id"]).get_indexer(sorted(held_out))
    tables = []
    for system, (inputs, true_labels) in SYSTEMS.items():
        label = inside["label"].to_numpy(dtype=np.int64)
        if not true_labels:
            label = np.random.default_rng(seed + fold).permutation(label)
        # Held-out patients have no label here.
        hidden = np.full(len(patients), -1)
        hidden[numbers] = label
        splits = draw_splits(
            inside.assign(label=pd.array(label, dtype="Int8")), recipe.splits, seed
        )
        fabric = start_fabric(recipe.compute)
        blind = replace(bags, label=hidden)
        chosen = mil.model_copy(update={"inputs": inputs})
        nothing = Progress(None)  # only whole folds are saved
        content, _ = train_suite(blind, patients, splits, chosen, seed, fabric, nothing)
        suite = load_suite(content)
        roles: Mapping[str, dict[int, Any]] = {
            "held_out": dict.fromkeys(suite.classifiers, asked),
            "inner": {s: numbers_of(patients, splits, s, "validation") for s in suite.classifiers},
        }
        for role, numbers_asked in roles.items():
            predicted = predict_patients(suite, blind, patients, numbers_asked, fabric)
            tables.append(predicted.assign(system=system, role=role))
    return pd.concat(tables, ignore_index=True).assign(repeat=repeat, fold=fold)
