"""Predict each pixel of a small, quantised picture from those before it (paper, section 5)."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor, nn
from torch.nn import functional as F

from lymphocytosis.compute import drawing_from
from lymphocytosis.encoders.igpt import IGPT, pixels_of
from lymphocytosis.encoders.pictures import Images, to_unit
from lymphocytosis.encoders.pooled import random_projection
from lymphocytosis.errors import UserError
from lymphocytosis.parameters import IgptParameters
from lymphocytosis.pretext.task import Task, TaskInputs

LOSS = "cross-entropy of a pixel (nats)"
# At most so many pictures, and pixels of them, for the palette: more change it little.
PALETTE_PICTURES = 2_000
PALETTE_PIXELS = 200_000


def build(given: TaskInputs) -> Task:
    """Build the task, with random weights and the palette of the pictures; see `build_task`.

    It shows quantised pictures, and each pixel's likeliest colour given the true pixels before it.
    """
    encoder, pretext, images, rows, seed = given
    with drawing_from(seed):
        igpt = IGPT(pretext.igpt, encoder.small_dim)
    igpt.palette.copy_(learn_palette(pretext.igpt, images, rows, seed))
    igpt.projection.copy_(random_projection(igpt.projection.shape[1], encoder.small_dim, seed))

    def loss(model: nn.Module, views: Sequence[Tensor], generator: torch.Generator) -> Tensor:
        colours = igpt.quantise(views[0])
        return F.cross_entropy(model(colours).flatten(0, 1), colours.flatten())

    def show(model: nn.Module, pictures: Tensor, epoch: str) -> dict[str, Tensor]:
        colours = igpt.quantise(pictures)
        likeliest = model(colours).argmax(dim=2)
        drawn = {"quantised": igpt.draw(colours), f"predicted, {epoch}": igpt.draw(likeliest)}
        return {title: F.interpolate(d, size=pictures.shape[2:]) for title, d in drawn.items()}

    return Task(igpt, igpt, 1, loss, show)


def learn_palette(
    parameters: IgptParameters,
    images: Images,
    rows: npt.NDArray[np.int64],
    seed: int,
) -> Tensor:
    """Find the palette by k-means on a sample of pixels.

    Args:
        parameters: the block `pretext.igpt` of the parameters.
        images: (n, S, S, 3) uint8, the image store.
        rows: (m,) rows of `images` that may be used.
        seed: of the sample and of k-means.

    Returns:
        (colours, 3) float32, in [0, 1].

    Raises:
        UserError: the pictures have fewer pixels than the palette has colours.
    """
    generator = np.random.default_rng(seed)
    sample = np.sort(generator.permutation(rows)[:PALETTE_PICTURES])
    shrunk = [
        pixels_of(to_unit(torch.from_numpy(images[batch])), parameters.side).flatten(0, 1)
        for batch in np.array_split(sample, range(64, len(sample), 64))
    ]
    pixels = torch.cat(shrunk).numpy()
    pixels = pixels[generator.permutation(len(pixels))[:PALETTE_PIXELS]]
    if len(pixels) < parameters.colours:
        raise UserError(
            f"pretext.igpt.colours is {parameters.colours}, but the pictures have {len(pixels)} "
            "pixels in all, once they are shrunk. Lower it, or raise pretext.igpt.side."
        )
    kmeans = MiniBatchKMeans(parameters.colours, batch_size=4096, n_init=1, random_state=seed)
    return torch.from_numpy(kmeans.fit(pixels).cluster_centers_).clamp(0, 1)
