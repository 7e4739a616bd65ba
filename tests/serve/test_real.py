"""The service on a real system: the same numbers as without it, to the bit."""

import json

import pandas as pd

from lymphocytosis.system.diagnosis import ReadySystem
from tests.mil.conftest import mil  # noqa: F401
from tests.system.test_diagnosis import COMPUTE, world  # noqa: F401


def test_rows_and_cells_are_the_systems_own(client_of, world):  # noqa: F811
    system = ReadySystem(world.bundle(), COMPUTE)
    client = client_of(system)
    for patient_id, values in (("P20", {"age": "71", "count": "12.5"}), ("P19", {})):
        pictures = world.files[patient_id]
        files = [("pictures", (file.image_id, file.read())) for file in pictures]
        answer = client.post("/v1/predict", files=files, data=values | {"show": "true"}).json()
        known = {name: float(text) for name, text in values.items()}
        age, count = known.get("age"), known.get("count")
        expected = system.diagnose(pictures, age, count, system.image)
        row = json.loads(json.dumps(expected.row))
        assert answer["row"] == row | {"patient_id": "patient"}
        cells = pd.DataFrame(answer["cells"]).astype({"odd": "boolean"})
        pd.testing.assert_frame_equal(
            cells, expected.cells, check_exact=True, check_column_type=False
        )
        assert len(answer["shown"]["typical"]) == min(6, len(pictures))
