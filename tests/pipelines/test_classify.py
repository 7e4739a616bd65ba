import numpy as np
import pandas as pd

from lymphocytosis.pipelines.classify.nodes import plot_history


def history(splits, epochs):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        [(s, e) for s in range(1, splits + 1) for e in range(1, epochs + 1)],
        columns=["split", "epoch"],
    )
    names = ["loss", "train_balanced_accuracy", "validation_balanced_accuracy"]
    table[names] = rng.uniform(0.1, 0.9, (len(table), 3))
    return table.assign(learning_rate=np.nan, kept=table["epoch"] == epochs)


class TestPlotHistory:
    def test_one_epoch_is_drawn_as_a_dot_for_each_split(self):
        table = history(splits=5, epochs=1)
        loss, scores = plot_history(table, "large").axes
        drawn = [*loss.lines, *scores.lines]
        assert all(line.get_marker() not in ("", "None", None) for line in drawn)
        columns = ["loss", "train_balanced_accuracy", "validation_balanced_accuracy"]
        for line, column in zip(drawn, columns, strict=True):
            assert np.array_equal(line.get_ydata(), table[column])
        assert scores.get_xlabel() == "split"

    def test_several_epochs_are_curves_of_each_split_with_a_dot_at_the_one_kept(self):
        figure = plot_history(history(splits=2, epochs=3), "large")
        assert figure.get_suptitle().endswith(": large")
        assert len(figure.axes) == 4
        kept = [line for line in figure.axes[2].lines if line.get_label() == "kept"]
        assert kept[0].get_xdata().tolist() == [3]

    def test_a_split_that_stopped_after_one_epoch_is_seen(self):
        table = history(splits=2, epochs=3)
        figure = plot_history(table[(table["split"] == 1) | (table["epoch"] == 1)], "large")
        for axis in (figure.axes[1], figure.axes[3]):
            for line in axis.lines:
                assert line.get_marker() not in ("", "None", None)
