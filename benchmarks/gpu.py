"""`make gpu`: all that a GPU can tell about this project, in one call of at most eight minutes.

    python -m benchmarks.gpu [--out FILE] [--only PART ...]

Each part prints its rows for benchmarks/README.md as soon as it ends, and adds them to a file of
JSON lines, so that a call that is cut off still tells what it found. Pictures and embeddings are
random numbers: what is measured does not depend on what they show.
"""

import argparse
import dataclasses
import gc
import json
import os
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import yaml

from benchmarks import classifiers
from benchmarks.embedding import VIEWS, embed_rows
from benchmarks.encoders import plain_encoder
from benchmarks.pretraining import product_rate
from benchmarks.side_by_side import Row, divide, time_in_turn
from lymphocytosis.compute import start_fabric
from lymphocytosis.encoders.autoencoder import build_autoencoder
from lymphocytosis.encoders.embed import embed_pictures
from lymphocytosis.imaging.views import view_of
from lymphocytosis.mil.splits import draw_splits
from lymphocytosis.mil.suite import train_suite
from lymphocytosis.parameters import ComputeParameters, PretextParameters
from lymphocytosis.pretext.task import build_task
from lymphocytosis.pretext.training import pretrain
from lymphocytosis.progress import Progress

PROJECT = Path(__file__).parents[1]
_HEAD = 4  # lines before the first row
COHORT, EPOCHS, WANTED_MINUTES = 16_711, 90, 15  # the challenge's pictures, the paper's epochs


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What is measured; the rehearsal on a CPU takes tiny ones.

    Attributes:
        large: the paper's encoder.
        small: one for machines without a GPU.
        contrasted: the encoder that SimCLR trains.
        large_side: pixels, as the next.
        small_side: of the pictures.
        small_dim: width of the small embedding, and so of the decoder's first block.
        large_pictures: read in an epoch of the large encoder; the store has no more.
        small_pictures: likewise, of the small one.
        embed_batch: pictures in a batch of `embed`.
        batches: of pretraining; the paper's, then larger ones until memory is full.
        suite: patients, the widths of their embeddings, splits.
        turns: how often each way is timed.
    """

    large: str = "tf_efficientnet_b7"
    small: str = "tf_efficientnet_lite0"
    contrasted: str = "tf_efficientnet_lite2"
    large_side: int = 224
    small_side: int = 112
    small_dim: int = 1024
    large_pictures: int = 512
    small_pictures: int = 2048
    embed_batch: int = 64
    batches: tuple[int, ...] = (16, 64, 256)
    suite: tuple[int, tuple[int, ...], int] = (163, (2560, 1024), 5)
    turns: int = 3


def main(arguments: list[str] | None = None, sizes: Sizes | None = None) -> None:
    """Run every part, one after the other; a part that fails says so, and the next goes on."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("gpu.jsonl"), help="a file of JSON lines")
    parser.add_argument("--only", nargs="*", choices=PARTS, help="some parts, in one process")
    asked = parser.parse_args(arguments)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(f"{device}; torch {torch.__version__}; {os.cpu_count()} CPU cores")
    print("\n| path | measured against | ratio: median (middle half) | goal | note |")
    print("|---|---|---|---|---|", flush=True)
    for name in asked.only or PARTS:
        start = time.perf_counter()
        if not asked.only:
            # A process each: after one that broke the GPU's context, none could work.
            command = [sys.executable, "-m", "benchmarks.gpu", "--out", asked.out, "--only", name]
            printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout  # noqa: S603
            print("".join(printed.splitlines(keepends=True)[_HEAD:]), end="", flush=True)
            continue
        try:
            for row in PARTS[name](sizes or Sizes()):
                print(row.line(), flush=True)
                line = {"device": device, "torch": torch.__version__, "part": name}
                with asked.out.open("a") as file:
                    file.write(json.dumps(line | dataclasses.asdict(row)) + "\n")
        except Exception:
            traceback.print_exc()
            print(f"| {name} | did not end: see above | | | |", flush=True)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        print(f"<!-- {name}: {time.perf_counter() - start:.0f} s -->", flush=True)


def tests(sizes: Sizes) -> Iterator[Row]:
    """Run the tests that need a GPU."""
    files = [
        f for f in (PROJECT / "tests").rglob("test_*.py") if "pytest.mark.gpu" in f.read_text()
    ]
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "--color=no", *map(str, files)]
    done = subprocess.run(  # noqa: S603
        command, cwd=PROJECT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        print(done.stdout[-6000:], done.stderr[-2000:])
    last = done.stdout.strip().splitlines()[-1:]
    yield Row("the tests that need a GPU", "exit code", "0", [done.returncode], " ".join(last))


def embedding(sizes: Sizes) -> Iterator[Row]:
    """Embed end to end, with both encoders, at each precision."""
    for name, side, pictures in (
        (sizes.large, sizes.large_side, sizes.large_pictures),
        (sizes.small, sizes.small_side, sizes.small_pictures),
    ):
        encoder = plain_encoder(name, sizes.small_dim)
        for title, precision, tf32 in (
            ("fp32", "32-true", False),
            ("tf32", "32-true", True),
            ("bf16", "bf16-mixed", True),
        ):
            with tensor_cores(tf32):
                for row in embed_rows(
                    encoder, side, pictures, sizes.embed_batch, precision, sizes.turns, "torch"
                ):
                    yield dataclasses.replace(row, path=f"{title}: {row.path}")


def pretraining(sizes: Sizes) -> Iterator[Row]:
    """Take an epoch end to end beside as many bare steps, and say what the paper's would take."""
    small = (sizes.small, sizes.small_side, sizes.small_pictures)
    large = (sizes.large, sizes.large_side, sizes.large_pictures)
    for (name, side, pictures), precision, batch in (
        (small, "32-true", sizes.batches[0]),
        *((large, "bf16-mixed", batch) for batch in sizes.batches),
        (large, "32-true", sizes.batches[0]),
    ):
        yield from epoch_rows(name, side, pictures, precision, batch, sizes)


def epoch_rows(
    name: str, side: int, pictures: int, precision: Any, batch: int, sizes: Sizes
) -> Iterator[Row]:
    """Time an epoch of one encoder at one batch size and precision."""
    pretext = pretext_of(batch_size=batch)
    compute = compute_of(precision)
    fabric = start_fabric(compute)
    images = random_pictures(pictures, side)
    encoder = plain_encoder(name, sizes.small_dim)
    rows = np.arange(pictures)
    task = build_task(encoder, pretext, images, rows, 0)
    bare = build_autoencoder(encoder, side, 0)
    optimizer = torch.optim.Adam(bare.parameters(), lr=pretext.learning_rate, fused=True)
    model, optimizer = fabric.setup(bare, optimizer)
    resident = fabric.to_device(torch.from_numpy(images[:batch]).permute(0, 3, 1, 2) / 255)
    what = f"{name}, {side} pixels, batch {batch}, {precision}"

    def steps() -> None:
        for _ in range(pictures // batch):
            loss = torch.nn.functional.mse_loss(model(resident), resident)
            optimizer.zero_grad()
            fabric.backward(loss)
            optimizer.step()
        loss.item()

    def epoch() -> None:
        pretrain(task, images, rows, rows[:1], pretext, compute, 0, Progress(None))

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    try:
        seconds = time_in_turn({"bare": steps, "end to end": epoch}, sizes.turns)
    except torch.cuda.OutOfMemoryError:
        yield Row(f"pretraining: {what}", "memory", "", [float("nan")], "does not fit")
        return
    peak = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0
    yield Row(
        "pretraining, end to end: read, flip, turn, step, epoch's end",
        "the bare step on a resident batch",
        "at least 0.95",
        divide(seconds["bare"], seconds["end to end"]),
        f"{what}; an epoch of {pictures:,} pictures; at most {peak:.1f} GiB",
    )
    minutes = [s * COHORT / pictures * EPOCHS / 60 for s in seconds["end to end"]]
    yield Row(
        f"pretraining: {EPOCHS} epochs of {COHORT:,} pictures",
        f"{WANTED_MINUTES} minutes",
        "at most 1" if name == sizes.large else "",
        [m / WANTED_MINUTES for m in minutes],
        f"{what}; an epoch takes {60 * statistics.median(minutes) / EPOCHS:.1f} s, all of them "
        f"{statistics.median(minutes):.1f} minutes, from epochs of {pictures:,} pictures",
    )


def steps(sizes: Sizes) -> Iterator[Row]:
    """Compare ways to take the paper's step with the plain one: is one of them worth having?"""
    batch, side = sizes.batches[0], sizes.large_side
    encoder = plain_encoder(sizes.large, sizes.small_dim)
    compute = compute_of("bf16-mixed")
    fabric = start_fabric(compute)
    images = fabric.to_device(torch.rand(batch, 3, side, side))
    sides: dict[str, Callable[[], object]] = {}
    for title, layout in (
        ("channels first", torch.contiguous_format),
        ("channels last", torch.channels_last),
    ):
        bare = build_autoencoder(encoder, side, 0).to(memory_format=layout)
        optimizer = torch.optim.Adam(bare.parameters(), lr=0.002, fused=True)
        model, optimizer = fabric.setup(bare, optimizer)
        shown = images.contiguous(memory_format=layout)
        sides[title] = step_of(model, optimizer, fabric, shown)
        if fabric.device.type == "cuda":
            sides[f"{title}, recorded as a CUDA graph"] = recorded_step(bare, shown)
    seconds = time_in_turn(
        {title: lambda step=step: [step() for _ in range(8)] for title, step in sides.items()},
        sizes.turns,
    )
    for title, of_title in seconds.items():
        yield Row(
            f"pretraining step, {title}",
            "channels first",
            "",
            divide(seconds["channels first"], of_title),
            f"{sizes.large}, {side} pixels, batch {batch}, bf16-mixed; "
            f"{1000 * statistics.median(of_title) / 8:.1f} ms a step",
        )


def step_of(model: Any, optimizer: Any, fabric: Any, images: torch.Tensor) -> Callable[[], object]:
    """Return a training step of the autoencoder on a resident batch."""

    def step() -> None:
        loss = torch.nn.functional.mse_loss(model(images), images)
        optimizer.zero_grad()
        fabric.backward(loss)
        optimizer.step()

    return step


def recorded_step(model: torch.nn.Module, images: torch.Tensor) -> Callable[[], object]:
    """Record a whole step of a model of its own: forward, backward and update."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.002, fused=True, capturable=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
            shown = model(images)
        torch.nn.functional.mse_loss(shown.float(), images).backward()
        optimizer.step()

    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()

    def replay(kept: torch.optim.Optimizer = optimizer) -> None:
        # The graph holds addresses of the optimiser's memory, which lives as long as it does.
        graph.replay()

    return replay


def contrasting(sizes: Sizes) -> Iterator[Row]:
    """Say what an epoch of SimCLR takes."""
    pretext = pretext_of(name="simclr", batch_size=min(256, sizes.small_pictures))
    encoder = plain_encoder(sizes.contrasted, sizes.small_dim)
    images = random_pictures(sizes.small_pictures, sizes.small_side)
    rows = np.arange(sizes.small_pictures)
    for precision in ("32-true", "bf16-mixed"):
        compute = compute_of(precision)
        task = build_task(encoder, pretext, images, rows, 0)

        def epoch(task: Any = task, compute: ComputeParameters = compute) -> None:
            pretrain(task, images, rows, rows[:1], pretext, compute, 0, Progress(None))

        seconds = time_in_turn({"epoch": epoch}, sizes.turns)["epoch"]
        yield Row(
            f"SimCLR: an epoch of {COHORT:,} pictures",
            "seconds",
            "",
            [s * COHORT / sizes.small_pictures for s in seconds],
            f"{sizes.contrasted}, {sizes.small_side} pixels, batch {pretext.batch_size}, "
            f"{precision}, from epochs of {sizes.small_pictures:,} pictures",
        )


def suite(sizes: Sizes) -> Iterator[Row]:
    """Train the classifier suite beside a plain loop and its products."""
    yield from classifiers.suite_rows(*sizes.suite, sizes.turns, peers=False)


def repeats(sizes: Sizes) -> Iterator[Row]:
    """Do each kind of work twice from one seed, and compare every bit."""
    encoder = plain_encoder(sizes.small, sizes.small_dim)
    images = random_pictures(min(sizes.small_pictures, 512), sizes.small_side)
    rows = np.arange(len(images))
    pretext = pretext_of(batch_size=16)
    patient_count, widths, split_count = sizes.suite
    bags, patients = classifiers.random_bags(patient_count, widths[-1])
    mil = classifiers.parameters(3)
    splits = draw_splits(patients, classifiers.split_parameters(split_count), seed=0)

    def pretrained(compute: ComputeParameters) -> Iterator[torch.Tensor]:
        task = build_task(encoder, pretext, images, rows, 0)
        made = pretrain(task, images, rows, rows[:1], pretext, compute, 0, Progress(None))
        yield from made.state.values()

    def embedded(compute: ComputeParameters) -> Iterator[torch.Tensor]:
        model = build_autoencoder(encoder, sizes.small_side, 0).eval()
        for _, *found in embed_pictures(model, images, rows, VIEWS, view_of, compute):
            yield from map(torch.from_numpy, found)

    def trained(compute: ComputeParameters) -> Iterator[torch.Tensor]:
        fabric = start_fabric(compute)
        made, _ = train_suite(bags, patients, splits, mil, 0, fabric, Progress(None))
        for state in made["state_dicts"].values():
            yield from state.values()

    for precision in ("32-true", "bf16-mixed"):
        for name, work in (
            ("pretraining, an epoch", pretrained),
            ("embedding", embedded),
            ("classifier suite", trained),
        ):
            first, second = (list(work(compute_of(precision))) for _ in range(2))
            same = sum(torch.equal(a, b) for a, b in zip(first, second, strict=True))
            apart = max(
                float((a.double() - b.double()).abs().max())
                for a, b in zip(first, second, strict=True)
            )
            yield Row(
                f"same seed twice: {name}, {precision}",
                "tensors that agree to the bit, of all",
                "1",
                [same / len(first)],
                f"{same} of {len(first)} tensors; the greatest difference is {apart:.1e}",
            )


@contextmanager
def tensor_cores(allowed: bool) -> Iterator[None]:
    """Let fp32 products and convolutions round to TF32, or not."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def rates(sizes: Sizes) -> Iterator[Row]:
    """Measure what the device can do at most: the yardstick of the rest."""
    fabric = start_fabric(compute_of("32-true"))
    for title, allowed in (("fp32", False), ("tf32", True)):
        with tensor_cores(allowed):
            rate = product_rate(fabric, 8192 if fabric.device.type == "cuda" else 256) / 1e12
        yield Row(f"a large matrix product, {title}", "TFLOP/s", "", [rate])


def random_pictures(count: int, side: int) -> npt.NDArray[np.uint8]:
    """Draw pictures: (count, side, side, 3)."""
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def pretext_of(**changes: Any) -> PretextParameters:
    """Return the paper's pretraining for one epoch, but for some changes."""
    settings = yaml.safe_load((PROJECT / "conf/base/parameters.yml").read_text())["pretext"]
    return PretextParameters(**settings | {"epochs": 1} | changes)


def compute_of(precision: Any) -> ComputeParameters:
    """Return `compute` for the GPU if there is one."""
    return ComputeParameters(
        accelerator="auto", precision=precision, embed_batch_size=64, embed_backend="torch"
    )


PARTS: dict[str, Callable[[Sizes], Iterator[Row]]] = {
    "tests": tests,
    "rates": rates,
    "embedding": embedding,
    "steps": steps,
    "pretraining": pretraining,
    "suite": suite,
    "repeats": repeats,
    "contrasting": contrasting,
}

if __name__ == "__main__":
    main()
