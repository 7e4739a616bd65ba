import time
from uuid import uuid4

import pytest
from kedro.framework.hooks.manager import _create_hook_manager
from kedro.io import AbstractDataset, DataCatalog, MemoryDataset
from kedro.pipeline import node, pipeline
from kedro.runner import SequentialRunner, ThreadRunner

from lymphocytosis.hooks.timings import TIMINGS

PAUSE = 0.05


class Slow(AbstractDataset):
    """Takes a while to save, and draws what it saves from an iterator, as the image store does."""

    def save(self, data):
        list(data)
        time.sleep(PAUSE)

    def load(self):
        time.sleep(PAUSE)
        return []

    def _describe(self):
        return {}


def drawn(_):
    def draw():
        time.sleep(PAUSE)
        yield 1

    return draw()


@pytest.fixture
def timed():
    """A function that runs nodes and returns their times."""
    manager = _create_hook_manager()
    manager.register(TIMINGS)

    def run(nodes, runner=None, **datasets):
        run_id = uuid4().hex
        of = {"given": MemoryDataset(0)} | datasets
        catalog = DataCatalog(of)
        (runner or SequentialRunner()).run(pipeline(nodes), catalog, manager, run_id=run_id)
        manager.hook.after_pipeline_run(
            run_params={}, run_result={}, pipeline=pipeline(nodes), catalog=catalog
        )
        return TIMINGS.of_run(run_id)

    return run


def test_a_time_includes_what_is_done_while_outputs_are_saved(timed):
    found = timed([node(drawn, "given", "made", name="draws")], made=Slow())
    assert list(found) == ["draws"]
    assert found["draws"] >= 2 * PAUSE


def test_a_time_includes_loading_and_no_other_node(timed):
    slow, quick = (
        node(lambda _: 0, "kept", "first", name="loads"),
        node(lambda _: 0, "first", "second", name="quick"),
    )
    found = timed([slow, quick], kept=Slow())
    assert found["loads"] >= PAUSE > found["quick"]


@pytest.mark.parametrize("runner", [SequentialRunner(), ThreadRunner(max_workers=2)])
def test_every_node_has_one_whatever_the_runner(timed, runner):
    nodes = [
        node(lambda: 0, None, "first", name="without_inputs"),
        node(lambda _: None, "first", None, name="without_outputs"),
        node(lambda _: (0, 0), "first", ["second", "third"], name="two_outputs"),
    ]
    assert set(timed(nodes, runner)) == {"without_inputs", "without_outputs", "two_outputs"}


def test_the_time_between_two_runs_counts_for_none(timed):
    nodes = [node(lambda _: 0, "given", "made", name="quick")]
    timed(nodes)
    time.sleep(PAUSE)
    assert timed(nodes)["quick"] < PAUSE
