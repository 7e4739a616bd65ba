"""The pipelines as they are registered: what their nodes are called, how kedro-viz shows them."""

import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro_viz import server
from kedro_viz.data_access.managers import DataAccessManager

from lymphocytosis.pipeline_registry import register_pipelines

PROJECT = Path(__file__).parents[1]
PIPELINES = register_pipelines()


def test_every_package_is_a_pipeline_and_the_default_is_the_method():
    packages = {path.parent.name for path in (PROJECT / "src").glob("*/pipelines/*/__init__.py")}
    assert PIPELINES.keys() == packages | {"__default__", "demo"}
    method = ("ingest", "ssl_pretrain", "embed", "classify", "ensemble")
    parts = {node for name in (*method, "report") for node in PIPELINES[name].nodes}
    assert set(PIPELINES["__default__"].nodes) == parts
    assert list(PIPELINES)[1:6] == list(method)
    simulated = set(PIPELINES["simulate"].nodes)
    assert set(PIPELINES["demo"].nodes) == parts | simulated


class TestNodeNames:
    def test_each_is_ours_and_means_the_same_node_everywhere(self):
        named = defaultdict(set)
        for made in PIPELINES.values():
            for node in made.nodes:
                assert node._name, f"{node} needs a name"
                named[node.name].add((tuple(node.inputs), tuple(node.outputs)))
        assert {name: nodes for name, nodes in named.items() if len(nodes) > 1} == {}

    @pytest.mark.parametrize("pipeline", PIPELINES)
    def test_each_can_be_given_to_a_partial_run(self, pipeline):
        made = PIPELINES[pipeline]
        after = {node.name: {node.name} for node in made.nodes}
        for node in reversed(made.nodes):
            for parent in made.node_dependencies[node]:
                after[parent.name] |= after[node.name]
        for node in made.nodes:
            name = node.name
            assert made.filter(node_names=[name]).nodes == [node]
            assert {n.name for n in made.filter(from_nodes=[name]).nodes} == after[name]
            before = {other for other in after if name in after[other]}
            assert {n.name for n in made.filter(to_nodes=[name]).nodes} == before


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_nodes_are_grouped_by_the_pipeline_that_they_belong_to(pipeline):
    groups = {node.namespace.split(".")[0] for node in PIPELINES[pipeline].nodes}
    assert groups <= PIPELINES.keys()
    assert pipeline in groups or pipeline in ("__default__", "demo")


def test_no_group_renames_a_dataset():
    assert not [entry for made in PIPELINES.values() for entry in made.datasets() if "." in entry]


@pytest.fixture(scope="module")
def viz():
    bootstrap_project(PROJECT)
    with KedroSession.create(PROJECT) as session:
        catalog = session.load_context().catalog
    manager = DataAccessManager()
    manager.add_catalog(catalog, PIPELINES)
    manager.add_pipelines(PIPELINES)
    return manager


class TestKedroViz:
    @pytest.mark.parametrize("pipeline", PIPELINES)
    def test_layers_are_shown_in_the_order_of_their_numbers(self, viz, pipeline):
        # As kedro-viz does first: a folded pipeline is a node too, and closes more circles.
        viz.create_modular_pipelines_tree_for_registered_pipeline(pipeline)
        # It sorts the layers of all pipelines, and draws those that this one has.
        has = {viz.catalog.get_layer_for_dataset(entry) for entry in PIPELINES[pipeline].datasets()}
        order = viz.get_sorted_layers_for_registered_pipeline(pipeline)
        drawn = [layer for layer in order if layer in has]
        assert drawn == sorted(drawn) != []

    def test_every_entry_but_parameters_has_a_layer(self, viz):
        entries = {entry for made in PIPELINES.values() for entry in made.datasets()}
        without = {entry for entry in entries if not viz.catalog.get_layer_for_dataset(entry)}
        assert {entry for entry in without if not entry.startswith("params:")} == set()

    def test_the_default_pipeline_folds_into_its_pipelines(self, viz):
        tree = viz.create_modular_pipelines_tree_for_registered_pipeline("__default__")
        shown = defaultdict(set)
        for child in tree["__root__"].children:
            shown[child.type.value].add(child.id)
        method = {"ingest", "ssl_pretrain", "embed", "classify", "ensemble"}
        assert shown["modularPipeline"] == method | {"report"}
        assert "task" not in shown

    def test_one_pipeline_is_shown_without_the_projects_hooks(self, monkeypatch):
        # As by `kedro viz run --env=demo --pipeline=demo`.
        manager = DataAccessManager()
        monkeypatch.setattr(server, "data_access_manager", manager)
        options = {"env": "demo", "package_name": "lymphocytosis"}
        server.load_and_populate_data(PROJECT, pipeline_name="demo", **options)
        tree = manager.create_modular_pipelines_tree_for_registered_pipeline("demo")
        assert {"simulate", "ingest"} <= {child.id for child in tree["__root__"].children}


def test_registering_warns_of_nothing():
    code = "from lymphocytosis.pipeline_registry import register_pipelines; register_pipelines()"
    done = subprocess.run([sys.executable, "-Werror", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
