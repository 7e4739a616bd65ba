import numpy as np
import pandas as pd
import pytest
import torch
from lightning_fabric import Fabric

from lymphocytosis.mil.bags import gather_bags
from lymphocytosis.mil.classifiers import build_classifier
from lymphocytosis.mil.epochs import cpu_state
from lymphocytosis.mil.suite import train_suite
from lymphocytosis.mil.turns import run_in_turns
from lymphocytosis.progress import Progress


def train(bags, train, validation, mil, seed, fabric):
    classifier = build_classifier(mil, bags.instances.shape[1], seed, fabric.device)
    [(_, history)] = run_in_turns([classifier.fit(bags, train, validation, fabric)], at_once=1)
    return cpu_state(classifier), history


FABRIC = Fabric(accelerator="cpu", devices=1)


class TestSuite:
    def test_one_classifier_a_split_each_as_if_trained_alone(self, mil, suite_of):
        threads = torch.get_num_threads()
        _, bags, _, classifiers, history = suite_of()
        assert torch.get_num_threads() == threads
        torch.set_num_threads(1)  # as in the suite: sums are taken in another order on two
        alone, alone_history = train(bags, np.arange(8, 24), np.arange(8), mil(), 1, FABRIC)
        torch.set_num_threads(threads)
        assert list(classifiers["state_dicts"]) == [1, 2]
        assert all(torch.equal(v, classifiers["state_dicts"][2][k]) for k, v in alone.items())
        second = history[history["split"] == 2].drop(columns="split").reset_index(drop=True)
        assert second.equals(alone_history)

    @pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
    @pytest.mark.parametrize("kind", ["neural", "logistic"])
    def test_at_every_precision_threads_change_nothing(self, cohort, mil, kind, precision):
        patients, table = cohort(n=48, signal=0.4)
        bags = gather_bags(table, patients)
        ids = patients["patient_id"]
        splits = pd.concat(
            pd.DataFrame({"split": s, "patient_id": ids, "role": role})
            for s in range(1, 7)
            for role in [np.where(np.arange(48) // 2 % 6 == s - 1, "validation", "train")]
        )
        fabric = Fabric(accelerator="cpu", devices=1, precision=precision)
        settings = mil(classifier=kind, epochs=6, dropout=0.3)
        trained = []
        threads = torch.get_num_threads()
        for at_once in (1, 4):
            torch.set_num_threads(at_once)
            trained.append(train_suite(bags, patients, splits, settings, 0, fabric, Progress(None)))
        torch.set_num_threads(threads)
        (alone, history), (together, history_together) = trained
        assert history.equals(history_together)
        for split, state in alone["state_dicts"].items():
            assert all(torch.equal(together["state_dicts"][split][k], v) for k, v in state.items())

    @pytest.mark.parametrize("parts_done", [1, 2, 3])
    @pytest.mark.parametrize("classifier", ["neural", "logistic"])
    def test_after_a_kill_it_is_the_same_to_the_bit(
        self, mil, after_a_kill, parts_done, classifier, suite_of
    ):
        settings = mil(classifier=classifier)
        patients, bags, splits, undisturbed, history = suite_of(classifier=classifier)
        # A table and a state for each of two splits.
        found, found_history = after_a_kill(
            lambda progress: train_suite(bags, patients, splits, settings, 0, FABRIC, progress),
            parts_done,
        )
        assert found_history.equals(history)
        for split, state in undisturbed["state_dicts"].items():
            assert all(torch.equal(found["state_dicts"][split][k], v) for k, v in state.items())


@pytest.mark.gpu
def test_the_splits_together_are_near_each_on_the_cpu(mil, suite_of):
    # Without dropout, which draws other numbers there; few steps, for rounding grows.
    settings = {"dropout": 0.0, "epochs": 1}
    patients, bags, splits, _, history = suite_of(**settings)
    fabric = Fabric(accelerator="cuda", devices=1)
    _, on_gpu = train_suite(bags, patients, splits, mil(**settings), 0, fabric, Progress(None))
    np.testing.assert_allclose(on_gpu["loss"], history["loss"], rtol=1e-3)
