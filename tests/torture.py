"""Kill runs of the demo at random moments, go on, and compare every file with an undisturbed run.

Kills are `kill -9` of the run's whole process group. Each run is a process of its own that executes
`kedro run`; it is forked from this one, which has imported the libraries and computed nothing. So
kills fall on the work and not on seconds of imports, which write nothing.

    python tests/torture.py --kills=100 --seed=0

ends with 0 only if every kill was survived: every file that ever appeared under its final name, in
finished runs and in killed ones, has the undisturbed run's bytes; nothing is left over; and no
finished epoch, shard, model or fold was done again.
"""

import os

# Each run is small: a second thread would wait for the first. Read when torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import hashlib
import pkgutil
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from importlib import import_module
from pathlib import Path

import matplotlib.backends.backend_agg  # noqa: F401
import pandas as pd
from kedro.framework.cli.cli import main as kedro
from kedro.framework.project import LOGGING

import lymphocytosis
from lymphocytosis import schemas

PROJECT = Path(__file__).parents[1]
WHOLE = "--pipelines=simulate,ingest,ssl_pretrain,embed,classify,ensemble,evaluate"
# 120 test patients, whose pictures are embedded and not trained on, make a second shard.
SMALL = (
    "simulation.train_reactive=8,simulation.train_tumoral=12,simulation.test={test_patients},"
    "simulation.min_cells=2,simulation.max_cells=4,simulation.picture_size=64,"
    "image.source_size=64,image.crop=48,image.size=40,encoder.small_dim=8,pretext.images=train,"
    "pretext.epochs=4,mil.embedding_width=8,mil.epochs=6,splits.validation_share=0.25,"
    "evaluation.folds=2,evaluation.repeats=1,evaluation.resamples=100,compute.accelerator=cpu"
)
PLAIN_LOG = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"plain": {"class": "logging.StreamHandler"}},
    # Kedro tells of every node, load and save: moments to kill at.
    "loggers": {"kedro": {"level": "INFO"}, "lymphocytosis": {"level": "INFO"}},
    "root": {"handlers": ["plain"]},
}
VERSION = re.compile(r"\d{4}-\d\d-\d\dT[\d.]+Z")
ALL_SAVED = "Pipeline execution completed"
EPOCH = re.compile(r"pretraining: epoch (\d+) of")
WENT_ON = re.compile(r"goes on after epoch (\d+) of")


class Run:
    """A process that executes `kedro run` in a folder."""

    def __init__(self, folder: Path, parameters: str, what: list[str]) -> None:
        self.folder = folder
        self.log = folder.with_suffix(".log")
        self.log.write_text("")
        sys.stdout.flush()
        self.process = os.fork()
        if self.process == 0:
            self._work(parameters, what)

    def _work(self, parameters: str, what: list[str]) -> None:
        os.setsid()
        log = os.open(self.log, os.O_WRONLY | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(PROJECT)
        places = f"cohort_dir={self.folder / 'cohort'},workspace={self.folder / 'out'}"
        sys.argv = ["kedro", "run", "--env=demo", f"--params={places},{parameters}", *what]
        status = 1
        try:
            kedro()
        except SystemExit as ended:
            status = 0 if ended.code is None else int(ended.code)
        finally:
            os._exit(status)

    def lines(self) -> list[str]:
        return self.log.read_text(errors="replace").splitlines()

    def wait(self, lines: float, seconds: float, after: float) -> bool:
        """Wait for so many lines and `after` seconds more, or for `seconds`; was the end first?"""
        start, met = time.monotonic(), None
        while True:
            done, status = os.waitpid(self.process, os.WNOHANG)
            if done:
                if status:
                    raise SystemExit(f"A run failed:\n{self.log.read_text()}")
                return True
            now = time.monotonic()
            if met is None and len(self.lines()) >= lines:
                met = now
            if now - start >= seconds or (met is not None and now - met >= after):
                return False
            time.sleep(0.002)

    def kill(self) -> None:
        os.killpg(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)


def files(folder: Path) -> dict[Path, str]:
    """Every file under a final name, with its digest; names without the run's time."""
    found = {}
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden:
            found[path.relative_to(folder)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def differences(found: dict[Path, str], expected: dict[str, str]) -> list[str]:
    return [str(path) for path, digest in found.items() if expected.get(named(path)) != digest]


def named(path: Path) -> str:
    return "/".join(part for part in path.parts if not VERSION.fullmatch(part))


def finished_parts(folder: Path) -> dict[Path, tuple[int, int]]:
    """The shards, models and folds that are kept, with what changes if one is written again."""
    parts = [p for p in (folder / "out/.unfinished").rglob("*-*.*") if not p.name.startswith(".")]
    return {part: (part.stat().st_ino, part.stat().st_mtime_ns) for part in parts}


def import_all() -> None:
    """Import what a run imports on its way, so that a forked one need not."""
    for module in pkgutil.walk_packages(lymphocytosis.__path__, "lymphocytosis."):
        import_module(module.name)
    schemas.submission.validate(pd.DataFrame({"ID": ["P1"], "Predicted": [0]}))


def torture(kills: int, seed: int, folder: Path, parameters: str, what: list[str]) -> int:
    """Print what was found; return the number of faults."""
    draw = random.Random(seed)  # noqa: S311
    start = time.monotonic()
    undisturbed = Run(folder / "undisturbed", parameters, what)
    undisturbed.wait(float("inf"), float("inf"), 0)
    seconds, length = time.monotonic() - start, len(undisturbed.lines())
    expected = {named(path): digest for path, digest in files(undisturbed.folder).items()}
    print(f"undisturbed: {seconds:.1f} s, {len(expected)} files, {length} lines of log", flush=True)

    place = folder / "killed"
    hit: Counter[str] = Counter()
    rounds = compared = epochs_again = parts_again = taken_up = 0
    faults: list[str] = []
    before: dict[Path, tuple[int, int]] = {}
    epoch = 0  # the last that a run of this round said it had finished
    while sum(hit.values()) < kills or place.exists():
        last = sum(hit.values()) == kills
        run = Run(place, parameters, what)
        by_line = draw.random() < 0.7
        # Half of what follows a line of the log happens within a few milliseconds.
        ended = run.wait(
            float("inf") if last or not by_line else draw.randrange(1, length),
            float("inf") if last or by_line else draw.uniform(0, seconds),
            draw.choice([0.005, 0.05, 0.5]) * draw.random(),
        )
        if not ended:
            run.kill()
        lines = run.lines()
        parts = finished_parts(place)
        taken_up += bool(before)
        if not ended:
            again = [part for part, mark in before.items() if parts.get(part, mark) != mark]
            parts_again += len(again)
            faults += [f"done again: {part}" for part in again]
        for line in lines:
            if went_on := WENT_ON.search(line):
                again_now = max(0, epoch - int(went_on[1]))
                epochs_again += again_now
                if again_now > 1:
                    faults.append(f"epoch {epoch} was finished, and {line}")
            if of_epoch := EPOCH.search(line):
                epoch = int(of_epoch[1])
        found = files(place)
        compared += len(found)
        # In a cohort that is just being drawn pictures come one after the other.
        wrong = differences(found, expected)
        faults += [f"differs: {path}" for path in wrong]
        if ended:
            rounds += 1
            missing = expected.keys() - {named(path) for path in found}
            faults += [f"missing: {name}" for name in missing]
            left = [*place.rglob(".*.part"), *parts]
            faults += [f"left over: {path}" for path in left]
            shutil.rmtree(place)
            before, epoch = {}, 0
        else:
            nodes = [line.split("Running node: ")[1] for line in lines if "Running node: " in line]
            hit[nodes[-1].split("(")[0].split(":")[0] if nodes else "before the first node"] += 1
            # Once all is saved, what was kept goes; a kill there begins a round without it.
            before, epoch = ({}, 0) if any(ALL_SAVED in line for line in lines) else (parts, epoch)
            if sum(hit.values()) % 10 == 0:
                print(f"{sum(hit.values())} kills, {len(faults)} faults", flush=True)
    for node, count in hit.most_common():
        print(f"  {count:4} kills in {node}")
    for fault in faults[:20]:
        print(f"  {fault}")
    print(
        f"{kills} kills survived over {rounds} finished runs, in {time.monotonic() - start:.0f} s; "
        f"{taken_up} times finished work was there to take up\n"
        f"work repeated: {epochs_again} finished epochs, {parts_again} shards, models and folds\n"
        f"differences: {len(faults)} in {compared} comparisons of {len(expected)} files"
    )
    return len(faults)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", default=WHOLE, help="what to give to `kedro run`")
    parser.add_argument("--test-patients", type=int, default=120)
    parser.add_argument("--folder", type=Path, help="kept for a look; else a temporary one")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (asked.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        LOGGING.configure(PLAIN_LOG)
        parameters = SMALL.format(test_patients=asked.test_patients)
        import_all()
        faults = torture(asked.kills, asked.seed, folder, parameters, asked.run.split())
        raise SystemExit(faults > 0)


if __name__ == "__main__":
    main()
