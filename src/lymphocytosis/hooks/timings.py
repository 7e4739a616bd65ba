"""How long each node takes, from loading its first input to saving its last output.

A node that returns an iterator works while its output is saved: Kedro's own time for it is no time.
"""

import threading
import time
from collections import defaultdict
from typing import ClassVar

from kedro.framework.hooks import hook_impl
from kedro.pipeline.node import Node


class NodeTimings(threading.local):
    """Hooks that take the time of each node; a thread runs one node at a time."""

    _of_runs: ClassVar[dict[str, dict[str, float]]] = defaultdict(dict)  # of all threads
    _run_id: str
    _node: Node | None = None
    _begun: float

    @hook_impl
    def before_dataset_loaded(self, node: Node) -> None:
        """A node begins."""
        if self._node is not node:
            self._node, self._begun = node, time.perf_counter()

    @hook_impl
    def before_node_run(self, node: Node, run_id: str) -> None:
        """A node begins, if it has no inputs."""
        self.before_dataset_loaded(node)
        self._run_id = run_id

    @hook_impl
    def after_node_run(self, node: Node) -> None:
        """A node ends, if it has no outputs."""
        self._of_runs[self._run_id][node.name] = time.perf_counter() - self._begun

    @hook_impl
    def after_dataset_saved(self, node: Node) -> None:
        """A node ends, if this is its last output."""
        self.after_node_run(node)

    @hook_impl
    def after_pipeline_run(self) -> None:
        """The thread's next node is another, even if it is the same one."""
        self._node = None

    @hook_impl
    def on_pipeline_error(self) -> None:
        """As `after_pipeline_run`."""
        self._node = None

    def of_run(self, run_id: str) -> dict[str, float]:
        """Give a run's times.

        Args:
            run_id: Kedro's.

        Returns:
            Seconds by the node's name, in the order in which the nodes ended.
        """
        return dict(self._of_runs.get(run_id, {}))


TIMINGS = NodeTimings()
