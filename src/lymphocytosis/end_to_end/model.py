"""Encoder and patient classifier as one network (paper, section 2.1: bag-images)."""

from dataclasses import replace
from typing import Self

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lymphocytosis.compute import drawing_from
from lymphocytosis.encoders.encoder import Encoder, build_encoder
from lymphocytosis.encoders.pictures import to_unit
from lymphocytosis.errors import UserError
from lymphocytosis.mil.bags import Batch
from lymphocytosis.mil.classifiers import Classifier, build_classifier
from lymphocytosis.mil.scores import Output
from lymphocytosis.parameters import EncoderParameters, MilParameters


class PictureClassifier(nn.Module):
    """Pictures are normalised, encoded, pooled, and given to the patient classifier as instances.

    A batch passes the encoder in chunks. Of each chunk only the pictures and their embeddings are
    kept; torch's checkpointing computes the rest again when the chunk's turn in the backward pass
    comes. So memory holds one chunk, and every gradient is that of the whole batch.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: Encoder, classifier: Classifier, chunk: int) -> None:
        """Put the parts together; pictures stay in [0, 1] until `mean` and `std` are filled.

        Args:
            encoder: gives (B, encoder.dim, h, w).
            classifier: takes instances of width encoder.dim.
            chunk: most pictures that are in the encoder at once.
        """
        super().__init__()
        self.encoder = encoder
        self.classifier = classifier
        self.chunk = chunk
        self.register_buffer("mean", torch.zeros(3, 1, 1))
        self.register_buffer("std", torch.ones(3, 1, 1))

    def train(self, mode: bool = True) -> Self:
        """Set the classifier's mode; the encoder stays in eval mode, and its weights learn.

        In train mode its BatchNorm would take figures of one chunk: then a bag's gradient would
        depend on how the bag is cut. So it keeps the figures that it came with.

        Args:
            mode: True for train mode.

        Returns:
            The model.
        """
        super().train(mode)
        self.encoder.eval()
        return self

    def embed(self, pixels: Tensor) -> Tensor:
        """Embed pictures.

        Args:
            pixels: (k, S, S, 3) uint8.

        Returns:
            (k, D) float, the feature map's mean over its places.
        """
        return self.encoder((to_unit(pixels) - self.mean) / self.std).mean(dim=(2, 3))

    def forward(self, batch: Batch) -> Output:
        """Classify bags of pictures.

        Args:
            batch: b bags, whose instances are pictures (n, S, S, 3) uint8.

        Returns:
            What the classifier returns: logits, the experts' logits.
        """
        return self.classifier(self.embed_bags(batch))

    def embed_bags(self, batch: Batch) -> Batch:
        """Embed bags of pictures.

        Args:
            batch: as in `forward`.

        Returns:
            The same bags; their instances are embeddings (n, D) float.
        """
        # Nothing in an encoder in eval mode draws: no generator's state need be kept.
        embedded = [
            checkpoint(self.embed, chunk, use_reentrant=False, preserve_rng_state=False)
            for chunk in batch.instances.split(self.chunk)
        ]
        return replace(batch, instances=torch.cat(embedded))


def check_trainable(mil: MilParameters) -> None:
    """Refuse a classifier that can't be trained together with an encoder.

    Args:
        mil: the block `mil` of the parameters.

    Raises:
        UserError: the classifier is fitted to embeddings that stay as they are.
    """
    if mil.classifier == "logistic" or mil.components:
        raise UserError(
            "bag_images trains encoder and classifier as one, by gradients. It needs "
            f"mil.classifier 'neural' and mil.components 0, not {mil.classifier!r} and "
            f"{mil.components}."
        )


def build_picture_classifier(
    encoder: EncoderParameters, mil: MilParameters, image_size: int, chunk: int, seed: int
) -> PictureClassifier:
    """Build the model with its initial weights; the same seed gives the same random ones.

    Pretrained weights know pictures by a mean and a standard deviation of their own, timm's
    `pretrained_cfg`; with random weights pictures stay in [0, 1].

    Args:
        encoder: the block `encoder` of the parameters.
        mil: the block `mil`: the classifier's shape.
        image_size: side of the pictures in pixels.
        chunk: most pictures that are in the encoder at once.
        seed: of the random weights and of dropout.

    Returns:
        The model, on the CPU.

    Raises:
        UserError: no such encoder, or its weights can't be had.
    """
    with drawing_from(seed):
        built = build_encoder(encoder, image_size)
        classifier = build_classifier(mil, built.dim, seed)
    model = PictureClassifier(built, classifier, chunk)
    if encoder.weights != "random":
        own = built.model.pretrained_cfg
        model.mean.copy_(torch.tensor(own["mean"])[:, None, None])
        model.std.copy_(torch.tensor(own["std"])[:, None, None])
    return model
