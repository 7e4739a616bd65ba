import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from lymphocytosis import schemas
from lymphocytosis.compute import start_fabric
from lymphocytosis.display import Work
from lymphocytosis.errors import UserError
from lymphocytosis.mil import nested
from lymphocytosis.mil.bags import gather_bags
from lymphocytosis.mil.nested import Recipe, predict_held_out
from lymphocytosis.mil.prediction import load_suite, predict_patients
from lymphocytosis.mil.splits import draw_splits, numbers_of
from lymphocytosis.mil.suite import train_suite
from lymphocytosis.mil.whitening import whiten
from lymphocytosis.parameters import ComputeParameters, SplitParameters
from lymphocytosis.progress import Progress

COMPUTE = ComputeParameters(
    accelerator="cpu", precision="32-true", embed_batch_size=32, embed_backend="torch"
)
SPLITS = SplitParameters(source="supplied", count=2, validation_share=0.25)
KINDS = {
    "logistic": {"classifier": "logistic", "components": 3, "fusion": "late"},
    "neural": {
        "components": 3,
        "epochs": 4,
        "batch_size": 12,
        "dropout": 0.3,
        "fusion": "mixture",
    },
}
UNSEEN = Work("", 0, "folds", str)
KEYS = ["system", "repeat", "fold", "role", "patient_id", "split", "view"]
EVERY_KIND = pytest.mark.parametrize("kind", list(KINDS))


@pytest.fixture(scope="module")
def world(cohort):
    """21 labelled patients, two test patients with shown labels, one without a label; two folds."""
    patients, table = cohort(signal=0.5)
    patients.loc[[20, 21], "subset"] = "test"
    patients.loc[22, "label"] = None
    folds = pd.DataFrame(
        [
            # Labels alternate, so folds take turns by two.
            (repeat, 1 + (number // 2 + number // 8 * (repeat - 1)) % 2, f"P{number:02d}")
            for repeat in (1, 2)
            for number in (*range(20), 23)
        ],
        columns=["repeat", "fold", "patient_id"],
    )
    return patients, table, folds


@pytest.fixture(scope="module")
def recipe(mil):
    def build(kind, seed=7, **changes):
        return Recipe(mil(**(KINDS[kind] | changes)), SPLITS, COMPUTE, seed)

    return build


@pytest.fixture(scope="module")
def by_workers(world, recipe):
    """What `predict_held_out` says, for each kind; its workers are started once."""
    patients, table, folds = world
    bags = gather_bags(table, patients)
    return {
        kind: predict_held_out(bags, patients, folds, recipe(kind), kind, Progress(None), UNSEEN)
        for kind in KINDS
    }


def one_fold(bags, patients, folds, recipe, repeat=1, fold=1):
    """One fold, in this process."""
    mine = folds[(folds["repeat"] == repeat) & (folds["fold"] == fold)]
    return nested._predict_fold(
        bags.instances.numpy(),
        replace(bags, instances=torch.empty(0)),
        patients,
        set(mine["patient_id"]),
        repeat,
        fold,
        recipe,
        True,
    )


def held_out_in(folds, repeat=1, fold=1):
    return folds.loc[(folds["repeat"] == repeat) & (folds["fold"] == fold), "patient_id"].tolist()


class TestTable:
    @EVERY_KIND
    def test_every_labelled_patient_is_held_out_once_a_repeat_in_every_split_and_view(
        self, world, by_workers, kind
    ):
        _, _, folds = world
        table = by_workers[kind]
        held_out = table[table["role"] == "held_out"]
        assert set(table["system"]) == {"pictures", "pictures + clinical", "shuffled labels"}
        for _, mine in held_out.groupby("system"):
            assert len(mine) == 2 * 21 * 2 * 3
            asked = mine[["repeat", "fold", "patient_id"]].drop_duplicates()
            assert len(asked.merge(folds)) == len(asked) == len(folds)
            assert not mine.duplicated(KEYS).any()

    @EVERY_KIND
    def test_inner_rows_are_of_patients_of_the_other_folds(self, world, by_workers, kind):
        _, _, folds = world
        inner = by_workers[kind].query("role == 'inner'")
        known = set(folds["patient_id"])
        for (_, repeat, fold, _), mine in inner.groupby(["system", "repeat", "fold", "split"]):
            assert set(mine["patient_id"]) <= known - set(held_out_in(folds, repeat, fold))
            # A quarter of 10 or 11 patients, in three views.
            assert len(mine) == 3 * 3

    @EVERY_KIND
    def test_it_keeps_to_its_schema(self, by_workers, kind):
        schemas.classifier_predictions.validate(by_workers[kind].assign(size="large"))


class TestWorkers:
    @EVERY_KIND
    def test_they_say_what_one_process_says_to_the_bit(self, world, recipe, by_workers, kind):
        # So the same seed gives the same bits too: every fold is computed twice.
        patients, table, folds = world
        bags = gather_bags(table, patients)
        alone = pd.concat(
            [one_fold(bags, patients, folds, recipe(kind), *of) for of in ((1, 2), (2, 1))],
            ignore_index=True,
        )
        table = by_workers[kind]
        second_and_third = table[(table["repeat"] == 1) == (table["fold"] == 2)]
        pd.testing.assert_frame_equal(
            second_and_third.reset_index(drop=True), alone, check_exact=True
        )

    @pytest.mark.parametrize("kind", ["logistic"])
    def test_after_a_kill_it_is_the_same_to_the_bit(
        self, world, recipe, by_workers, after_a_kill, kind
    ):
        patients, table, folds = world
        bags = gather_bags(table, patients)
        found = after_a_kill(
            lambda p: predict_held_out(bags, patients, folds, recipe(kind), kind, p, UNSEEN), 2
        )
        pd.testing.assert_frame_equal(found, by_workers[kind], check_exact=True)

    def test_a_users_error_comes_through(self, world, recipe):
        patients, table, folds = world
        bags = gather_bags(table, patients)
        bags.instances[:] = float("nan")
        without = recipe("neural", components=0)
        with pytest.raises(UserError, match="loss of epoch 1"):
            predict_held_out(bags, patients, folds, without, "", Progress(None), UNSEEN)


# Runs `predict_held_out`, its workers at something endless; each names itself in a folder.
ENDLESS = """
import os, sys, time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
import pandas as pd
import torch
from lymphocytosis.display import Work
from lymphocytosis.mil import nested
from lymphocytosis.parameters import ComputeParameters
from lymphocytosis.progress import Progress

@dataclass
class Bags:
    instances: torch.Tensor

def endless(*given):
    (Path(sys.argv[1]) / str(os.getpid())).touch()
    time.sleep(600)

nested._predict_fold = endless
nested.cpu_count = lambda: 2
folds = pd.DataFrame({"repeat": 1, "fold": [1, 2], "patient_id": ["P0", "P1"]})
compute = ComputeParameters(
    accelerator="cpu", precision="32-true", embed_batch_size=32, embed_backend="torch"
)
recipe, unseen = SimpleNamespace(compute=compute), Work("", 2, "folds", str)
nested.predict_held_out(Bags(torch.empty(0)), None, folds, recipe, "", Progress(None), unseen)
"""


def within(seconds, reached):
    end = time.monotonic() + seconds
    while not reached() and time.monotonic() < end:
        time.sleep(0.05)
    return reached()


def runs(process):
    # A process that ended may stay listed, as Z, until its new parent has asked for it.
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found in /proc")
def test_workers_end_with_a_run_that_is_killed(tmp_path):
    run = subprocess.Popen([sys.executable, "-c", ENDLESS, tmp_path])
    workers = []
    try:
        assert within(120, lambda: len(list(tmp_path.iterdir())) == 2)
        workers = [int(path.name) for path in tmp_path.iterdir()]
        assert all(map(runs, workers))
    finally:
        run.kill()
        run.wait()
    try:
        assert within(20, lambda: not any(map(runs, workers)))
    finally:
        for worker in filter(runs, workers):
            os.kill(worker, signal.SIGKILL)


@pytest.fixture
def trained(monkeypatch):
    """What each system's classifiers were given: labels and splits."""
    given = []

    def spy(bags, patients, splits, mil, *rest, **options):
        given.append((bags.label.copy(), splits, mil.inputs))
        return train_suite(bags, patients, splits, mil, *rest, **options)

    monkeypatch.setattr(nested, "train_suite", spy)
    return given


class TestSystems:
    @pytest.mark.parametrize(("kind", "repeat"), [("logistic", 2), ("neural", 1)])
    def test_each_is_a_suite_trained_by_hand(self, world, recipe, mil, trained, kind, repeat):
        patients, table, folds = world
        found = one_fold(gather_bags(table, patients), patients, folds, recipe(kind), repeat, 2)
        for system, (label, _, _) in zip(("pictures", "pictures + clinical", "shuffled labels"),
                                         trained, strict=True):  # fmt: skip
            # Whoever is held out has no label; the test patients never had one.
            blind = patients.assign(label=pd.array(np.where(label < 0, None, label), "Int8"))
            outside = {*held_out_in(folds, repeat, 2), "P20", "P21", "P22"}
            assert set(blind.loc[blind["label"].isna(), "patient_id"]) == outside
            settings = mil(
                **KINDS[kind] | {"inputs": "pictures" if system == "pictures" else "both"}
            )
            seed = {1: 7, 2: 1007}[repeat]
            bags, fabric = gather_bags(table, blind), start_fabric(COMPUTE)
            splits = draw_splits(blind, SPLITS, seed)
            content, _ = train_suite(bags, blind, splits, settings, seed, fabric, Progress(None))
            suite = load_suite(content)
            if suite.whitening:  # a fold whitens all instances at once
                bags = replace(bags, instances=whiten(bags.instances, suite.whitening))
                suite = replace(suite, whitening={})
            asked = np.flatnonzero(patients["patient_id"].isin(held_out_in(folds, repeat, 2)))
            mine = found[found["system"] == system]
            for role, numbers in (
                ("held_out", {1: asked, 2: asked}),
                ("inner", {s: numbers_of(patients, splits, s, "validation") for s in (1, 2)}),
            ):
                expected = predict_patients(suite, bags, patients, numbers, fabric)
                rows = mine.loc[mine["role"] == role, list(expected.columns)]
                pd.testing.assert_frame_equal(
                    rows.reset_index(drop=True), expected, check_exact=True
                )

    def test_shuffled_labels_are_a_permutation_of_those_trained_on(self, world, recipe, trained):
        patients, table, folds = world
        bags = gather_bags(table, patients)
        for repeat, fold in ((1, 1), (1, 2), (2, 1)):
            one_fold(bags, patients, folds, recipe("logistic"), repeat, fold)
        shuffles = []
        for first, second, shuffled in zip(*(iter(trained),) * 3, strict=True):
            assert [inputs for _, _, inputs in (first, second, shuffled)] == [
                "pictures", "both", "both",
            ]  # fmt: skip
            inside = first[0] >= 0
            true = patients["label"][inside].to_numpy(dtype=int)
            assert (first[0][inside] == true).all()
            assert np.array_equal(first[0], second[0])
            assert (inside == (shuffled[0] >= 0)).all()
            assert shuffled[0].sum() == first[0].sum()
            assert not np.array_equal(shuffled[0], first[0])
            shuffles.append(tuple(shuffled[0]))
        assert len(set(shuffles)) == 3

    def test_inner_splits_are_stratified_by_the_labels_that_are_learned(
        self, world, recipe, trained
    ):
        patients, table, folds = world
        one_fold(gather_bags(table, patients), patients, folds, recipe("logistic"))
        for label, splits, _ in trained:
            own = pd.Series(label, patients["patient_id"])
            for _, rows in splits[splits["role"] == "validation"].groupby("split"):
                assert set(own[rows["patient_id"]]) == {0, 1}

    @EVERY_KIND
    def test_pictures_alone_never_see_clinical_values(self, world, recipe, kind):
        patients, table, folds = world
        bags = gather_bags(table, patients)
        others = replace(bags, clinical=bags.clinical.flip(0))
        tables = [one_fold(b, patients, folds, recipe(kind)) for b in (bags, others)]
        alone, both = (
            [t.loc[t["system"] == system, "probability"] for t in tables]
            for system in ("pictures", "pictures + clinical")
        )
        assert alone[0].equals(alone[1])
        assert not both[0].equals(both[1])


@pytest.fixture(scope="module", params=list(KINDS))
def setting(request, world, recipe):
    """One kind's first fold, as it is."""
    patients, table, folds = world
    bags = gather_bags(table, patients)
    chosen = recipe(request.param)
    return bags, patients, folds, chosen, one_fold(bags, patients, folds, chosen)


class TestHeldOutPatients:
    """They influence nothing: neither other predictions nor, by their label, their own."""

    def same(self, first, second):
        pd.testing.assert_frame_equal(first, second, check_exact=True)

    def test_their_labels_change_nothing(self, setting):
        bags, patients, folds, chosen, honest = setting
        own = patients["patient_id"].isin(held_out_in(folds))
        turned = patients.assign(label=patients["label"].where(~own, 1 - patients["label"]))
        label = np.where(own, 1 - bags.label, bags.label)
        self.same(one_fold(replace(bags, label=label), turned, folds, chosen), honest)

    @pytest.mark.parametrize("what", ["cells", "clinical values"])
    def test_ones_values_change_its_own_predictions_alone(self, setting, what):
        bags, patients, folds, chosen, honest = setting
        one = held_out_in(folds)[3]
        number = np.flatnonzero(patients["patient_id"] == one)
        instances, clinical = bags.instances.clone(), bags.clinical.clone()
        if what == "cells":
            instances[bags.rows_of(bags.of_patients(number))] *= -40
        else:
            clinical[number] *= 3
        changed = one_fold(
            replace(bags, instances=instances, clinical=clinical), patients, folds, chosen
        )
        own = honest["patient_id"] == one
        self.same(changed[~own], honest[~own])
        assert set(honest.loc[own, "role"]) == {"held_out"}
        saw = own if what == "cells" else own & (honest["system"] != "pictures")
        assert (changed.loc[saw, "probability"] != honest.loc[saw, "probability"]).mean() > 0.6

    def test_test_patients_and_those_without_a_label_change_nothing(self, setting):
        bags, patients, folds, chosen, honest = setting
        numbers = np.array([20, 21, 22])
        instances, clinical, label = (
            bags.instances.clone(),
            bags.clinical.clone(),
            bags.label.copy(),
        )
        instances[bags.rows_of(bags.of_patients(numbers))] *= -40
        clinical[numbers] *= 3
        label[numbers[:2]] = 1 - label[numbers[:2]]
        turned = patients.copy()
        turned.loc[[20, 21], "label"] = 1 - turned.loc[[20, 21], "label"]
        others = replace(bags, instances=instances, clinical=clinical, label=label)
        self.same(one_fold(others, turned, folds, chosen), honest)

    def test_who_is_trained_on_does_change_them(self, setting):
        # Else the tests above would prove nothing.
        bags, patients, folds, chosen, honest = setting
        other = held_out_in(folds, fold=2)[0]
        number = np.flatnonzero(patients["patient_id"] == other)
        instances = bags.instances.clone()
        instances[bags.rows_of(bags.of_patients(number))] *= -40
        changed = one_fold(replace(bags, instances=instances), patients, folds, chosen)
        held_out = honest["role"] == "held_out"
        moved = changed["probability"][held_out] != honest["probability"][held_out]
        assert moved.mean() > 0.9


class TestSeeds:
    def test_the_seed_and_the_repeat_make_the_predictions(self, setting, recipe):
        bags, patients, folds, chosen, honest = setting
        first = folds[folds["repeat"] == 1]
        twice = pd.concat([first, first.assign(repeat=2)])
        two = one_fold(bags, patients, twice, chosen, repeat=2)
        other = one_fold(bags, patients, folds, replace(chosen, seed=8))
        assert (two["probability"] != honest["probability"]).mean() > 0.6
        assert (other["probability"] != honest["probability"]).mean() > 0.6
