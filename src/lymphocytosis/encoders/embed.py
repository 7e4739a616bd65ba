"""Embedding every picture in every view (paper, section 2.1.2)."""

import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import torch
from torch import Tensor

from lymphocytosis.compute import start_fabric
from lymphocytosis.display import working
from lymphocytosis.encoders.backend import fastest_embed
from lymphocytosis.encoders.checkpoint import Embedder
from lymphocytosis.encoders.pictures import Images, Pictures
from lymphocytosis.parameters import ComputeParameters
from lymphocytosis.progress import Progress

logger = logging.getLogger(__name__)

Vectors = npt.NDArray[np.float32]
ViewOf = Callable[[npt.NDArray[Any], Any], npt.NDArray[Any]]


def embed_in_shards(
    embedder: Embedder,
    images: Images,
    cells: pd.DataFrame,
    views: Sequence[str],
    view_of: ViewOf,
    compute: ComputeParameters,
    progress: Progress,
    least: int,
    share: tuple[int, int] = (0, 1),
    graph: bytes | None = None,
) -> Iterator[pa.Table]:
    """Embed pictures shard by shard; after a killed run, only the unfinished ones.

    Args:
        embedder: as in `embed_pictures`, like the next five.
        images: (n, S, S, 3) uint8, the image store.
        cells: patient_id and image_id of m pictures; its index tells their rows of `images`.
        views: the views, in the order of the results.
        view_of: turns pictures (b, S, S, 3) uint8 into a view.
        compute: the block `compute` of the parameters.
        progress: where each shard is saved, as Parquet.
        least: embeddings per shard, rounded up to whole batches, so that an interrupted run has the
            same batches and gives the same bits.
        share: the number of this process, from 0, and how many there are; each does every so many
            shards.
        graph: the embedder as an ONNX model; by default it is exported where needed.

    Yields:
        The table of a shard, as `table_of` makes it.
    """
    rows = cells.index.to_numpy(dtype=np.int64)
    batches = -(-least // (len(views) * compute.embed_batch_size))
    step = batches * compute.embed_batch_size
    shards = np.split(rows, range(step, len(rows), step))
    own = range(len(shards))[share[0] :: share[1]]
    missing = {n: shards[n] for n in own if not progress.has_table(f"shard-{n}")}
    if len(missing) < len(own):
        done = len(own) - len(missing)
        logger.info("embedding goes on after shard %d of %d", done, len(own))
    ready: ReadyEncoder | None = None
    with working("embedding", sum(len(shards[n]) for n in own), "pictures") as work:
        for number in own:
            shard = shards[number]
            kept = None if number in missing else progress.arrow(f"shard-{number}")
            if kept is not None:
                yield kept
                work.resume(len(shard))
                continue
            if ready is None:
                ready = ReadyEncoder(embedder, images.shape[1], views, view_of, compute, graph)
                work.ready()
                embedded = ready.embed(images, np.concatenate([rows[:0], *missing.values()]))
            # A damaged shard is embedded by itself.
            source = embedded if number in missing else ready.embed(images, shard)
            parts = []
            for part in islice(source, -(-len(shard) // compute.embed_batch_size)):
                parts.append(part)
                work.advance(len(part[0]))
            _, large, small = map(np.concatenate, zip(*parts, strict=True))
            # Not by the index, which would need memory for every picture to find them.
            table = table_of(cells.iloc[number * step :][: len(shard)], views, large, small)
            progress.save_arrow(f"shard-{number}", table)
            yield table


def table_of(
    ids: pd.DataFrame,
    views: Sequence[str],
    large: Vectors,
    small: Vectors,
) -> pa.Table:
    """Put embeddings into a table, a cell's views side by side.

    Args:
        ids: patient_id and image_id of b cells.
        views: v names.
        large: (b, v, D).
        small: (b, v, d).

    Returns:
        b x v rows.
    """
    columns = {name: np.repeat(ids[name].to_numpy(), len(views)) for name in ids.columns}
    columns["view"] = np.tile(views, len(ids))
    texts = {name: pa.array(values, pa.string()) for name, values in columns.items()}
    # No value is missing, and saying so halves the time that Parquet takes to read them.
    value = pa.field("element", pa.float32(), nullable=False)
    vectors = {
        name: pa.FixedSizeListArray.from_arrays(
            values.ravel(), type=pa.list_(value, values.shape[2])
        )
        for name, values in (("large", large), ("small", small))
    }
    return pa.table(texts | vectors)


def embed_pictures(
    embedder: Embedder,
    images: Images,
    rows: npt.NDArray[np.int64],
    views: Sequence[str],
    view_of: ViewOf,
    compute: ComputeParameters,
) -> Iterator[tuple[npt.NDArray[np.int64], Vectors, Vectors]]:
    """Embed pictures batch by batch; each is read once and embedded in all views.

    Args:
        embedder: in eval mode; the decoder of an autoencoder is not used.
        images: (n, S, S, 3) uint8, the image store.
        rows: (m,) rows of `images` to embed.
        views: the views, in the order of the results.
        view_of: turns pictures (b, S, S, 3) uint8 into a view.
        compute: the block `compute` of the parameters.

    Yields:
        The rows of a batch (b,); f_large (b, v, D) and f_small (b, v, d), float32.
    """
    yield from ReadyEncoder(embedder, images.shape[1], views, view_of, compute).embed(images, rows)


class ReadyEncoder:
    """An encoder made ready once, for any number of pictures.

    A picture's embeddings do not depend on the other pictures, to the bit.
    """

    def __init__(
        self,
        embedder: Embedder,
        side: int,
        views: Sequence[str],
        view_of: ViewOf,
        compute: ComputeParameters,
        graph: bytes | None = None,
    ) -> None:
        """Choose how to run the encoder.

        Args:
            embedder: as in `embed_pictures`, like the next ones.
            side: S, of the pictures in pixels.
            views: likewise.
            view_of: likewise.
            compute: likewise.
            graph: the embedder as an ONNX model; by default it is exported where needed.
        """
        self._batch_size = compute.embed_batch_size
        self._fabric = start_fabric(compute)
        self._show = _shown_in(views, view_of, side, self._fabric.device)
        shape = (len(views) * self._batch_size, side, side, 3)
        drawn = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        with torch.inference_mode():
            self._embed = fastest_embed(
                embedder, torch.from_numpy(drawn), compute, self._fabric, graph
            )

    @torch.inference_mode()
    def embed(
        self, images: Images, rows: npt.NDArray[np.int64]
    ) -> Iterator[tuple[npt.NDArray[np.int64], Vectors, Vectors]]:
        """Embed pictures batch by batch.

        Args:
            images: (n, S, S, 3) uint8.
            rows: (m,) rows of `images` to embed.

        Yields:
            As `embed_pictures`.
        """
        store = Pictures(images, self._fabric.device)
        waiting: list[tuple[npt.NDArray[np.int64], Tensor, Tensor]] = []
        for batch in np.split(rows, range(self._batch_size, len(rows), self._batch_size)):
            # One call for all views: larger matrices are faster.
            waiting.append((batch, *self._embed(self._show(store.read(batch)))))
            # One batch behind: a GPU computes while the CPU reads the next pictures.
            if len(waiting) > 1:
                yield _by_picture(*waiting.pop(0))
        yield _by_picture(*waiting.pop())


def _shown_in(
    views: Sequence[str], view_of: ViewOf, side: int, device: torch.device
) -> Callable[[Tensor], Tensor]:
    """A function from a batch (b, S, S, 3) uint8 to all its views, view by view: (v b, S, S, 3)."""
    if device.type == "cpu":
        return lambda pixels: torch.from_numpy(
            np.concatenate([view_of(pixels.numpy(), view) for view in views])
        )
    # The source of each pixel of a view, so that a GPU needs no CPU.
    numbers = np.arange(side * side).reshape(1, side, side, 1)
    sources = [torch.from_numpy(view_of(numbers, view).ravel()).to(device) for view in views]
    return lambda pixels: torch.cat(
        [pixels.flatten(1, 2).index_select(1, source) for source in sources]
    ).unflatten(1, (side, side))


def _by_picture(
    batch: npt.NDArray[np.int64], *embedded: Tensor
) -> tuple[npt.NDArray[np.int64], Vectors, Vectors]:
    large, small = (
        v.float().cpu().numpy().reshape(-1, len(batch), v.shape[1]).swapaxes(0, 1) for v in embedded
    )
    return batch, np.ascontiguousarray(large), np.ascontiguousarray(small)
