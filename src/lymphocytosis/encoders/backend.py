"""Running the encoder for embedding: the fastest way that gives the same features."""

import copy
import logging
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from lymphocytosis.encoders.checkpoint import Embedder, fingerprint, unpack, without_training
from lymphocytosis.encoders.pictures import to_unit
from lymphocytosis.errors import brief
from lymphocytosis.parameters import ComputeParameters
from lymphocytosis.progress import software

logger = logging.getLogger(__name__)

# Relative to the largest feature: float32 sums in another order differ by about 1e-6.
TOLERANCE = 1e-5
# Pictures that ONNX Runtime takes at once for each thread: their feature maps stay in the cache,
# which makes it up to a fifth faster than dozens at once.
_EACH = 3
_COMPARED = 32  # pictures on which ONNX Runtime must agree with torch
_PROBED = 5  # batches timed per layout, on a GPU

Embed = Callable[[Tensor], tuple[Tensor, Tensor]]


class _FromPixels(nn.Module):
    """An embedder that takes stored uint8 pictures, so that everything is one graph."""

    def __init__(
        self, embedder: Embedder, layout: torch.memory_format = torch.channels_last
    ) -> None:
        super().__init__()
        self.embedder = embedder.to(memory_format=layout)
        self.layout = layout

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        return self.embedder.embed(to_unit(pixels).contiguous(memory_format=self.layout))


def fastest_embed(
    embedder: Embedder,
    example: Tensor,
    compute: ComputeParameters,
    fabric: Fabric,
    graph: bytes | None = None,
) -> Embed:
    """Choose how to run the embedder; a picture's features don't depend on the others, to the bit.

    With `compute.embed_backend: onnx`, a CPU uses ONNX Runtime. If that can't run the model, or
    gives other features than torch, a warning is logged and torch runs it. A GPU times memory
    layouts, with and without a CUDA graph: the fastest depends on model, GPU and torch version.

    Args:
        embedder: in eval mode, on the CPU.
        example: (B, S, S, 3) uint8, a full batch to try it on. Torch will always run B pictures.
        compute: the block `compute` of the parameters.
        fabric: device and precision.
        graph: what `export_onnx` returned for the embedder; by default it is exported.

    Returns:
        A function from (b, S, S, 3) uint8 on the device to f_large (b, D) and f_small (b, d).
    """
    if fabric.device.type == "cuda":
        return of_one_shape(_fastest_layout(embedder, example, fabric), len(example))
    model = fabric.setup_module(_FromPixels(embedder))
    plain = of_one_shape(model, len(example))
    if compute.embed_backend == "torch" or compute.precision != "32-true":
        return plain
    found = _by_onnx(model, example[:_COMPARED], lambda: graph or export_onnx(embedder, example))
    return found[0] if found else plain


@torch.inference_mode()
def portable_graph(
    checkpoint: dict[str, Any], earlier: dict[str, Any] | None, compute: ComputeParameters
) -> dict[str, Any]:
    """Export a packed encoder, so that embedding and other machines need not, and try the result.

    Args:
        checkpoint: what `checkpoint.pack` returned.
        earlier: what this returned before, for whatever encoder; None if nothing was kept.
        compute: the block `compute` of the parameters.

    Returns:
        `onnx`: what `export_onnx` returns, uint8 (n,); `of`: the encoder's fingerprint; `by`: the
        versions of what exported it. It is `earlier` if that has the same `of` and `by`. Empty
        where torch is to run the encoder on a CPU, or, with a warning, where ONNX Runtime can't.
    """
    if compute.embed_backend == "torch" or compute.precision != "32-true":
        return {}
    made = {"of": fingerprint(checkpoint), "by": software()}
    if earlier and {name: earlier.get(name) for name in made} == made:
        return earlier
    embedder, image = unpack(without_training(checkpoint))
    shape = (2, image.size, image.size, 3)
    example = torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    model = _FromPixels(embedder).eval()
    found = _by_onnx(model, example, lambda: export_onnx(embedder, example))
    if found is None:
        return {}
    return {**made, "onnx": torch.tensor(np.frombuffer(found[1], dtype=np.uint8))}


def of_one_shape(embed: Embed, size: int) -> Embed:
    """Run an encoder on batches of one size only, the last one filled up.

    The order of a matrix product's sums depends on its shape: a picture embedded in a batch of
    another size may get other last bits.

    Args:
        embed: as `fastest_embed` returns it.
        size: B, pictures in a batch.

    Returns:
        The same function, for any number of pictures.
    """

    def embed_all(pixels: Tensor) -> tuple[Tensor, Tensor]:
        parts = []
        for part in pixels.split(size):
            missing = size - len(part)
            full = torch.cat([part, part[:1].expand(missing, -1, -1, -1)]) if missing else part
            parts.append([features[: len(part)] for features in embed(full)])
        large, small = (
            torch.cat(features) if len(features) > 1 else features[0]
            for features in zip(*parts, strict=True)
        )
        return large, small

    return embed_all


def export_onnx(embedder: Embedder, example: Tensor) -> bytes:
    """Export the embedder as an ONNX model, from stored pictures to both embeddings.

    Args:
        embedder: in eval mode, on the CPU.
        example: (B, S, S, 3) uint8.

    Returns:
        The model, for batches of any size, without the exporter's notes.

    Raises:
        Exception: of many kinds, if the export fails.
    """
    logger.info("exporting the encoder to ONNX, to embed faster")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Two pictures: the exporter treats a size of one as a constant.
        program = torch.onnx.export(
            _FromPixels(embedder).eval(),
            (torch.cat([example, example])[:2],),
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("the exporter gave no model")
    model = program.model_proto
    _remove_notes(model)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _remove_notes(message: Any) -> None:
    """Remove the exporter's notes from a message of ONNX; they hold paths of this machine."""
    for field, value in message.ListFields():
        if field.name in ("metadata_props", "doc_string"):
            message.ClearField(field.name)
        elif field.message_type is not None:
            for inner in [value] if hasattr(value, "ListFields") else value:
                _remove_notes(inner)


def _by_onnx(model: Embed, few: Tensor, export: Callable[[], bytes]) -> tuple[Embed, bytes] | None:
    """Run an exported model and keep the graph, if it gives the same features as torch."""
    try:
        graph = export()
        fast = _onnx(graph)
        far = max(_distance(*pair) for pair in zip(fast(few), model(few), strict=True))
    except Exception as error:
        # The exporter may fail for any model, and packages may be missing; torch always works.
        logger.warning(
            "ONNX Runtime can't run this encoder (%s); torch runs it, more slowly. "
            "Set compute.embed_backend to torch to skip this attempt.",
            brief(error),
        )
        return None
    if not far <= TOLERANCE:
        logger.warning(
            "ONNX Runtime gives other features than torch (by %.1e of the largest; the limit is "
            "%.0e); torch runs the encoder.",
            far,
            TOLERANCE,
        )
        return None
    return fast, graph


def _onnx(graph: bytes) -> Embed:
    import onnxruntime

    threads = torch.get_num_threads()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    (asked,) = session.get_inputs()

    def embed(pixels: Tensor) -> tuple[Tensor, Tensor]:
        large, small = session.run(None, {asked.name: pixels.numpy()})
        return torch.from_numpy(large), torch.from_numpy(small)

    return of_one_shape(embed, _EACH * threads)


def _distance(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


def _fastest_layout(embedder: Embedder, example: Tensor, fabric: Fabric) -> Embed:
    pixels = fabric.to_device(example)
    timed: list[tuple[float, Embed]] = []
    for name, layout in (
        ("channels first", torch.contiguous_format),
        ("channels last", torch.channels_last),
    ):
        model = fabric.setup_module(_FromPixels(copy.deepcopy(embedder), layout))
        for title, way in ((name, model), (f"{name}, recorded", _recorded(model, pixels))):
            timed.append((_seconds(way, pixels), way))
            logger.info("embedding: %s takes %.1f ms a batch", title, 1000 * timed[-1][0])
    return min(timed, key=lambda way: way[0])[1]


def _recorded(model: Embed, pixels: Tensor) -> Embed:
    """Record a batch's kernels as a CUDA graph: the CPU then launches one graph, not hundreds.

    The kernels, and so the features, stay the same. Compiling would take longer than embedding most
    cohorts.
    """
    static = pixels.clone()
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):  # warm-up, which can't be recorded
        for _ in range(2):
            model(static)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        features = model(static)

    def replay(batch: Tensor) -> tuple[Tensor, Tensor]:
        static.copy_(batch)
        graph.replay()
        large, small = (feature.clone() for feature in features)
        return large, small

    return replay


def _seconds(way: Embed, pixels: Tensor) -> float:
    """Seconds per batch, after a warm-up."""
    for batches in (2, _PROBED):
        start = time.perf_counter()
        for _ in range(batches):
            large, _ = way(pixels)
        large.sum().item()  # waits for the device
    return (time.perf_counter() - start) / _PROBED
