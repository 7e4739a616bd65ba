"""Training epochs, shared by bags of embeddings and bags of pictures."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F

from lymphocytosis.mil.bags import Batch
from lymphocytosis.mil.scores import Floats


def train_epoch(
    model: nn.Module, optimizer: Any, fabric: Fabric, batches: Iterable[Batch]
) -> tuple[Tensor, Floats]:
    """Take a step for each batch.

    Args:
        model: a classifier, on the device of `fabric`.
        optimizer: of its weights, set up by `fabric`.
        fabric: device and precision, not shared with another training.
        batches: on the device; each is requested after the previous step.

    Returns:
        (k,) float32 losses of the batches, on the device; and the bags' probabilities, in order.
    """
    model.train()
    losses, logits = [], []
    for batch in batches:
        with fabric.autocast():
            output = model(batch)
        logits.append(output.logits.detach().float())
        loss = F.binary_cross_entropy_with_logits(output.logits.float(), batch.label)
        # Each expert also has its own loss; with concatenation there are no experts.
        for expert in output.experts.float():
            loss = loss + F.binary_cross_entropy_with_logits(expert, batch.label)
        losses.append(loss.detach())
        optimizer.zero_grad()
        # `fabric.backward` sets a process-wide flag, and splits train on several threads.
        fabric.strategy.backward(loss, None)
        optimizer.step()
    return torch.stack(losses), torch.sigmoid(torch.cat(logits).double()).cpu().numpy()


class BestEpoch:
    """A training history, and the weights of the best epoch (the first of equal ones)."""

    def __init__(self, monitor: str) -> None:
        """Start with no epochs.

        Args:
            monitor: `mil.monitor`, the score that decides.
        """
        self._monitor = monitor
        self._rows: list[dict[str, float]] = []
        self._state: dict[str, Tensor] = {}
        self._epoch = 0
        self.score = -np.inf

    def add(self, model: nn.Module, scores: dict[str, float]) -> float:
        """Add an epoch.

        Args:
            model: as it is after the epoch.
            scores: loss, train_balanced_accuracy, validation_balanced_accuracy, learning_rate.

        Returns:
            The epoch's monitored score.
        """
        self._rows.append({"epoch": len(self._rows) + 1} | scores)
        monitored = scores["validation_balanced_accuracy"]
        if self._monitor == "train_and_validation":
            monitored = (scores["train_balanced_accuracy"] + monitored) / 2
        if monitored > self.score:
            self.score, self._epoch = monitored, len(self._rows)
            self._state = cpu_state(model)
        return monitored

    def restore(self, model: nn.Module) -> pd.DataFrame:
        """Load the weights of the best epoch into the model.

        Args:
            model: the one passed to `add`.

        Returns:
            The history, one row per epoch: epoch, the scores, kept (whether it is the best).
        """
        model.load_state_dict(self._state)
        table = pd.DataFrame(self._rows)
        return table.assign(kept=table["epoch"] == self._epoch)


def cpu_state(model: nn.Module) -> dict[str, Tensor]:
    """Copy a model's state dict to the CPU, without keeping the model alive."""
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
