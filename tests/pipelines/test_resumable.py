from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline, node
from kedro.runner import SequentialRunner

from lymphocytosis.pipelines.resumable import resumable
from lymphocytosis.progress import unfinished


def test_a_nodes_parts_are_saved_under_the_name_of_the_entry_it_makes(tmp_path):
    def add(one, other, progress):
        progress.save_values("part", {"sum": one + other})
        return one + other

    inputs = ["params:one", "params:other", "params:workspace"]
    adds = Pipeline([node(resumable(add, "total"), inputs, "total")])
    given = zip(inputs, (1, 2, str(tmp_path)), strict=True)
    catalog = DataCatalog({name: MemoryDataset(value) for name, value in given})
    made = SequentialRunner().run(adds, catalog)
    assert made["total"].load() == 3
    assert unfinished(str(tmp_path), "total").values("part") == {"sum": 3}
