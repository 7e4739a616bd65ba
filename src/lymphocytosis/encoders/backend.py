"""How the encoder is run when it only embeds: the fastest way that gives the same features."""

import copy
import logging
import time
import warnings
from collections.abc import Callable

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from lymphocytosis.encoders.checkpoint import Embedder
from lymphocytosis.encoders.pictures import to_unit
from lymphocytosis.errors import brief
from lymphocytosis.parameters import ComputeParameters

logger = logging.getLogger(__name__)

# Of the greatest feature: float32 sums in another order differ by some 1e-6.
TOLERANCE = 1e-5
_PROBED = 5  # batches timed of each way, on a GPU

Embed = Callable[[Tensor], tuple[Tensor, Tensor]]


class _FromPixels(nn.Module):
    """An embedder that takes pictures as they are stored, so that all of it is one graph."""

    def __init__(
        self, embedder: Embedder, layout: torch.memory_format = torch.channels_last
    ) -> None:
        super().__init__()
        self.embedder = embedder.to(memory_format=layout)
        self.layout = layout

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        return self.embedder.embed(to_unit(pixels).contiguous(memory_format=self.layout))


def fastest_embed(
    embedder: Embedder, example: Tensor, compute: ComputeParameters, fabric: Fabric
) -> Embed:
    """Choose how to run the embedder.

    On a CPU that is ONNX Runtime, with `compute.embed_backend: onnx`, unless it can't run this
    model or gives other features than torch; then a message says so and torch runs it. On a GPU a
    short probe times memory layouts, as they are and recorded as a CUDA graph: which is fastest
    differs by model, GPU and torch version.

    Args:
        embedder: in eval mode, on the CPU.
        example: (B, S, S, 3) uint8, a batch to try it on.
        compute: the block `compute` of the parameters.
        fabric: device and precision.

    Returns:
        From (b, S, S, 3) uint8 on the device to f_large (b, D) and f_small (b, d).
    """
    if fabric.device.type == "cuda":
        return _fastest_layout(embedder, example, fabric)
    plain = fabric.setup_module(_FromPixels(embedder))
    if compute.embed_backend == "torch" or compute.precision != "32-true":
        return plain
    try:
        fast = _onnx(embedder, example)
        far = max(_distance(*pair) for pair in zip(fast(example), plain(example), strict=True))
    except Exception as error:
        # An exporter may stumble over any model, and the packages may be missing: never a reason
        # to fail, since torch runs everything.
        logger.warning(
            "ONNX Runtime can't run this encoder (%s); torch runs it, more slowly. "
            "compute.embed_backend: torch makes this choice at once.",
            brief(error),
        )
        return plain
    if not far <= TOLERANCE:
        logger.warning(
            "ONNX Runtime gives other features than torch (%.1e of the greatest; at most %.0e is "
            "taken); torch runs the encoder.",
            far,
            TOLERANCE,
        )
        return plain
    return fast


def export_onnx(embedder: Embedder, example: Tensor) -> bytes:
    """Write the embedder as an ONNX model, from pictures as they are stored to both embeddings.

    Args:
        embedder: in eval mode, on the CPU.
        example: (B, S, S, 3) uint8.

    Returns:
        The model, for batches of any size.

    Raises:
        Exception: of many kinds, where the exporter can't.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Two pictures: the exporter takes a size of one for a constant.
        program = torch.onnx.export(
            _FromPixels(embedder).eval(),
            (torch.cat([example, example])[:2],),
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("the exporter gave no model")
    content: bytes = program.model_proto.SerializeToString()
    return content


def _onnx(embedder: Embedder, example: Tensor) -> Embed:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(
        export_onnx(embedder, example), options, providers=["CPUExecutionProvider"]
    )
    (asked,) = session.get_inputs()

    def embed(pixels: Tensor) -> tuple[Tensor, Tensor]:
        large, small = session.run(None, {asked.name: pixels.numpy()})
        return torch.from_numpy(large), torch.from_numpy(small)

    return embed


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
    """Record a batch's kernels as a CUDA graph: the CPU launches one thing, not hundreds.

    The kernels, and so the features, are the model's own. Compiling would take longer than
    embedding most cohorts.
    """
    static = pixels.clone()
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):  # libraries set themselves up, which can't be recorded
        for _ in range(2):
            model(static)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        features = model(static)

    def replay(batch: Tensor) -> tuple[Tensor, Tensor]:
        if batch.shape != static.shape:  # the last batch may be smaller
            return model(batch)
        static.copy_(batch)
        graph.replay()
        large, small = (feature.clone() for feature in features)
        return large, small

    return replay


def _seconds(way: Embed, pixels: Tensor) -> float:
    """The time of a batch, after one that fills caches."""
    for batches in (2, _PROBED):
        start = time.perf_counter()
        for _ in range(batches):
            large, _ = way(pixels)
        large.sum().item()  # waits for the device
    return (time.perf_counter() - start) / _PROBED
