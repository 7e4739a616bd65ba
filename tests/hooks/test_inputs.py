import errno
import re
from pathlib import Path

import click
import pytest
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io import AbstractDataset, DataCatalog, DatasetError, MemoryDataset, Version
from kedro.pipeline import Pipeline, node

from lymphocytosis.datasets.bundle_folder import BundleDataset
from lymphocytosis.datasets.whole import TextDataset
from lymphocytosis.errors import UserError, causes
from lymphocytosis.hooks.inputs import check_bundle, check_inputs, spare_damaged
from lymphocytosis.hooks.options import requested
from lymphocytosis.hooks.project import ProjectHooks
from lymphocytosis.pipeline_registry import register_pipelines
from tests.hooks.conftest import one_machine

PROJECT = Path(__file__).parents[2]
REGISTERED = register_pipelines()
ALL = sum(REGISTERED.values(), start=Pipeline([]))
RUN = {"pipeline_names": None, "load_versions": None}


def test_what_can_not_be_looked_for_is_told_plainly_before_the_run(tmp_path, run_params):
    class Locked(MemoryDataset):
        def _exists(self):
            raise PermissionError(errno.EACCES, "Permission denied", "cohort/trainset")

    hooks = ProjectHooks()
    hooks.parameters = one_machine(tmp_path / "out")
    reads = Pipeline([node(lambda pictures: 1, "cohort_pictures", "made")])
    with pytest.raises(click.ClickException, match=r"denied: 'cohort/trainset'"):
        hooks.before_pipeline_run(run_params, reads, DataCatalog({"cohort_pictures": Locked()}))


class Entry(AbstractDataset):
    """One that only knows whether it is there."""

    there = frozenset()  # names of all that are

    def __init__(self, name):
        self.name = name

    def load(self):
        raise UserError(self.name)

    def save(self, data):
        raise NotImplementedError

    def _exists(self):
        return self.name in Entry.there

    def _describe(self):
        return {"filepath": self.name}


@pytest.fixture(scope="module")
def in_memory():
    """The entries that are never saved."""
    bootstrap_project(PROJECT)
    with KedroSession.create(PROJECT, env="base") as session:
        catalog = session.load_context().catalog
    return {entry for entry in ALL.datasets() if isinstance(catalog.get(entry), MemoryDataset)}


@pytest.fixture
def run(in_memory):
    """A function that runs what it is asked to, and, when refused, first what it is told to.

    Nodes make nothing: what they would make counts as there. The user's own files are brought when
    they are asked for. It returns how many commands were run on the way.
    """

    catalog = DataCatalog(
        {
            entry: MemoryDataset() if entry in in_memory else Entry(entry)
            for entry in ALL.datasets()
            if not entry.startswith("params:")
        }
    )
    for entry in ALL.inputs() | {"params:runs_dir"}:
        if entry.startswith("params:"):
            catalog[entry] = MemoryDataset("x")

    def go(there, names, chosen=None, most=2):
        made = requested(names)
        pipeline = made.filter(**chosen) if chosen else made
        Entry.there = there
        try:
            check_inputs({**RUN, "pipeline_names": names}, pipeline, catalog)
        except DatasetError as error:
            there.add(next(str(e) for e in causes(error) if isinstance(e, UserError)))
            return go(there, names, chosen, most)
        except click.ClickException as refused:
            told = refused.message
            assert "\n" not in told
            if "holds no evaluation" in told:
                there.update(("evaluated_runs", "evaluations"))
                return go(there, names, chosen, most)
            if "There is no bundle" in told:
                there.add("bundle")
                return go(there, names, chosen, most)
            command = re.search(r"kedro run(?: --pipelines=(\S+))?(?: --nodes=(\S+))?$", told)
            assert command, told
            assert most, f"what was advised is refused: {told}"
            others, nodes = (given and given.split(",") for given in command.groups())
            if nodes:
                return 1 + go(there, others, {"node_names": nodes}, most - 1)
            return 1 + go(there, others, most=0) + go(there, names, chosen, most - 1)
        there |= pipeline.all_outputs() - in_memory
        return 0

    return go


class TestAdvice:
    @pytest.mark.parametrize("name", REGISTERED)
    def test_the_advice_for_a_missing_input_lets_the_run_finish(self, run, name, in_memory):
        everything = ALL.datasets() - in_memory
        assert run(set(everything), [name]) == 0
        for entry in REGISTERED[name].inputs() & everything:
            assert run(everything - {entry}, [name]) <= 1
        assert run(set(), [name]) <= 1

    @pytest.mark.parametrize("option", ["node_names", "from_nodes", "to_nodes"])
    @pytest.mark.parametrize("saved", [True, False])
    def test_the_advice_for_some_nodes_lets_the_run_finish(self, run, in_memory, option, saved):
        everything = ALL.datasets() - in_memory if saved else set()
        for name in ("__default__", "bag_images", "evaluate", "choose", "bundle"):
            for one in REGISTERED[name].nodes:
                run(set(everything), [name], {option: [one.name]})

    def test_the_advice_for_a_tag_lets_the_run_finish(self, run):
        # Some nodes more, and what is not saved yet.
        assert run(set(), None, {"tags": ["gpu"]}) == 2


class TestWhatCanBeSpared:
    EVALUATED = ("classifier_predictions", "evaluation", "evaluation_summary")

    def catalog(self, tmp_path, pipeline):
        texts = {entry: TextDataset(filepath=str(tmp_path / entry)) for entry in self.EVALUATED}
        others = {e: MemoryDataset("x") for e in pipeline.inputs() - texts.keys()}
        return DataCatalog({**others, **texts})

    def test_a_bundle_takes_what_evaluation_there_is(self, tmp_path, caplog):
        pipeline = REGISTERED["bundle"]
        catalog = self.catalog(tmp_path, pipeline)
        catalog.save("evaluation_summary", "good")
        check_inputs(RUN, pipeline, catalog)
        assert [catalog.load(entry) for entry in self.EVALUATED] == [None, None, "good"]
        assert not caplog.records

    def test_nothing_else_can_do_without(self, tmp_path):
        reads = Pipeline([node(len, "evaluation", "made", name="reads", namespace="choose")])
        for pipeline in (reads, reads + REGISTERED["bundle"]):
            catalog = self.catalog(tmp_path, pipeline)
            bootstrap_project(PROJECT)
            with pytest.raises(click.ClickException, match=r"Nothing has been saved .*evaluation"):
                check_inputs(RUN, pipeline, catalog)


class TestDamaged:
    """What only the report would read, and can't, must not end a run that has other work."""

    @pytest.fixture
    def catalog(self):
        return DataCatalog({"evaluation": Entry("damaged"), "patients": Entry("damaged")})

    def test_it_is_left_out_with_a_warning(self, catalog, caplog):
        pipeline = Pipeline(
            [
                node(len, "evaluation", "page", name="reads", namespace="report"),
                node(len, "patients", "bags", name="works", namespace="classify"),
            ]
        )
        spare_damaged({"pipeline_names": None}, pipeline, catalog)
        assert catalog.load("evaluation") is None
        assert "will leave out evaluation" in caplog.text
        with pytest.raises(DatasetError):
            catalog.load("patients")

    def test_the_report_alone_says_what_is_wrong(self, catalog):
        reads = Pipeline([node(len, "evaluation", "page", name="reads", namespace="report")])
        spare_damaged({"pipeline_names": ["report"]}, reads, catalog)
        with pytest.raises(DatasetError, match="damaged"):
            catalog.load("evaluation")


class TestBundle:
    def test_one_that_is_missing_is_asked_for_by_its_path(self, tmp_path):
        catalog = DataCatalog({"bundle": BundleDataset(filepath=str(tmp_path / "none"))})
        reads = Pipeline([node(len, "bundle", "made", name="reads")])
        with pytest.raises(click.ClickException, match=r"no bundle .*none\. .*--params=bundle="):
            check_inputs(RUN, reads, catalog)

    def test_a_place_that_can_not_take_one_is_refused_before_any_work(self, tmp_path):
        (tmp_path / "thesis.txt").touch()
        catalog = DataCatalog({"bundle": BundleDataset(filepath=str(tmp_path))})
        with pytest.raises(UserError, match="something else"):
            check_bundle(REGISTERED["bundle"], catalog)
        check_bundle(REGISTERED["embed"], catalog)


class TestVersions:
    @pytest.fixture
    def check(self, tmp_path):
        """A function that checks a run which loads a version of an entry."""

        def check(version, saved=("2026-01-01T00.00.00.000Z",)):
            for one in saved:
                TextDataset(filepath=str(tmp_path / "cells"), version=Version(None, one)).save("x")
            entry = TextDataset(filepath=str(tmp_path / "cells"), version=Version(version, None))
            reads = Pipeline([node(len, "cells", "made")])
            asked = {**RUN, "load_versions": {"cells": version}}
            check_inputs(asked, reads, DataCatalog({"cells": entry}))

        return check

    def test_an_existing_one_is_accepted(self, check):
        check("2026-01-01T00.00.00.000Z")

    def test_one_that_is_not_is_refused_with_those_that_are(self, check):
        with pytest.raises(click.ClickException, match=r"no such version.* 2026-01-01T00.00.00"):
            check("2025-01-01T00.00.00.000Z")

    def test_none_is_there_yet(self, check):
        bootstrap_project(PROJECT)
        with pytest.raises(click.ClickException, match=r"Nothing has been saved yet as cells"):
            check("2025-01-01T00.00.00.000Z", saved=())

    def test_an_entry_without_versions_is_reported(self):
        asked = {**RUN, "load_versions": {"clinical_annotation": "2026"}}
        catalog = DataCatalog({"clinical_annotation": MemoryDataset("x")})
        with pytest.raises(click.ClickException, match=r"clinical_annotation has no versions"):
            check_inputs(asked, Pipeline([]), catalog)
