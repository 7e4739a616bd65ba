"""The neural classifier (paper, sections 2.2 and 3.2, figure 5)."""

from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from lymphocytosis.compute import finite_losses, in_batches
from lymphocytosis.mil.aggregators import AGGREGATORS, Aggregator, Mean
from lymphocytosis.mil.bags import Bags, Batch, Indices, logged, pack
from lymphocytosis.mil.embedded_mean import embedded_mean
from lymphocytosis.mil.epochs import BestEpoch, train_epoch
from lymphocytosis.mil.layers import SeededDropout, mixed_logits
from lymphocytosis.mil.scores import Output, balanced_accuracy, predict_bags
from lymphocytosis.mil.turns import Job
from lymphocytosis.parameters import MilParameters


class NeuralClassifier(nn.Module):
    """Special embedding, aggregator, clinical values, head (paper, figure 5: mean, concatenation).

    Fusions of pictures and clinical values:

    - concatenation: the head takes the pooled bag and the clinical values (paper, equation 11).
    - late: the head takes the pooled bag, a linear layer the clinical values; the logits are added.
    - mixture: the same two experts, and a gate that takes both inputs: p = g p_1 + (1 - g) p_2
      (Sahasrabudhe et al. 2021).
    """

    clinical_low: Tensor
    clinical_span: Tensor

    def __init__(
        self,
        mil: MilParameters,
        in_dim: int,
        seed: int,
        device: torch.device,
    ) -> None:
        """Build the classifier with Xavier weights and zero biases.

        Args:
            mil: the block `mil` of the parameters.
            in_dim: D, the width of the instances.
            seed: of weights, dropout and the order of bags.
            device: where the classifier will be trained. On a GPU, dropout draws there from the
                same seed, so that no step waits for the CPU.
        """
        super().__init__()
        self.mil = mil
        self.seed = seed
        generator = drawn_from = torch.Generator().manual_seed(seed)
        if device.type != "cpu":
            drawn_from = torch.Generator(device).manual_seed(seed)
        self.fusion = mil.fusion if mil.inputs == "both" else None
        self.special_embedding = nn.Sequential(
            nn.Linear(in_dim, mil.embedding_width),
            nn.BatchNorm1d(mil.embedding_width),
            nn.ReLU(inplace=True),
        )
        self.aggregator: Aggregator = AGGREGATORS[mil.aggregator](mil.embedding_width)
        self.adds_up = (
            mil.aggregator == "mean" and not mil.hidden_widths and self.fusion != "mixture"
        )
        pooled_width = self.aggregator.out_width
        widths = [pooled_width + 2 * (self.fusion == "concatenation"), *mil.hidden_widths]
        layers: list[nn.Module] = []
        for taken, given in pairwise(widths):
            layers += [nn.Linear(taken, given), nn.ReLU(), SeededDropout(mil.dropout, drawn_from)]
        self.head = nn.Sequential(*layers, nn.Linear(widths[-1], 1))
        if self.fusion in ("late", "mixture"):
            self.clinical_head = nn.Linear(2, 1)
        if self.fusion == "mixture":
            self.gate = nn.Linear(pooled_width + 2, 1)
        self.register_buffer("clinical_low", torch.zeros(2))
        self.register_buffer("clinical_span", torch.ones(2))
        for module in self.modules():
            if isinstance(module, nn.MultiheadAttention):
                nn.init.xavier_uniform_(module.in_proj_weight, generator=generator)
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight, generator=generator)
                nn.init.zeros_(module.bias)

    def fit_clinical_scale(self, clinical: Tensor) -> None:
        """Learn to scale the clinical values to [0, 1].

        Args:
            clinical: (p, 2) float, the training patients' age (years) and count (10^9 per litre).
        """
        values = logged(clinical, self.mil.log_count)
        low, high = values.amin(dim=0), values.amax(dim=0)
        # A constant value must not cause a division by zero.
        span = torch.where(high > low, high - low, torch.ones_like(low))
        self.clinical_low.copy_(low)
        self.clinical_span.copy_(span)

    def forward(self, batch: Batch) -> Output:
        """Compute the logit of each bag's probability of a tumoral lymphocytosis.

        Args:
            batch: b bags.

        Returns:
            Logits, the experts' logits.
        """
        if (
            self.training
            and type(self.aggregator) is Mean
            and batch.instances.is_cpu
            and not torch.is_autocast_enabled("cpu")
        ):
            pooled = embedded_mean(self.special_embedding, batch.instances, batch.size)
        else:
            embedded = self.special_embedding(batch.instances)
            pooled = self.aggregator(embedded, batch.bag, len(batch.clinical))
        return self.classify(pooled, batch.clinical)

    def classify(self, pooled: Tensor, clinical: Tensor) -> Output:
        """Classify pooled bags.

        Args:
            pooled: (b, out_width) float.
            clinical: (b, 2) float.

        Returns:
            As `forward`.
        """
        values = logged(clinical, self.mil.log_count)
        scaled = (values - self.clinical_low) / self.clinical_span
        if self.fusion == "concatenation":
            pooled = torch.cat([pooled, scaled], dim=1)
        of_pictures = self.head(pooled).squeeze(1)
        if self.fusion not in ("late", "mixture"):
            return Output(of_pictures, of_pictures.new_empty(0, len(of_pictures)))
        of_clinical = self.clinical_head(scaled).squeeze(1)
        experts = torch.stack([of_pictures, of_clinical])
        if self.fusion == "late":
            return Output(experts.sum(dim=0), experts)
        gate = self.gate(torch.cat([pooled, scaled], dim=1)).squeeze(1)
        return Output(mixed_logits(experts, gate), experts)

    def fit(
        self, bags: Bags, train: Indices, validation: Indices, fabric: Fabric
    ) -> Job[pd.DataFrame]:
        """Train, and keep the epoch with the best score on the validation patients.

        Each view of a patient is a separate bag, in training and in validation. Training stops
        early once the monitored score is 1, since no later epoch can be better.

        Args:
            bags: every bag, on the device of `fabric`.
            train: numbers of the training patients.
            validation: numbers of the validation patients.
            fabric: device and precision, not shared with another training.

        Yields:
            Nothing, after each epoch but the last, so that another training can continue.

        Returns:
            One row per epoch: epoch, loss, train_balanced_accuracy (of the predictions made during
            training, with dropout), validation_balanced_accuracy (after the epoch),
            learning_rate, kept (whether this epoch is kept).

        Raises:
            UserError: the loss is not finite.
        """
        mil = self.mil
        self.fit_clinical_scale(bags.clinical[torch.from_numpy(train)])
        self.to(fabric.device)
        adam = torch.optim.Adam(
            self.parameters(), lr=mil.learning_rate, weight_decay=mil.weight_decay, fused=True
        )
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
            adam, mode="max", factor=mil.scheduler.factor, patience=mil.scheduler.patience
        )
        optimizer = fabric.setup_optimizers(adam)
        order = torch.Generator().manual_seed(self.seed)
        learned_from, scored = bags.of_patients(train), bags.of_patients(validation)
        best = BestEpoch(mil.monitor)
        for epoch in range(1, mil.epochs + 1):
            rate = adam.param_groups[0]["lr"]
            shuffled = learned_from[torch.randperm(len(learned_from), generator=order).numpy()]
            parts = in_batches(shuffled, mil.batch_size)
            longest = max(int(bags.size[part].sum()) for part in parts)
            memory = bags.instances.new_empty(longest, bags.instances.shape[1])
            batches = (pack(bags, part, memory) for part in parts)
            losses, predicted = train_epoch(self, optimizer, fabric, batches)
            of_batches = finite_losses(losses, epoch, "a classifier", "mil.learning_rate")
            probability = predict_bags(self, bags, scored, mil.batch_size, fabric)
            monitored = best.add(
                self,
                {
                    "loss": float(np.average(of_batches, weights=[len(part) for part in parts])),
                    "train_balanced_accuracy": balanced_accuracy(
                        bags.label[bags.patient[shuffled]], predicted, mil.monitor_threshold
                    ),
                    "validation_balanced_accuracy": balanced_accuracy(
                        bags.label[bags.patient[scored]], probability, mil.monitor_threshold
                    ),
                    "learning_rate": rate,
                },
            )
            scheduler.step(monitored)
            if best.score == 1:
                break
            if epoch < mil.epochs:
                yield
        return best.restore(self)
