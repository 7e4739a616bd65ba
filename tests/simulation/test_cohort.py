"""The cohort as a reader of its files sees it: the table's strings, the paths, the JPEG bytes."""

import io
import re
from collections import Counter
from dataclasses import replace
from datetime import date, datetime

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from scipy.stats import mannwhitneyu

from lymphocytosis.parameters import SimulationParameters
from lymphocytosis.simulation import cohort
from lymphocytosis.simulation.cohort import plan_patients, simulate_cohort

SMALL = SimulationParameters(
    seed=7,
    train_reactive=3,
    train_tumoral=4,
    test=3,
    test_labels="hidden",
    min_cells=2,
    max_cells=5,
    picture_size=64,
    cell_signal=1.0,
    clinical_signal=1.0,
)
LARGE = SMALL.model_copy(
    update={
        "train_reactive": 300,
        "train_tumoral": 500,
        "test": 200,
        "test_labels": "shown",
        "min_cells": 16,
        "max_cells": 198,
    }
)


def change(simulation: SimulationParameters, **values: object) -> SimulationParameters:
    return simulation.model_copy(update=values)


def table_of(simulation: SimulationParameters) -> pd.DataFrame:
    return simulate_cohort(simulation)[0]


def pictures_of(simulation: SimulationParameters) -> dict[str, bytes]:
    return dict(simulate_cohort(simulation)[1])


def parse(text: str) -> date:
    """The rule of the challenge: a slash means month first, a dash means day first."""
    return datetime.strptime(text, "%m/%d/%Y" if "/" in text else "%d-%m-%Y").date()


def auc(values: object, labels: pd.Series) -> float:
    """The chance that a tumoral patient has the higher value; 0.5 tells nothing."""
    values = np.asarray(values, float)
    tumoral, reactive = values[labels == "1"], values[labels == "0"]
    statistic = mannwhitneyu(tumoral, reactive).statistic
    return float(statistic / (len(tumoral) * len(reactive)))


def tells_nothing(values: object, labels: pd.Series) -> bool:
    # Of 1,000 patients, chance alone moves the area by about 0.019.
    return abs(auc(values, labels) - 0.5) < 0.06


def decode(picture: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(picture)))


def nucleus_area(picture: bytes) -> int:
    """Pixels of the purple piece in the picture's middle."""
    red, green, _ = np.moveaxis(decode(picture).astype(int), -1, 0)
    pieces, _ = ndimage.label((green < 95) & (red < 150))
    middle = pieces[24:40, 24:40]
    return int((pieces == np.bincount(middle[middle > 0]).argmax()).sum())


class TestSeed:
    def test_same_seed_gives_the_same_bytes(self) -> None:
        assert pictures_of(SMALL) == pictures_of(SMALL)
        pd.testing.assert_frame_equal(table_of(SMALL), table_of(SMALL))

    def test_other_seed_gives_other_bytes(self) -> None:
        other = change(SMALL, seed=8)
        assert not table_of(SMALL).equals(table_of(other))
        assert not set(pictures_of(SMALL).values()) & set(pictures_of(other).values())

    def test_no_two_pictures_are_equal(self) -> None:
        pictures = pictures_of(SMALL)
        assert len(set(pictures.values())) == len(pictures)

    def test_a_picture_depends_on_its_patient_and_number_alone(self) -> None:
        # Other patients, other bags, other classes: what both cohorts have is byte-equal.
        wider = change(SMALL, cell_signal=0.0, train_reactive=5, train_tumoral=3, max_cells=8)
        first = pictures_of(change(SMALL, cell_signal=0.0))
        second = pictures_of(wider)
        first, second = (
            {path.split("/", 1)[1]: picture for path, picture in pictures.items()}
            for pictures in (first, second)
        )
        common = first.keys() & second.keys()
        assert len(common) >= 2 * 10
        assert all(first[name] == second[name] for name in common)

    def test_patients_with_the_same_stain_have_other_pictures(self) -> None:
        first, second, *_ = (replace(patient, label=0) for patient in plan_patients(SMALL))
        slide = cohort._draw_slide(first.number, SMALL.seed)
        pictures = [cohort._draw_picture(patient, 0, slide, SMALL) for patient in (first, second)]
        assert pictures[0] != pictures[1]

    def test_pictures_are_drawn_as_they_are_asked_for(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        drawn = []

        def draw(*arguments: object) -> NDArray[np.uint8]:
            drawn.append(arguments)
            return np.zeros((64, 64, 3), np.uint8)

        monkeypatch.setattr(cohort, "draw_cell", draw)
        _, pictures = simulate_cohort(LARGE)
        next(pictures)
        next(pictures)
        assert len(drawn) == 2


class TestLayout:
    def test_table_has_the_columns_of_the_challenge_all_strings(self) -> None:
        table = table_of(SMALL)
        assert list(table.columns) == ["", "ID", "LABEL", "GENDER", "DOB", "LYMPH_COUNT"]
        assert all(isinstance(cell, str) for row in table.to_numpy().tolist() for cell in row)
        assert table[""].tolist() == [str(row) for row in range(10)]
        assert sorted(table["ID"]) == sorted(f"P{number}" for number in range(10))

    def test_table_and_folders_name_the_same_patients(self) -> None:
        table = table_of(SMALL)
        subset = {"-1": "testset", "0": "trainset", "1": "trainset"}
        folders = {f"{subset[label]}/{name}" for name, label in table[["ID", "LABEL"]].to_numpy()}
        assert {path.rsplit("/", 1)[0] for path in pictures_of(SMALL)} == folders

    def test_names_count_up_in_every_bag(self) -> None:
        bags: dict[str, list[str]] = {}
        for path in pictures_of(SMALL):
            _, patient, name = path.split("/")
            bags.setdefault(patient, []).append(name)
        for names in bags.values():
            assert SMALL.min_cells <= len(names) <= SMALL.max_cells
            assert names == [f"{number:06d}.jpg" for number in range(len(names))]

    def test_pictures_are_rgb_jpegs_of_the_asked_size_without_metadata(self) -> None:
        for picture in pictures_of(change(SMALL, picture_size=80)).values():
            image = Image.open(io.BytesIO(picture))
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (80, 80))
            assert not image.getexif()
            assert "comment" not in image.info

    def test_labels_of_test_patients_are_hidden_or_shown(self) -> None:
        hidden, shown = table_of(SMALL), table_of(change(SMALL, test_labels="shown"))
        assert Counter(hidden["LABEL"]) == {"0": 3, "1": 4, "-1": 3}
        assert set(shown["LABEL"]) == {"0", "1"}
        known = hidden["LABEL"] != "-1"
        assert hidden[known].equals(shown[known])
        assert hidden.drop(columns="LABEL").equals(shown.drop(columns="LABEL"))

    def test_a_cohort_of_two_without_test_patients_works(self) -> None:
        tiny = change(SMALL, train_reactive=1, train_tumoral=1, test=0, min_cells=1, max_cells=1)
        assert sorted(table_of(tiny)["LABEL"]) == ["0", "1"]
        assert len(pictures_of(tiny)) == 2


class TestQuirks:
    def test_birth_dates_have_two_formats(self) -> None:
        births = table_of(LARGE)["DOB"]
        slashes = births.str.fullmatch(r"[1-9]\d?/[1-9]\d?/\d{4}")
        dashes = births.str.fullmatch(r"\d{2}-\d{2}-\d{4}")
        assert (slashes ^ dashes).all()
        assert 0.05 < dashes.mean() < 0.25

    def test_birth_dates_parse_by_the_separator(self) -> None:
        ages = [(date(2021, 3, 1) - parse(text)).days / 365.25 for text in table_of(LARGE)["DOB"]]
        assert min(ages) >= 17.9
        assert max(ages) <= 101.1
        # Each format alone shows its order: a day above 12 stands where the rule says.
        days = {"/": 1, "-": 0}
        for mark, at in days.items():
            texts = [text for text in table_of(LARGE)["DOB"] if mark in text]
            assert any(int(text.split(mark)[at]) > 12 for text in texts)

    @pytest.mark.parametrize("simulation", [SMALL, LARGE])
    def test_one_sex_is_in_lower_case(self, simulation: SimulationParameters) -> None:
        sexes = Counter(table_of(simulation)["GENDER"])
        assert sexes["f"] + sexes["m"] == 1
        assert set(sexes) <= {"F", "M", "f", "m"}

    @pytest.mark.parametrize("seed", range(5))
    def test_a_pair_shares_birth_date_and_sex(self, seed: int) -> None:
        table = table_of(change(SMALL, seed=seed))
        pairs = Counter(zip(table["DOB"].map(parse), table["GENDER"].str.upper(), strict=True))
        assert sorted(pairs.values())[-2:] == [1, 2]

    def test_values_do_not_pile_up_at_a_limit(self) -> None:
        table = table_of(LARGE)
        assert Counter(table["DOB"].map(parse)).most_common(1)[0][1] <= 3
        counts = table["LYMPH_COUNT"].astype(float)
        assert ((counts == counts.min()) | (counts == counts.max())).sum() <= 4

    def test_counts_are_skewed_and_within_the_reference(self) -> None:
        texts = table_of(LARGE)["LYMPH_COUNT"]
        assert all(re.fullmatch(r"\d+\.\d{1,2}", text) for text in texts)
        counts = texts.astype(float)
        assert counts.between(2.28, 295).all()
        assert counts.mean() > 1.5 * counts.median()


class TestNothingButCellsAndClinicalValuesCarriesTheClass:
    def test_bag_size(self) -> None:
        patients = plan_patients(LARGE)
        sizes = [patient.cell_count for patient in patients]
        assert tells_nothing(sizes, table_of(LARGE)["LABEL"])

    def test_bag_sizes_vary_and_are_skewed(self) -> None:
        sizes = np.array([patient.cell_count for patient in plan_patients(LARGE)])
        assert sizes.min() >= 16
        assert sizes.max() <= 198
        assert 45 < np.median(sizes) < 85  # 66 in the challenge
        assert sizes.max() > 150

    def test_date_format_row_order_and_id(self) -> None:
        table = table_of(LARGE)
        assert tells_nothing(table["DOB"].str.contains("-"), table["LABEL"])
        assert tells_nothing(table[""].astype(int), table["LABEL"])
        assert tells_nothing(table["ID"].str[1:].astype(int), table["LABEL"])
        assert tells_nothing(table["GENDER"].str.upper() == "M", table["LABEL"])

    def test_subsets_are_mixed_over_ids(self) -> None:
        numbers = [patient.number for patient in plan_patients(LARGE) if patient.subset == "test"]
        assert np.mean(numbers) == pytest.approx(500, abs=70)

    def test_test_patients_have_the_proportion_of_training_patients(self) -> None:
        test = [patient.label for patient in plan_patients(LARGE) if patient.subset == "test"]
        assert len(test) == 200
        assert np.mean(test) == pytest.approx(500 / 800, abs=0.11)

    def test_the_plan_says_what_is_drawn(self) -> None:
        patients = plan_patients(SMALL)
        drawn = Counter(path.split("/")[1] for path in pictures_of(SMALL))
        assert drawn == {f"P{patient.number}": patient.cell_count for patient in patients}


class TestCellSignal:
    @staticmethod
    def draw_as(label: int, cell_signal: float) -> list[bytes]:
        simulation = change(SMALL, cell_signal=cell_signal)
        patient = replace(plan_patients(simulation)[0], label=label)
        slide = cohort._draw_slide(patient.number, simulation.seed)
        return [cohort._draw_picture(patient, k, slide, simulation) for k in range(4)]

    def test_at_0_a_label_changes_no_byte(self) -> None:
        assert self.draw_as(0, 0.0) == self.draw_as(1, 0.0)

    @pytest.mark.parametrize("cell_signal", [0.3, 1.0])
    def test_above_0_it_does(self, cell_signal: float) -> None:
        assert self.draw_as(0, cell_signal) != self.draw_as(1, cell_signal)

    @staticmethod
    def spreads(cell_signal: float) -> dict[str, float]:
        """Mean over patients of the relative spread of nucleus areas within the bag, by label."""
        simulation = change(
            SMALL, train_reactive=10, train_tumoral=10, test=0, min_cells=12, max_cells=12
        )
        table, pictures = simulate_cohort(change(simulation, cell_signal=cell_signal))
        areas: dict[str, list[int]] = {}
        for path, picture in pictures:
            areas.setdefault(path.split("/")[1], []).append(nucleus_area(picture))
        spread = table["ID"].map(lambda name: np.std(areas[name]) / np.mean(areas[name]))
        return dict(spread.groupby(table["LABEL"]).mean())

    def test_at_1_reactive_bags_are_mixed_and_tumoral_ones_monotonous(self) -> None:
        spreads = self.spreads(1.0)
        assert spreads["0"] > 1.5 * spreads["1"]

    def test_at_0_bags_are_equally_mixed(self) -> None:
        spreads = self.spreads(0.0)
        assert 0.7 < spreads["0"] / spreads["1"] < 1.4


class TestClinicalSignal:
    @staticmethod
    def measures(clinical_signal: float) -> tuple[pd.Series, pd.Series, pd.Series]:
        table = table_of(change(LARGE, clinical_signal=clinical_signal))
        ages = table["DOB"].map(lambda text: (date(2021, 3, 1) - parse(text)).days / 365.25)
        return ages, table["LYMPH_COUNT"].astype(float), table["LABEL"]

    def test_at_0_labels_change_nothing_else(self) -> None:
        first = change(SMALL, clinical_signal=0.0, test=0, train_reactive=2, train_tumoral=8)
        second = change(first, train_reactive=8, train_tumoral=2)
        columns = ["ID", "GENDER", "DOB", "LYMPH_COUNT"]
        assert table_of(first)[columns].equals(table_of(second)[columns])

    def test_at_0_age_and_count_carry_no_information(self) -> None:
        ages, counts, labels = self.measures(0.0)
        assert tells_nothing(ages, labels)
        assert tells_nothing(counts, labels)

    def test_at_1_tumoral_patients_are_older_with_higher_counts(self) -> None:
        ages, counts, labels = self.measures(1.0)
        assert auc(ages, labels) > 0.7
        assert auc(counts, labels) > 0.7

    def test_at_1_the_classes_overlap(self) -> None:
        for values in self.measures(1.0)[:2]:
            labels = self.measures(1.0)[2]
            reactive, tumoral = values[labels == "0"], values[labels == "1"]
            assert auc(values, labels) < 0.97
            assert (tumoral < reactive.quantile(0.75)).mean() > 0.05
            assert (reactive > tumoral.quantile(0.10)).mean() > 0.05

    def test_between_it_grows(self) -> None:
        areas = [auc(self.measures(signal)[1], self.measures(signal)[2]) for signal in (0, 0.5, 1)]
        assert areas == sorted(areas)
