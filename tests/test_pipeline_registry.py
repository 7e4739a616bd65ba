"""The pipelines as they are registered: what their nodes are called, and how they are grouped."""

from collections import defaultdict

import pytest

from lymphocytosis.pipeline_registry import register_pipelines

PIPELINES = register_pipelines()


class TestNodeNames:
    def test_each_is_given_by_us_and_stands_for_one_node_wherever_it_is_used(self):
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
    assert pipeline in groups or pipeline == "__default__"


def test_no_group_renames_a_dataset():
    assert not [entry for made in PIPELINES.values() for entry in made.datasets() if "." in entry]
