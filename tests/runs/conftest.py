"""Made-up runs on the disk."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from lymphocytosis.runs.manifest import File, Manifest, describe, write_manifest


def manifest_of(version, **changes):
    values = {
        "run": version, "began": datetime(2026, 1, 1, tzinfo=UTC),
        "ended": datetime(2026, 1, 1, 0, 1, tzinfo=UTC), "exit": "done", "options": {},
        "parameters": {}, "code": {"version": "1", "commit": None, "changed": None},
        "packages": {"python": "3"}, "inputs": {}, "outputs": {}, "seconds": {},
    }  # fmt: skip
    return Manifest(**values | changes)


@pytest.fixture
def add_run(tmp_path):
    """A function that adds a run to the workspace `tmp_path`.

    It takes the run's version; what it made, as paths of entries such as 06_models/a.pt; the
    versions that it loaded, by entry; and more of its manifest. Without `traced` it gets none.
    """

    def add(version, made=(), loaded=None, traced=True, **changes):
        outputs = {}
        for entry in made:
            path = tmp_path / entry / version / Path(entry).name
            path.parent.mkdir(parents=True)
            path.write_text(f"{entry} of {version}")
            outputs[Path(entry).stem] = describe(path, tmp_path, version)
        inputs = {
            Path(entry).stem: File(path=entry, version=of, size=1, modified=1, sha256="0")
            for entry, of in (loaded or {}).items()
        }
        if traced:
            given = {"inputs": inputs, "outputs": outputs}
            write_manifest(tmp_path, manifest_of(version, **given | changes))
        return version

    return add


def version(number):
    """The name of the version number 0, 1, ...; they sort as their numbers do."""
    return f"2026-01-01T00.00.00.{number:03d}Z"
