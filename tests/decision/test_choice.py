import numpy as np
import pandas as pd
import pytest

from lymphocytosis.decision.choice import SYSTEMS, choose_in_folds, describe_choices

PATIENTS = [f"P{n:02d}" for n in range(24)]
LABEL = pd.Series(np.arange(24) % 3 // 2, index=PATIENTS)
FOLDS = np.arange(24) // 3 % 4 + 1


def a_run(seed, signal):
    """Random predictions with some signal: two repeats, four folds, two splits, two views."""
    rng = np.random.default_rng(seed)
    rows = [
        (size, system, repeat, fold, role, patient, split, view)
        for size in ("large", "small")
        for system in (*SYSTEMS, "shuffled labels")
        for repeat in (1, 2)
        for fold in (1, 2, 3, 4)
        for patient, out in zip(PATIENTS, fold == FOLDS, strict=True)
        for role in ["held_out" if out else "inner"]
        for split in (1, 2)
        for view in ("original", "vertical")
    ]
    columns = ["size", "system", "repeat", "fold", "role", "patient_id", "split", "view"]
    table = pd.DataFrame(rows, columns=columns)
    logit = signal * LABEL.loc[table["patient_id"]].to_numpy() + rng.normal(size=len(table))
    return table.assign(probability=1 / (1 + np.exp(-logit)))


@pytest.fixture
def runs():
    return {"weak": a_run(0, 0.2), "strong": a_run(1, 0.6)}


def rank_auc(label, probability):
    """By its definition: pairs in the right order."""
    pairs = [
        (high > low) + (high == low) / 2
        for high in probability[label == 1]
        for low in probability[label == 0]
    ]
    return float(np.mean(pairs))


class TestChooseInFolds:
    def test_accepts_what_a_plain_loop_accepts(self, runs):
        predictions, choices = choose_in_folds(runs, LABEL)
        for system in SYSTEMS:
            for repeat in (1, 2):
                for fold in (1, 2, 3, 4):
                    found = {}
                    for run, table in runs.items():
                        for size in ("large", "small"):
                            rows = table[
                                (table["system"] == system)
                                & (table["repeat"] == repeat)
                                & (table["fold"] == fold)
                                & (table["size"] == size)
                            ]
                            mean = (
                                rows[rows["role"] == "inner"]
                                .groupby("patient_id")["probability"]
                                .mean()
                            )
                            auc = rank_auc(LABEL.loc[mean.index].to_numpy(), mean.to_numpy())
                            found[run, size] = auc, rows
                    best = max(found, key=lambda recipe: found[recipe][0])
                    here = (
                        (choices["system"] == system)
                        & (choices["repeat"] == repeat)
                        & (choices["fold"] == fold)
                    )
                    (chosen,) = choices[here & choices["chosen"]].to_dict("records")
                    assert (chosen["run"], chosen["size"]) == best
                    assert chosen["auc"] == pytest.approx(found[best][0])
                    taken = predictions[
                        (predictions["system"] == system)
                        & (predictions["repeat"] == repeat)
                        & (predictions["fold"] == fold)
                    ]
                    expected = found[best][1].assign(size="chosen")
                    keys = ["role", "patient_id", "split", "view"]
                    pd.testing.assert_frame_equal(
                        taken.sort_values(keys, ignore_index=True),
                        expected.sort_values(keys, ignore_index=True),
                        check_like=True,
                    )

    def test_held_out_patients_have_no_influence_on_the_choice(self, runs):
        _, choices = choose_in_folds(runs, LABEL)
        for seed, table in enumerate(runs.values()):
            held_out = table["role"] == "held_out"
            noise = np.random.default_rng(seed).random(held_out.sum())
            table.loc[held_out, "probability"] = noise
        pd.testing.assert_frame_equal(choose_in_folds(runs, LABEL)[1], choices)

    def test_the_order_of_runs_and_rows_changes_nothing(self, runs):
        turned = {name: runs[name].sample(frac=1, random_state=3) for name in reversed(runs)}
        keys = ["system", "repeat", "fold", "role", "patient_id", "split", "view"]
        for one, other in zip(
            choose_in_folds(runs, LABEL), choose_in_folds(turned, LABEL), strict=True
        ):
            by = [name for name in keys if name in one] or None
            by = by if "run" not in one else ["system", "repeat", "fold", "run", "size"]
            pd.testing.assert_frame_equal(
                one.sort_values(by, ignore_index=True), other.sort_values(by, ignore_index=True)
            )

    def test_of_equal_auc_the_lower_brier_score_wins(self, runs):
        sure = runs["strong"].assign(probability=LABEL.loc[runs["strong"]["patient_id"]].to_numpy())
        unsure = sure.assign(probability=0.4 + 0.2 * sure["probability"])
        _, choices = choose_in_folds({"a": unsure, "b": sure}, LABEL)
        assert (choices["auc"] == 1).all()
        assert set(choices.loc[choices["chosen"], "run"]) == {"b"}

    def test_shuffled_labels_are_no_recipe(self, runs):
        predictions, choices = choose_in_folds(runs, LABEL)
        assert set(predictions["system"]) == set(choices["system"]) == set(SYSTEMS)


class TestDescribeChoices:
    def test_counts_how_often_each_was_chosen(self, runs):
        _, choices = choose_in_folds(runs, LABEL)
        told = describe_choices(choices)
        for system in SYSTEMS:
            lines = [line for line in told.splitlines() if line.startswith(f"| {system} |")]
            assert len(lines) == 4
            assert sum(int(line.split("|")[4].split(" of ")[0]) for line in lines) == 8
            assert all(line.split("|")[4].strip().endswith("of 8") for line in lines)
