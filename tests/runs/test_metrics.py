import pandas as pd

from lymphocytosis.runs.metrics import metrics_of


def test_a_history_gives_each_epochs_mean_over_splits():
    table = pd.DataFrame(
        {
            "epoch": [1, 2, 1, 2], "loss": [1.0, 0.5, 3.0, 1.5],
            "learning_rate": [0.1, None, 0.1, None], "kept": [False, True] * 2,
            "split": [1, 1, 2, 2],
        }
    )  # fmt: skip
    assert metrics_of("large_history", table) == [
        ("large/loss", 1, 2.0),
        ("large/loss", 2, 1.0),
        ("large/learning_rate", 1, 0.1),
    ]


def test_results_give_the_balanced_accuracies_that_there_are():
    table = pd.DataFrame(
        {
            "method": ["large SA (corrected)"], "test_balanced_accuracy": [None],
            "out_of_fold_balanced_accuracy": [0.75], "out_of_fold_low": [0.5],
        }
    )  # fmt: skip
    assert metrics_of("results", table.astype({"test_balanced_accuracy": float})) == [
        ("results/large SA corrected/out_of_fold_balanced_accuracy", 0, 0.75)
    ]


def test_an_evaluation_gives_scores_and_intervals_under_avg():
    rows = [("AVG", "balanced_accuracy"), ("referral", "sensitivity"), (None, "auc")]
    table = pd.DataFrame(
        [("large, pictures + clinical", *row, 0.9, 0.8, 1.0) for row in rows],
        columns=["method", "rule", "metric", "value", "low", "high"],
    )
    name = "evaluation/large pictures and clinical"
    assert metrics_of("evaluation", table) == [
        (f"{name}/balanced_accuracy", 0, 0.9),
        (f"{name}/balanced_accuracy_low", 0, 0.8),
        (f"{name}/balanced_accuracy_high", 0, 1.0),
        (f"{name}/auc", 0, 0.9),
        (f"{name}/auc_low", 0, 0.8),
        (f"{name}/auc_high", 0, 1.0),
    ]
