"""Show the autoencoder's shapes, block by block, and time its forward and its training step.

Run: python benchmarks/autoencoder_step.py [--encoder NAME] [--size PIXELS] [--batch N]

The defaults are the paper's: EfficientNet-B7 at 224, batch 16, Adam 0.002. Seconds are of the
machine at hand; the ratio of a step to an encoder forward is what can be compared.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import torch
from torch.nn import functional as F

from lymphocytosis.compute import start_fabric
from lymphocytosis.encoders.autoencoder import build_autoencoder
from lymphocytosis.parameters import ComputeParameters, EncoderParameters


def main() -> None:
    """Print shapes, then medians and spreads."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", default="tf_efficientnet_b7")
    parser.add_argument("--small-dim", type=int, default=1024)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()

    compute = ComputeParameters(
        accelerator="auto", precision="32-true", embed_batch_size=32, embed_backend="torch"
    )
    encoder = EncoderParameters(
        name=asked.encoder,
        weights="random",
        small_dim=asked.small_dim,
        pool=("mean",),
        layers=(1,),
        zooms=(1.0,),
    )
    fabric = start_fabric(compute)
    autoencoder = build_autoencoder(encoder, asked.size, seed=0)
    optimizer = torch.optim.Adam(autoencoder.parameters(), lr=0.002, fused=True)
    model, optimizer = fabric.setup(autoencoder, optimizer)
    images = fabric.to_device(torch.rand(asked.batch, 3, asked.size, asked.size))

    print_shapes(autoencoder, images)

    def forward() -> None:
        with torch.inference_mode():
            autoencoder.encoder(images)

    def step() -> None:
        loss = F.mse_loss(model(images), images)
        optimizer.zero_grad()
        fabric.backward(loss)
        optimizer.step()

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    print(f"\n{device}, {torch.get_num_threads()} threads, torch {torch.__version__}, fp32")
    seconds = {forward: [], step: []}
    for timed in (forward, step):
        seconds_of(timed)  # warm up
    for _ in range(asked.repeats):
        for timed in seconds:  # interleaved, so that a slow moment meets both
            seconds[timed].append(seconds_of(timed))
    for timed, values in seconds.items():
        spread = f"{min(values):.2f} to {max(values):.2f}"
        print(f"{timed.__name__:8} {statistics.median(values):6.2f} s  ({spread})")
    ratio = statistics.median(seconds[step]) / statistics.median(seconds[forward])
    print(f"a training step is {ratio:.1f} encoder forwards")


def print_shapes(autoencoder: torch.nn.Module, images: torch.Tensor) -> None:
    """Run once and print what leaves each block."""
    blocks = {"encoder": autoencoder.encoder, "1x1 convolution": autoencoder.narrow}
    blocks |= {f"decoder block {i}": b for i, b in enumerate(autoencoder.decoder.blocks, start=1)}
    blocks["decoder, resized"] = autoencoder.decoder
    print(f"{'pictures':18}{tuple(images.shape)}")
    hooks = [
        block.register_forward_hook(
            lambda module, inputs, out, name=name: print(f"{name:18}{tuple(out.shape)}")
        )
        for name, block in blocks.items()
    ]
    with torch.inference_mode():
        autoencoder.eval()(images)
    autoencoder.train()
    for hook in hooks:
        hook.remove()


def seconds_of(timed: Callable[[], None]) -> float:
    """Time one call, to the end of the device's work."""
    start = time.perf_counter()
    timed()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
