"""The report's page: its numbers, its safety, and what it does without."""

import base64
import re
from hashlib import sha256

import numpy as np
import pandas as pd
import pytest

from lymphocytosis.errors import UserError
from lymphocytosis.pipelines.report.pipeline import REPORTED
from lymphocytosis.report.page import write_excuse

from .conftest import make_entries
from .reading import Reader

HOSTILE = [
    "<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "{{ 7 * 7 }}", "</script><b>",
    "'; alert(1); '", "a & b < c", "--><style>*{display:none}</style>", "javascript:alert(1)",
]  # fmt: skip


@pytest.fixture(scope="module")
def read(page):
    return Reader(page)


def figures(cell):
    return [float(number) for number in re.findall(r"[+-]?\d+\.\d+", cell)]


class TestNumbers:
    def test_the_results_table_is_that_of_the_catalog(self, read, entries):
        _, *rows = read.tables["results-table"]
        for row, expected in zip(rows, entries["results"].to_dict("records"), strict=True):
            assert row[0] == expected["method"]
            for cell, on in zip(row[1:], ("test", "out_of_fold"), strict=True):
                given = [expected[f"{on}_{k}"] for k in ("balanced_accuracy", "low", "high")]
                np.testing.assert_allclose(figures(cell), given, atol=5e-4)

    def test_the_scores_are_those_of_the_evaluation(self, read, entries):
        _, *rows = read.tables["evaluation-table"]
        table = entries["evaluation"]
        assert len(rows) == table["method"].nunique()
        for row, (_, of) in zip(rows, table.groupby("method", sort=False), strict=True):
            for cell, metric in zip(
                row[1:6],
                ("balanced_accuracy", "sensitivity", "specificity", "auc", "brier"),
                strict=True,
            ):
                one = of[(of["metric"] == metric) & of["rule"].fillna("AVG").eq("AVG")].iloc[0]
                given = one[["value", "low", "high"]].to_numpy(dtype=float)
                np.testing.assert_allclose(figures(cell), given, atol=5e-4)

    def test_each_group_of_patients_has_its_scores(self, read, entries):
        _, *rows = read.tables["subgroups-table"]
        table = entries["subgroups"]
        own = table[table["method"] == "large, pictures + clinical"]
        assert len(rows) == len(own[["trait", "group"]].drop_duplicates()) > 3
        for row, (_, of) in zip(rows, own.groupby(["trait", "group"], sort=False), strict=True):
            auc = of[of["metric"] == "auc"].iloc[0]
            given = [] if pd.isna(auc["value"]) else auc[["value", "low", "high"]].astype(float)
            np.testing.assert_allclose(figures(row[5]), given, atol=5e-4)

    def test_the_confusion_adds_up_and_is_that_of_the_advice(self, read, entries):
        _, *rows = read.tables["confusion-table"]
        judged = entries["referral_predictions"]
        for value, (name, *counts) in enumerate(rows):
            of = judged[judged["label"] == value]
            assert name == ("reactive", "tumoral")[value]
            expected = [(of["referral"] == said).sum() / 2 for said in (0, 1)]
            assert [float(count) for count in counts] == expected
        assert sum(float(c) for _, *counts in rows for c in counts) == 20

    def test_each_patients_row_and_predictions(self, read, entries):
        _, *rows = read.tables["patients"]
        assert [row[0] for row in rows] == entries["patients"]["patient_id"].tolist()
        large = entries["large_predictions"].groupby("patient_id")["probability"]
        for row in rows[20:]:
            assert float(row[4]) == pytest.approx(large.mean()[row[0]], abs=5e-4)
            assert float(row[5]) == pytest.approx(large.std(ddof=0)[row[0]], abs=5e-4)
            assert row[3].startswith("tumoral" if large.mean()[row[0]] >= 0.5 else "reactive")
        held_out = entries["classifier_predictions"]
        first = held_out[
            (held_out["size"] == "large")
            & (held_out["system"] == "pictures + clinical")
            & (held_out["repeat"] == 1)
        ]
        mean = first.groupby("patient_id")["probability"].mean()
        assert [float(row[4]) for row in rows[:20]] == pytest.approx(
            mean.loc[[row[0] for row in rows[:20]]].tolist(), abs=5e-4
        )
        wrong = [row[0] for row in rows if "wrong" in row[3]]
        label = entries["patients"].set_index("patient_id")["label"]
        all_means = pd.concat([mean, large.mean()])
        assert wrong == [p for p in label.index if (all_means[p] >= 0.5) != label[p]]

    def test_fifteen_predictions_are_shown_of_each(self, read):
        grids = [
            table for table in read.tables.values() if table and table[0][:1] == ["classifier"]
        ]
        assert len(grids) == 24
        assert all(len(figures(" ".join(map(" ".join, grid[1:])))) == 15 for grid in grids)

    def test_the_summary_says_who_and_how_well(self, read):
        said = " ".join(read.texts)
        assert "24 patients with 96 cells: 12 reactive, 12 tumoral" in said
        assert "Age and lymphocyte count alone" in said


class TestSafety:
    def test_tags_are_closed_and_ids_are_there_once(self, read):
        assert read.faults == []
        ids = [attributes["id"] for _, attributes in read.tags if "id" in attributes]
        assert len(set(ids)) == len(ids)

    def test_nothing_comes_from_outside(self, page, read):
        assert not re.search(r"https?:", page)
        for tag, attributes in read.tags:
            for name in ("src", "href"):
                if name in attributes:
                    assert attributes[name].startswith("#"), tag
            assert not [n for n in attributes if n.startswith("on") or n == "style"]
        (policy,) = (a["content"] for t, a in read.tags if a.get("http-equiv"))
        assert "default-src 'none'" in policy
        run = [text for attributes, text in read.scripts if not attributes]
        assert len(run) == 1
        for kind, text in (("script", run[0]), ("style", read.styles[0])):
            digest = base64.b64encode(sha256(text.encode()).digest()).decode()
            assert f"{kind}-src 'sha256-{digest}'" in policy

    def test_hostile_names_are_text(self, write, read):
        names = [f"{HOSTILE[n % len(HOSTILE)]}{n}" for n in range(24)]
        hostile = make_entries(names, image="<i onclick=x>{}.jpg")
        hostile["cell_images"].records["reason"] = "</details><script>"
        page = Reader(write(hostile))
        assert page.faults == []
        assert [name for name, _ in page.tags if name == "script"] == ["script"] * len(read.scripts)
        assert not {"b", "i", "style"} & {tag for tag, _ in page.tags if tag != "style"}
        assert len(page.styles) == 1
        assert not [n for _, a in page.tags for n in a if n.startswith("on")]
        assert [row[0] for row in page.tables["patients"][1:]] == [
            " ".join(n.split()) for n in names
        ]

    def test_without_names_none_is_there(self, write, entries):
        page = write(entries, names=False)
        for name in entries["patients"]["patient_id"]:
            assert name not in page
        assert "img" not in " ".join(Reader(page).texts)
        assert "left out, for they may name patients" in page
        assert [row[0] for row in Reader(page).tables["patients"][1:]] == [
            str(n) for n in range(1, 25)
        ]

    def test_it_says_once_that_it_is_no_device(self, page):
        assert page.count("medical device") == 1

    def test_the_same_entries_give_the_same_bytes(self, write, page):
        assert write(make_entries()) == page

    def test_an_excuse_is_escaped(self):
        assert "&lt;b&gt;" in write_excuse("<b>")


class TestWithout:
    @pytest.mark.parametrize("part", range(5))
    def test_any_entries_may_be_missing(self, write, entries, part):
        missing = [entry for entry in REPORTED if entry != "patients"][part::5]
        page = write({**entries, **dict.fromkeys(missing)})
        assert len(Reader(page).tables["patients"]) == 25

    def test_without_all_but_patients_it_says_what_makes_them(self, write, entries):
        page = write({**dict.fromkeys(entries), "patients": entries["patients"]})
        for makers in ("evaluate", "ensemble", "classify,ensemble", "embed", "ingest"):
            assert f"<code>kedro run --pipelines={makers}</code>" in page
        assert "There are no results yet" in page

    def test_without_patients_there_is_no_report(self, write, entries):
        with pytest.raises(UserError, match="--pipelines=ingest"):
            write({**entries, "patients": None})

    def test_without_an_evaluation_curves_are_of_test_patients_or_out_of_fold(self, write, entries):
        bare = {**entries, "evaluation": None}
        assert "Test patients whose label is known." in write(bare)
        hidden = entries["patients"].assign(
            label=entries["patients"]["label"].where(entries["patients"]["subset"] == "train")
        )
        page = write({**bare, "patients": hidden})
        assert "whose checkpoints may have been chosen on them" in page

    def test_an_evaluation_of_another_recipe_is_told(self, write, entries):
        other = {**entries["large_classifiers"]["parameters"], "encoder": "f" * 64}
        page = write({**entries, "large_classifiers": {"parameters": other}})
        assert "another recipe than the classifiers here (the encoder)" in page
        assert "another recipe" not in write(entries)

    def test_what_the_evaluation_was_made_with_is_told_or_said_to_be_unknown(self, write, entries):
        given = entries["evaluated_with"]
        other = {"evaluation": {**given["evaluation"], "confidence": 0.8},
                 "ensemble": {**given["ensemble"], "wanted_sensitivity": 0.97}}  # fmt: skip
        page = write({**entries, "evaluated_with": other})
        assert "In brackets the 80 % interval" in page
        assert "to find 97 % of the tumoral ones" in page
        assert "are not recorded" not in page
        assert "are not recorded" in write({**entries, "evaluated_with": None})
        same_run = {"run": "x", "evaluation": "x"}
        page = write({**entries, "evaluated_with": None, "versions": same_run})
        assert "are not recorded" not in page

    def test_no_test_patient(self, write, entries):
        train = entries["patients"][entries["patients"]["subset"] == "train"]
        nobody = {f"{s}_predictions": entries[f"{s}_predictions"][:0] for s in ("large", "small")}
        page = write({**entries, **nobody, "patients": train})
        assert len(Reader(page).tables["patients"]) == 21
