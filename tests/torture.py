"""Kill runs of the demo at random moments, resume, and compare every file with an undisturbed run.

Kills are `kill -9` of the run's whole process group. Each run is a process of its own that executes
`kedro run`; it is forked from this one, which has imported the libraries and computed nothing. So
kills fall on the work and not on seconds of imports, which write nothing.

    python tests/torture.py --kills=100 --seed=0

exits with 0 only if every kill was survived: every file that ever appeared under its final name, in
finished runs and in killed ones, has the undisturbed run's bytes; nothing is left over; and each
run reused every epoch, shard, model and fold that had been saved when it began. What had been saved
is read from the disk before the run. What was reused is read from the run's log, and from whether
the saved files are unchanged after a kill.
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
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import matplotlib.backends.backend_agg  # noqa: F401
import pandas as pd
import torch
from kedro.framework.cli.cli import main as kedro
from kedro.framework.project import LOGGING

import lymphocytosis
from lymphocytosis import schemas

PROJECT = Path(__file__).parents[1]
WHOLE = (
    "--pipelines=simulate,ingest,ssl_pretrain,embed,classify,bag_images,ensemble,evaluate,bundle"
)
# 140 test patients, whose pictures are embedded and not trained on, make a second shard.
SMALL = (
    "simulation.train_reactive=8,simulation.train_tumoral=12,simulation.test={test_patients},"
    "simulation.min_cells=2,simulation.max_cells=4,simulation.picture_size=64,"
    "image.source_size=64,image.crop=48,image.size=40,encoder.small_dim=8,pretext.images=train,"
    "pretext.epochs=4,mil.embedding_width=8,mil.epochs=6,splits.validation_share=0.25,"
    "bag_images.epochs=2,"
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
UNFINISHED = "out/.unfinished"
MANIFESTS = "manifest.json"
ALL_SAVED = "Pipeline execution completed"
# A node that keeps work takes the workspace; the folder is named after what it makes first.
KEEPS = re.compile(r"Running node: .*;params:workspace\]\) -> \[(\w+)")
KEPT = {"autoencoder": "epochs", "embeddings": "shards", "classifier_predictions": "folds"}
MODELS = "models"  # in the folders large_classifiers, small_classifiers, pictures_classifiers
EPOCH = re.compile(r"pretraining: epoch (\d+) of")
REUSED = re.compile(
    r"goes on after (?:epoch|shard) (\d+) of"
    # A fold that pretrains says of its own trainings that so many of one were finished.
    r"|: (\d+) of (?!1 )\d+ folds were finished before"
    r"|was finished before"
)


Parts = dict[Path, tuple[int, int]]


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

    def shows(self, sign: str) -> bool:
        """Does a line of the log, or the path of a part that is kept, match?"""
        texts = [*self.lines(), *map(str, finished_parts(self.folder))]
        return any(re.search(sign, text) for text in texts)

    def wait(
        self,
        lines: float = float("inf"),
        seconds: float = float("inf"),
        sign: str | None = None,
        after: float = 0,
    ) -> bool:
        """Wait for so many lines or the sign and `after` seconds more, or for `seconds`.

        Returns:
            Whether the run ended before.
        """
        start, met = time.monotonic(), None
        while True:
            done, status = os.waitpid(self.process, os.WNOHANG)
            if done:
                if status:
                    raise SystemExit(f"A run failed:\n{self.log.read_text()}")
                return True
            now = time.monotonic()
            if met is None and (len(self.lines()) >= lines or (sign and self.shows(sign))):
                met = now
            if now - start >= seconds or (met is not None and now - met >= after):
                return False
            time.sleep(0.002)

    def kill(self) -> None:
        os.killpg(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)


def files(folder: Path) -> dict[Path, str]:
    """Every file under a final name, with its digest; names without the run's time.

    A page names the versions that it shows: they are cut out of it.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        # A manifest tells when its run was: none is like another.
        left_out = any(part.startswith(".") for part in parts) or MANIFESTS in parts
        if path.is_file() and not left_out:
            content = path.read_bytes()
            if path.suffix == ".html":
                content = re.sub(VERSION.pattern.encode(), b"", content)
            found[path.relative_to(folder)] = hashlib.sha256(content).hexdigest()
    return found


def differences(found: dict[Path, str], expected: dict[str, str]) -> list[str]:
    return [str(path) for path, digest in found.items() if expected.get(named(path)) != digest]


def named(path: Path) -> str:
    return "/".join(part for part in path.parts if not VERSION.fullmatch(part))


def finished_parts(folder: Path) -> Parts:
    """The shards, models and folds that are kept, with what changes if one is written again."""
    # Of a model's two files the one that is written last.
    names = (
        "embeddings/shard-*.parquet",
        "*_classifiers/split-*.pt",
        "classifier_predictions/*.parquet",
    )
    parts = [part for name in names for part in (folder / UNFINISHED).glob(name)]
    return {part: (part.stat().st_ino, part.stat().st_mtime_ns) for part in parts}


def kept_work(folder: Path) -> Counter[str]:
    """How many epochs, shards, models or folds are kept, by the folder they are in."""
    kept = Counter(part.parent.name for part in finished_parts(folder))
    checkpoint = folder / UNFINISHED / "autoencoder/epoch.pt"
    if checkpoint.exists():
        kept["autoencoder"] = len(torch.load(checkpoint, weights_only=True)["losses"])
    return kept


def said_by_keepers(lines: list[str]) -> dict[str, list[str]]:
    """What the log tells of the nodes that keep work, by the folder it is in."""
    said: dict[str, list[str]] = {}
    node: list[str] = []
    for line in lines:
        if "Running node: " in line:
            node = []
            if keeps := KEEPS.search(line):
                said[keeps[1]] = node
        node.append(line)
    return said


@dataclass
class Work:
    """What became of saved work, over all runs.

    Attributes:
        reused: epochs, shards, models and folds that runs found and used.
        again: those that were saved and yet repeated: faults.
        lost: epochs that had ended and were killed before they were saved.
        faults: in words.
    """

    reused: Counter[str] = field(default_factory=Counter)
    again: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    faults: list[str] = field(default_factory=list)

    def judge(self, lines: list[str], kept: Counter[str] | None) -> set[str]:
        """Compare a run's log with what was kept when it began, if that is known.

        Returns:
            The folders of which the log can tell.
        """
        told = set()
        for name, said in said_by_keepers(lines).items():
            kind = KEPT.get(name, MODELS)
            tells = any("Completed node: " in line for line in said)
            found = [
                int(up[1] or up[2] or 1)
                for up in map(REUSED.search, said)
                # A fold that pretrains says which of its own epochs and shards it resumes.
                if up and not (kind == "folds" and up[1])
            ]
            if kind == "epochs":
                epochs = epochs_of(said)
                tells = tells or bool(found or epochs)
                # Where it really began, whatever it says.
                found = [epochs[0] - 1] if epochs else found
            self.reused[kind] += sum(found)
            if tells:
                told.add(name)
            if tells and kept is not None and sum(found) != kept[name]:
                self.again[kind] += max(0, kept[name] - sum(found))
                self.faults.append(f"{name}: {kept[name]} {kind} saved, {sum(found)} reused")
        return told

    def judge_kept(self, place: Path, before: Parts, told: set[str]) -> None:
        """See whether, after a kill, all is still there that was kept before the run."""
        parts = finished_parts(place)
        for part, mark in before.items():
            if parts.get(part) != mark:
                name = part.parent.name
                # What the log names is counted.
                self.again[KEPT.get(name, MODELS)] += name not in told
                self.faults.append(f"removed or written again: {part}")

    def judge_epochs(self, lines: list[str], before: int, kept: int) -> None:
        """See whether, after a kill, at most the last epoch that had ended is not kept."""
        epochs = epochs_of(said_by_keepers(lines).get("autoencoder", []))
        ended = max([before, *epochs])
        self.lost += max(0, ended - kept)
        if ended - kept > bool(epochs):
            self.faults.append(f"epoch {ended} had ended, {kept} are kept")


def epochs_of(lines: list[str]) -> list[int]:
    return [int(epoch[1]) for epoch in map(EPOCH.search, lines) if epoch]


def in_words(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[kind]} {kind}" for kind in ("epochs", "shards", "models", "folds"))


def import_all() -> None:
    """Import what a run imports on its way, so that a forked one need not."""
    for module in pkgutil.walk_packages(lymphocytosis.__path__, "lymphocytosis."):
        import_module(module.name)
    schemas.submission.validate(pd.DataFrame({"ID": ["P1"], "Predicted": [0]}))


def torture(
    kills: int, signs: list[str], seed: int, folder: Path, parameters: str, what: list[str]
) -> int:
    """Print what was found; return the number of faults.

    Args:
        kills: how many, at random moments.
        signs: in place of moments, what each kill waits for; see `Run.shows`.
        seed: of the moments.
        folder: of all files.
        parameters: for `kedro run --params`.
        what: further options of `kedro run`.
    """
    draw = random.Random(seed)  # noqa: S311
    start = time.monotonic()
    undisturbed = Run(folder / "undisturbed", parameters, what)
    undisturbed.wait()
    seconds, length = time.monotonic() - start, len(undisturbed.lines())
    expected = {named(path): digest for path, digest in files(undisturbed.folder).items()}
    print(f"undisturbed: {seconds:.1f} s, {len(expected)} files, {length} lines of log", flush=True)

    place = folder / "killed"
    hit: Counter[str] = Counter()
    rounds = compared = 0
    work = Work()
    different: list[str] = []
    left_over: list[str] = []
    before: Parts = {}
    kept: Counter[str] | None = Counter()
    while sum(hit.values()) < kills or place.exists():
        run = Run(place, parameters, what)
        if sum(hit.values()) == kills or kept is None:
            ended = run.wait()
        elif signs:
            sign = signs[sum(hit.values())]
            ended = run.wait(sign=sign)
            if ended:
                raise SystemExit(f"A run ended without {sign}:\n{run.log.read_text()}")
        else:
            by_line = draw.random() < 0.7
            # Half of what follows a line of the log happens within a few milliseconds.
            ended = run.wait(
                lines=draw.randrange(1, length) if by_line else float("inf"),
                seconds=float("inf") if by_line else draw.uniform(0, seconds),
                after=draw.choice([0.005, 0.05, 0.5]) * draw.random(),
            )
        if not ended:
            run.kill()
        lines = run.lines()
        told = work.judge(lines, kept)
        found = files(place)
        compared += len(found)
        # In a cohort that is just being drawn pictures come one after the other.
        different += differences(found, expected)
        if ended:
            rounds += 1
            different += sorted(expected.keys() - {named(path) for path in found})
            unfinished = [path for path in (place / UNFINISHED).rglob("*") if path.is_file()]
            left_over += map(str, [*place.rglob(".*.part"), *unfinished])
            shutil.rmtree(place)
            before, kept = {}, Counter()
            continue
        nodes = [line.split("Running node: ")[1] for line in lines if "Running node: " in line]
        hit[nodes[-1].split("(")[0].split(":")[0] if nodes else "before the first node"] += 1
        if any(ALL_SAVED in line for line in lines):
            # What was kept is being removed: the next run finds some of it. It is left in peace.
            before, kept = {}, None
        else:
            work.judge_kept(place, before, told)
            now = kept_work(place)
            work.judge_epochs(lines, kept["autoencoder"] if kept else 0, now["autoencoder"])
            before, kept = finished_parts(place), now
        if sum(hit.values()) % 10 == 0:
            bad = len(work.faults) + len(different) + len(left_over)
            print(f"{sum(hit.values())} kills, {bad} faults", flush=True)
    for node, count in hit.most_common():
        print(f"  {count:4} kills in {node}")
    faults = [
        *work.faults,
        *(f"differs or is missing: {name}" for name in different),
        *(f"left over: {path}" for path in left_over),
    ]
    for fault in faults[:20]:
        print(f"  {fault}")
    print(
        f"{kills} kills survived over {rounds} finished runs, in {time.monotonic() - start:.0f} s\n"
        f"saved and reused by a later run: {in_words(work.reused)}\n"
        f"saved and yet repeated: {in_words(work.again)}\n"
        f"finished, killed before they were saved, and repeated: {work.lost} finished epochs\n"
        f"differences: {len(different)} in {compared} comparisons of a file's bytes with those of "
        f"the undisturbed run, which has {len(expected)} files\n"
        f"left over: {len(left_over)} files; faults in all: {len(faults)}"
    )
    return len(faults)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument(
        "--at",
        action="append",
        default=[],
        help="in place of --kills and --seed, for each kill: a pattern of the line of the log, or "
        "of the path of a kept part, that it waits for",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", default=WHOLE, help="what to give to `kedro run`")
    parser.add_argument("--test-patients", type=int, default=140)
    parser.add_argument("--params", help="further ones of `kedro run`")
    parser.add_argument("--folder", type=Path, help="kept for a look; else a temporary one")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (asked.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        LOGGING.configure(PLAIN_LOG)
        parameters = SMALL.format(test_patients=asked.test_patients)
        if asked.params:
            parameters += f",{asked.params}"
        import_all()
        kills = len(asked.at) or asked.kills
        faults = torture(kills, asked.at, asked.seed, folder, parameters, asked.run.split())
        raise SystemExit(faults > 0)


if __name__ == "__main__":
    main()
