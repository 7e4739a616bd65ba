"""How far the demo's results move on another CPU, or with another number of threads.

    python benchmarks/another_machine.py

runs the demo as it is, on one thread, and without the vector instructions of newer CPUs, and prints
what differs. A GPU is compared where torch sees one.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch

PROJECT = Path(__file__).parents[1]
MACHINES = {
    "the same again": {},
    "one thread": {"OMP_NUM_THREADS": "1"},
    "no AVX": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
}


def main() -> None:
    """Print a line a machine."""
    with tempfile.TemporaryDirectory() as folder:
        first = demo(Path(folder) / "first", "cpu", {})
        print("| machine | pictures | weights | embeddings | probabilities | decisions |")
        print("|---|---|---|---|---|---|")
        for number, (name, variables) in enumerate(MACHINES.items()):
            print(line(name, first, demo(Path(folder) / str(number), "cpu", variables)), flush=True)
        if torch.cuda.is_available():
            gpu = demo(Path(folder) / "gpu", "cuda", {})
            print(line(torch.cuda.get_device_name(), first, gpu))


def demo(folder: Path, accelerator: str, variables: dict[str, str]) -> dict[str, np.ndarray]:
    """Run the demo in a process with these environment variables; return what it made."""
    places = f"cohort_dir={folder}/cohort,workspace={folder}/out"
    what = f"--params={places},compute.accelerator={accelerator}"
    command = [Path(sys.executable).with_name("kedro"), "run", "--env=demo", what]
    subprocess.run(  # noqa: S603
        command, cwd=PROJECT, env=os.environ | variables, check=True, capture_output=True
    )

    def made(name: str) -> Path:
        return next((folder / "out").glob(f"0*/{name}/*/{name}"))

    state = torch.load(made("autoencoder.pt"), weights_only=True)["state_dict"].values()
    large = pq.read_table(made("embeddings.parquet"))["large"].combine_chunks()
    sizes = ("small", "large")
    probability = [pd.read_parquet(made(f"{s}_predictions.parquet"))["probability"] for s in sizes]
    decision = [pd.read_parquet(made(f"{s}_avg.parquet"))["decision"] for s in sizes]
    return {
        "pictures": np.load(made("cell_images") / "pixels-00000.npy").ravel(),
        "weights": torch.cat([v.flatten() for v in state if v.is_floating_point()]).numpy(),
        "embeddings": large.flatten().to_numpy(),
        "probabilities": np.concatenate(probability),
        "decisions": np.concatenate(decision),
    }


def line(name: str, first: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> str:
    """Return a row in Markdown."""
    cells = []
    for what, then in first.items():
        apart = np.abs(then.astype(float) - other[what])
        if what in ("pictures", "decisions"):
            cells.append(f"{np.count_nonzero(apart)} of {len(then)} differ")
        elif what == "probabilities":
            cells.append(f"{np.median(apart):.0e}, at most {apart.max():.0e}")
        else:
            cells.append(f"{np.linalg.norm(apart) / np.linalg.norm(then):.0e}")
    return f"| {name} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
