"""What Kedro itself costs in a run: all that is neither a node's body nor reading and writing.

What stays in memory between nodes is neither read nor written: handing it on is Kedro's share.
"""

import tempfile
import time
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path

from kedro.framework.hooks import hook_impl
from kedro.framework.project import settings
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline

from benchmarks.side_by_side import Row

PROJECT = Path(__file__).parents[1]
TURNS = 3
# The demo, shortened: Kedro's share shows larger than it is in the demo itself.
SHORT = {
    "simulation": {"train_reactive": 16, "train_tumoral": 26, "test": 16},
    "pretext": {"epochs": 2},
    "mil": {"epochs": 15},
}


class Clock:
    """Hooks that time a run's nodes, and what the nodes read and write."""

    def __init__(self) -> None:
        self.work = 0.0  # seconds in nodes' bodies, loads and saves
        self.run = 0.0  # seconds from the runner's start to its end
        self._since: dict[str, float] = defaultdict(float)

    @hook_impl(trylast=True)
    def before_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """The runner starts."""
        self.work = 0.0
        self.nodes = len(pipeline.nodes)
        self._catalog = catalog
        self._since["run"] = time.perf_counter()

    @hook_impl(tryfirst=True)
    def after_pipeline_run(self) -> None:
        """The runner has ended."""
        self.run = time.perf_counter() - self._since["run"]

    @hook_impl(trylast=True)
    def before_node_run(self) -> None:
        """A body starts."""
        self._since["node"] = time.perf_counter()

    @hook_impl(tryfirst=True)
    def after_node_run(self) -> None:
        """A body has ended."""
        self.work += time.perf_counter() - self._since["node"]

    @hook_impl(trylast=True)
    def before_dataset_loaded(self) -> None:
        """A load starts."""
        self._since["dataset"] = time.perf_counter()

    @hook_impl(tryfirst=True)
    def after_dataset_loaded(self, dataset_name: str) -> None:
        """A load has ended, validation included."""
        self._count(dataset_name)

    @hook_impl(trylast=True)
    def before_dataset_saved(self) -> None:
        """A save starts."""
        self._since["dataset"] = time.perf_counter()

    @hook_impl(tryfirst=True)
    def after_dataset_saved(self, dataset_name: str) -> None:
        """A save has ended, validation included."""
        self._count(dataset_name)

    def _count(self, dataset_name: str) -> None:
        passed = time.perf_counter() - self._since["dataset"]
        if not isinstance(self._catalog.get(dataset_name), MemoryDataset):
            self.work += passed


def measure() -> list[Row]:
    """Run the demo, shortened, several times; its cohort is drawn before.

    Returns:
        Kedro's milliseconds a node, within the runner; and its share of the whole run in percent,
        reading the configuration and checking what the run needs included.
    """
    milliseconds, percent = [], []
    for turn in range(1 + TURNS):
        clock = Clock()
        bootstrap_project(PROJECT)
        settings.set("HOOKS", (*settings.HOOKS, clock))
        with tempfile.TemporaryDirectory() as folder:
            parameters = {"cohort_dir": f"{folder}/cohort", "workspace": f"{folder}/out", **SHORT}
            for names in (["simulate"], ["__default__"]):
                start = time.perf_counter()
                with KedroSession.create(PROJECT, env="demo", runtime_params=parameters) as session:
                    session.run(pipeline_names=names)
                whole = time.perf_counter() - start
        if turn:  # the first imports libraries
            milliseconds.append(1000 * (clock.run - clock.work) / clock.nodes)
            percent.append(100 * (whole - clock.work) / whole)
    against = f"node bodies, reading and writing; Kedro {version('kedro')}"
    note = f"the demo, shortened: {clock.nodes} nodes in {whole:.0f} s"
    return [
        Row("Kedro's share, milliseconds a node", against, "at most 3", milliseconds, note),
        Row("Kedro's share, percent of the run", against, "at most 2", percent, note),
    ]
