"""Two machines share a run: two network namespaces, joined by a cable.

Run: python tests/two_machines.py [FOLDER]

They pretrain, embed and train classifiers. Each "machine" is `kedro run` in a namespace of its own,
which sees only its end of a veth pair. Then one machine does all but the pretraining alone: the
files of embeddings and classifiers must be equal. It needs root, and `ip netns`.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

PROJECT = Path(__file__).parents[1]
ENTRIES = {"embeddings": "embeddings.parquet", "large_classifiers": "large_classifiers.pt"}
MACHINES = {"lympho-a": "10.77.18.1", "lympho-b": "10.77.18.2"}
TINY = {
    "simulation": {
        "train_reactive": 4, "train_tumoral": 8, "test": 1, "min_cells": 30, "max_cells": 40,
        "picture_size": 64,
    },
    # 13 patients' cells in three views make two shards, one a machine.
    "image": {"source_size": 64, "crop": 48, "size": 40},
    "encoder": {"small_dim": 8},
    "pretext": {"epochs": 1, "batch_size": 64},
    "mil": {"epochs": 2},
}  # fmt: skip


class NotPermittedError(Exception):
    """This machine lets nobody make namespaces."""


def main() -> None:
    """Print what the machines said."""
    with tempfile.TemporaryDirectory() as folder:
        told = meet(Path(sys.argv[1] if len(sys.argv) > 1 else folder))
    for machine, lines in told.items():
        print(f"--- {machine} ---\n{lines}")
    print("One machine gives the same files of embeddings and classifiers.")


def meet(folder: Path) -> dict[str, str]:
    """Let two machines work together, then compare with one.

    Args:
        folder: for the cohort and the workspace.

    Returns:
        What each machine wrote, by its name.
    """
    run(folder, ["simulate"])
    run(folder, ["ingest"], ["cells"])
    with cable():
        machines = {name: start(name, folder) for name in MACHINES}
        told = {name: machine.communicate(timeout=300)[0] for name, machine in machines.items()}
    failed = {name: machine.returncode for name, machine in machines.items() if machine.returncode}
    assert not failed, "\n".join(told.values())
    run(folder, ["embed", "classify"], list(ENTRIES))
    for name in ENTRIES.values():
        # The second machine saved nothing: there are one version of both, and one of one machine.
        together, alone = sorted(folder.glob(f"out/*/{name}/*/{name}"))
        assert digest(together) == digest(alone), f"one machine gives another {name}"
    return told


def run(folder: Path, names: list[str], outputs: list[str] | None = None) -> None:
    """Run pipelines in this process."""
    bootstrap_project(PROJECT)
    places = {"cohort_dir": str(folder / "cohort"), "workspace": str(folder / "out")}
    with KedroSession.create(PROJECT, env="demo", runtime_params=places | TINY) as session:
        session.run(pipeline_names=names, to_outputs=outputs)


def start(machine: str, folder: Path) -> subprocess.Popen[str]:
    """Start `kedro run` on a machine."""
    first = next(iter(MACHINES.values()))
    values = {
        "cohort_dir": folder / "cohort", "workspace": folder / "out", "encoder.small_dim": 8,
        "image.source_size": 64, "image.crop": 48, "image.size": 40, "pretext.epochs": 1,
        "pretext.batch_size": 64, "mil.epochs": 2, "compute.nodes": 2,
        "compute.rendezvous": f"{first}:29400", "compute.rendezvous_timeout": 120,
    }  # fmt: skip
    return subprocess.Popen(
        [
            "ip", "netns", "exec", machine, "env", "GLOO_SOCKET_IFNAME=cable",
            shutil.which("kedro") or str(Path(sys.executable).with_name("kedro")), "run",
            "--env=demo", "--pipelines=ssl_pretrain,embed,classify",
            f"--to-outputs={','.join(ENTRIES)}",
            "--params=" + ",".join(f"{name}={value}" for name, value in values.items()),
        ],
        cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


@contextmanager
def cable():
    """Two namespaces with a veth pair between them."""
    first, second = MACHINES
    try:
        for machine in MACHINES:
            ip("netns", "add", machine)
        ip("-n", first, "link", "add", "cable", "type", "veth", "peer", "cable", "netns", second)
        for machine, address in MACHINES.items():
            ip("-n", machine, "addr", "add", f"{address}/24", "dev", "cable")
            ip("-n", machine, "link", "set", "cable", "up")
            ip("-n", machine, "link", "set", "lo", "up")
        yield
    finally:
        for machine in MACHINES:
            subprocess.run(["ip", "netns", "del", machine], capture_output=True)


def ip(*arguments: str) -> None:
    """Call `ip`."""
    try:
        done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    except FileNotFoundError:
        raise NotPermittedError("there is no `ip` here (Debian's iproute2)") from None
    if done.returncode:
        raise NotPermittedError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def digest(path: Path) -> str:
    """The checksum of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    main()
