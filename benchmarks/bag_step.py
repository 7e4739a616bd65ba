"""Compare a bag-images step in chunks with the plain step on the whole bag: time and memory.

Run: python benchmarks/bag_step.py [--encoder NAME] [--size PIXELS] [--cells N] [--chunks N ...]

The defaults are a bag of 48 cells at 112 pixels and EfficientNet-Lite0. Each setting runs in a
process of its own, since a process's peak memory never falls. Seconds are of the machine at hand;
the ratios can be compared.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
import yaml
from torch.nn import functional as F

from lymphocytosis.end_to_end.model import build_picture_classifier
from lymphocytosis.mil.bags import Batch
from lymphocytosis.parameters import EncoderParameters, MilParameters

CONF = Path(__file__).parents[1] / "conf/base/parameters.yml"


def main() -> None:
    """Print a row for the plain step and one for each chunk size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", default="tf_efficientnet_lite0")
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--cells", type=int, default=48)
    parser.add_argument("--chunks", type=int, nargs="+", default=[8, 16, 32, 48])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)  # a chunk; 0: the plain step
    asked = parser.parse_args()
    if asked.one is not None:
        print(*measure(asked.encoder, asked.size, asked.cells, asked.one, asked.repeats))
        return
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, fp32, CPU")
    print(f"{'chunk':>8}{'s a bag':>10}{'to plain':>10}{'MiB above start':>18}{'to plain':>10}")
    plain: list[float] = []
    for chunk in (0, *asked.chunks):
        command = [sys.executable, __file__, *sys.argv[1:], "--one", str(chunk)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
        seconds, mebibytes = map(float, done.stdout.split())
        plain = plain or [seconds, mebibytes]
        print(
            f"{chunk or 'plain':>8}{seconds:10.2f}{seconds / plain[0]:10.2f}"
            f"{mebibytes:18.0f}{mebibytes / plain[1]:10.2f}",
            flush=True,
        )


def measure(encoder: str, size: int, cells: int, chunk: int, repeats: int) -> tuple[float, float]:
    """Take steps on one bag; return the median seconds, and the peak MiB above the first."""
    mil = MilParameters(**yaml.safe_load(CONF.read_text())["mil"])
    parameters = EncoderParameters(
        name=encoder, weights="random", small_dim=8, pool=("mean",), layers=(1,), zooms=(1.0,)
    )
    model = build_picture_classifier(parameters, mil, size, chunk or cells, seed=0).train()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    bag = Batch(
        instances=torch.randint(0, 256, (cells, size, size, 3), dtype=torch.uint8),
        size=[cells],
        clinical=torch.rand(1, 2),
        label=torch.ones(1),
    )

    def step() -> None:
        if chunk:
            logits = model(bag).logits
        else:
            logits = model.classifier(replace(bag, instances=model.embed(bag.instances))).logits
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(logits, bag.label).backward()
        optimizer.step()

    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step()  # warm up
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return statistics.median(seconds), (peak - start) / 1024


if __name__ == "__main__":
    main()
