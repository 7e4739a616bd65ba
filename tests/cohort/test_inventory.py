import json

import pandas as pd
import pytest

from lymphocytosis.cohort.inventory import count_cells, report_ingest, take_inventory
from lymphocytosis.errors import UserError


def patients_of(**labels):
    """By id: subset and label."""
    subsets, values = zip(*labels.values(), strict=True)
    return pd.DataFrame(
        {
            "patient_id": pd.Series(list(labels), dtype="str"),
            "subset": pd.Series(subsets, dtype="str"),
            "label": pd.array(values, dtype="Int8"),
        }
    )


def records_of(*files):
    """Patient, file name, content's digest, status, reason; rows are counted up."""
    taken = [status != "left_out" for _, _, _, status, _ in files]
    return pd.DataFrame(
        [
            {
                "patient_id": patient,
                "image_id": name,
                "path": f"trainset/{patient}/{name}",
                "sha256": digest,
                "status": status,
                "reason": reason,
                "row": sum(taken[:at]) if taken[at] else None,
            }
            for at, (patient, name, digest, status, reason) in enumerate(files)
        ]
    ).astype({"row": "Int64"})


RECORDS = records_of(
    ("P1", "a.png", "11", "taken", ""),
    ("P1", "b.png", "22", "converted", "mode L, not RGB"),
    ("P1", "c.txt", "33", "left_out", "can't be decoded: no picture"),
    ("P2", "a.png", "11", "taken", ""),
    ("P2", "d.txt", "33", "left_out", "can't be decoded: no picture"),
)
INVENTORY = take_inventory(lambda: [RECORDS[:2], RECORDS[2:]])
PATIENTS = patients_of(P1=("train", 0), P2=("test", None))


class TestCountCells:
    def test_counts_what_was_taken_or_converted(self):
        counted = count_cells(PATIENTS, INVENTORY)
        assert dict(zip(counted["patient_id"], counted["cell_count"], strict=True)) == {
            "P1": 2,
            "P2": 1,
        }
        assert str(counted["cell_count"].dtype) == "int32"

    def test_a_patient_without_any_picture_taken_is_refused_with_the_reason(self):
        records = RECORDS.assign(status="left_out", row=pd.array([None] * 5, dtype="Int64"))
        records = pd.concat([records[3:], RECORDS[:3]])
        records.loc[3, "reason"] = "41x40 pixels, not 40x40"
        with pytest.raises(
            UserError, match=r"patient P2: 2 file\(s\) left out, the first: 41x40"
        ) as caught:
            count_cells(PATIENTS, take_inventory(lambda: [records[:2], records[2:]]))
        assert "P1" not in str(caught.value)


class TestReport:
    def report(self):
        return report_ingest(
            count_cells(PATIENTS, INVENTORY),
            INVENTORY,
            ["odd"],
            ["a.csv: text"],
            {"crop": 40},
        )

    def test_is_plain_json(self):
        report = self.report()
        assert json.loads(json.dumps(report)) == report

    def test_counts_patients_by_subset_and_label(self):
        labels = patients_of(
            A=("train", 0), B=("train", 0), C=("train", 1), D=("train", None), E=("test", 0),
            F=("test", 1), G=("test", 1), H=("test", None),
        )  # fmt: skip
        report = report_ingest(labels.assign(cell_count=range(1, 9)), INVENTORY, [], [], {})
        assert list(report["patients"].values()) == [2, 1, 1, 1, 2, 1]
        assert report["cells_per_patient"] == {"fewest": 1, "median": 4.5, "most": 8}

    def test_names_every_file_that_was_not_taken_as_it_is_with_its_reason(self):
        report = self.report()
        assert report["pictures"] == {"taken": 2, "converted": 1, "left_out": 2}
        assert [(file["path"], file["reason"]) for file in report["not_taken_as_they_are"]] == [
            ("trainset/P1/b.png", "mode L, not RGB"),
            ("trainset/P1/c.txt", "can't be decoded: no picture"),
            ("trainset/P2/d.txt", "can't be decoded: no picture"),
        ]

    def test_warns_of_one_picture_under_several_names_among_the_taken(self):
        assert self.report()["warnings"] == [
            "odd",
            "The same picture is there more than once: trainset/P1/a.png, trainset/P2/a.png.",
        ]
