import errno
from types import SimpleNamespace

import click
import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline, node

from lymphocytosis.hooks.project import ProjectHooks


def test_what_can_not_be_looked_for_is_told_plainly_before_the_run(tmp_path):
    class Locked(MemoryDataset):
        def _exists(self):
            raise PermissionError(errno.EACCES, "Permission denied", "cohort/trainset")

    hooks = ProjectHooks()
    hooks.parameters = SimpleNamespace(workspace=str(tmp_path / "out"))
    reads = Pipeline([node(lambda pictures: 1, "cohort_pictures", "made")])
    with pytest.raises(click.ClickException, match=r"denied: 'cohort/trainset'"):
        hooks.before_pipeline_run(reads, DataCatalog({"cohort_pictures": Locked()}))
