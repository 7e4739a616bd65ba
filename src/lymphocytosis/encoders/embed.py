"""Embedding every picture in every view (paper, section 2.1.2)."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from lymphocytosis.compute import start_fabric
from lymphocytosis.encoders.autoencoder import to_unit
from lymphocytosis.encoders.checkpoint import Embedder
from lymphocytosis.parameters import ComputeParameters

Images = npt.NDArray[np.uint8]
Vectors = npt.NDArray[np.float32]
ViewOf = Callable[[Images, Any], Images]


@torch.inference_mode()
def embed_pictures(
    embedder: Embedder,
    images: Images,
    rows: npt.NDArray[np.int64],
    views: Sequence[str],
    view_of: ViewOf,
    compute: ComputeParameters,
) -> Iterator[tuple[npt.NDArray[np.int64], Vectors, Vectors]]:
    """Embed pictures batch by batch; each is read once and shown in all views.

    Args:
        embedder: in eval mode; of an autoencoder the decoder is not used.
        images: (n, S, S, 3) uint8, the image store.
        rows: (m,) rows of `images` to embed.
        views: the views, in the order of the results.
        view_of: shows pictures (b, S, S, 3) uint8 in a view.
        compute: the block `compute` of the parameters.

    Yields:
        The rows of a batch (b,); f_large (b, v, D) and f_small (b, v, d), float32.
    """
    fabric = start_fabric(compute)
    model = fabric.setup_module(embedder)
    model.mark_forward_method("embed")
    batches = np.split(rows, range(compute.embed_batch_size, len(rows), compute.embed_batch_size))
    for batch in tqdm(batches, "embedding", leave=False, disable=None):
        pixels = images[batch]
        in_views = [np.ascontiguousarray(view_of(pixels, view)) for view in views]
        embedded = [model.embed(to_unit(fabric.to_device(torch.from_numpy(p)))) for p in in_views]
        large, small = (
            torch.stack(of_views, dim=1).float().cpu().numpy()
            for of_views in zip(*embedded, strict=True)
        )
        yield batch, large, small
