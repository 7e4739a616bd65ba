"""Ways to run an encoder on a CPU, each against eager torch: why `embed` takes ONNX Runtime.

OpenVINO is measured where it is installed: `uv pip install openvino==2026.4.1`. It is not among the
extras, since its package brings a telemetry client, which nobody's environment should get unasked.
"""

import copy
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from benchmarks.encoders import plain_encoder
from benchmarks.side_by_side import Row, divide, time_in_turn
from lymphocytosis.compute import start_fabric
from lymphocytosis.encoders.autoencoder import build_autoencoder
from lymphocytosis.encoders.backend import Embed, export_onnx, fastest_embed
from lymphocytosis.encoders.pictures import to_unit
from lymphocytosis.parameters import ComputeParameters

SMALL = "tf_efficientnet_lite0"
# Encoder, side of the pictures, pictures in a batch, turns: a small one, and the paper's.
SETTINGS = ((SMALL, 112, 96, 9), ("tf_efficientnet_b7", 224, 4, 3))
CPU = ComputeParameters(
    accelerator="cpu", precision="32-true", embed_batch_size=32, embed_backend="onnx"
)


def measure() -> list[Row]:
    """Run each encoder in each way, turn by turn."""
    return [row for setting in SETTINGS for row in _rows(*setting)]


@torch.inference_mode()
def _rows(name: str, side: int, pictures: int, turns: int) -> list[Row]:
    encoder = plain_encoder(name, 1024)
    embedder = build_autoencoder(encoder, side, 0).eval()
    shape = (pictures, side, side, 3)
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    ways: dict[str, Embed] = {
        "eager": lambda pixels: embedder.embed(to_unit(pixels).contiguous()),
        "channels last": _channels_last(embedder),
        f"ONNX Runtime {onnxruntime.__version__}, as `embed` takes it": fastest_embed(
            copy.deepcopy(embedder), pixels, CPU, start_fabric(CPU)
        ),
    }
    if name == SMALL:  # on two cores B7 had not compiled after six minutes
        ways["torch.compile, frozen"] = _compiled(embedder)
    if find_spec("openvino"):
        ways["OpenVINO"] = _by_openvino(embedder, pixels)
    expected = ways["eager"](pixels)[0]

    def forward(way: Embed) -> Callable[[], None]:
        return lambda: way(pixels)[0].sum().item()

    seconds = time_in_turn({title: forward(way) for title, way in ways.items()}, turns)
    eager = seconds.pop("eager")
    rows = []
    for title, taken in seconds.items():
        far = float((ways[title](pixels)[0] - expected).abs().max() / expected.abs().max())
        rows.append(
            Row(
                f"encoder: {title}",
                f"torch {torch.__version__}, eager fp32",
                "at least 1.3" if "ONNX" in title else "",
                divide(eager, taken),
                f"{name}, {side} pixels, batch {pictures}; features differ by {far:.0e} of the "
                "greatest",
            )
        )
    return rows


def _channels_last(embedder: torch.nn.Module) -> Embed:
    model = copy.deepcopy(embedder).to(memory_format=torch.channels_last)
    return lambda pixels: model.embed(to_unit(pixels).contiguous(memory_format=torch.channels_last))


def _compiled(embedder: torch.nn.Module) -> Embed:
    from torch._inductor import config

    config.freezing = True
    return torch.compile(_channels_last(embedder))


def _by_openvino(embedder: torch.nn.Module, pixels: Tensor) -> Embed:
    import openvino

    core = openvino.Core()
    # Some processors would compute in bfloat16, which is no fp32.
    exact = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    content = export_onnx(copy.deepcopy(embedder), pixels)
    compiled = core.compile_model(core.read_model(content), "CPU", exact)

    def embed(pixels: Tensor) -> tuple[Tensor, Tensor]:
        found = compiled(pixels.numpy())
        return torch.from_numpy(found[0]), torch.from_numpy(found[1])

    return embed
