"""Flags of patients unlike the training patients, on made-up and on simulated ones."""

import io
import re
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageFilter
from scipy.stats.mstats import hdquantiles

from lymphocytosis.decision import unlike
from lymphocytosis.decision.spaces import fit_space
from lymphocytosis.decision.unlike import (
    MEASURED,
    TRAITS,
    Reference,
    find_odd_cells,
    find_unlike,
    fit_reference,
)
from lymphocytosis.errors import UserError
from lymphocytosis.imaging.measures import MEASURES, measure_pictures
from lymphocytosis.simulation.cells import CellTraits, StainTraits, draw_cell

WIDTH = 12


@dataclass(frozen=True)
class Cohort:
    patients: pd.DataFrame
    cells: pd.DataFrame
    measures: np.ndarray
    instances: np.ndarray

    def fit(self):
        return fit_reference(self.patients, self.cells, self.measures, self.instances)

    def arguments(self, i):
        """What `find_unlike` takes of the i-th patient."""
        patient = self.patients.iloc[i]
        rows = (self.cells["patient_id"] == patient["patient_id"]).to_numpy()
        share = (self.cells["status"][rows] == "converted").mean()
        values = (patient["age_years"], patient["lymphocyte_count"])
        clinical = (None if pd.isna(value) else float(value) for value in values)
        return self.measures[rows], self.instances[rows], float(share), *clinical


def made_up(n, seed=0):
    """Patients of one source: each trait has a spread between patients and one between cells."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(8, 40, n)
    ids = [f"P{i:03d}" for i in range(n)]
    mix = np.random.default_rng(99).normal(size=(WIDTH, WIDTH))

    def vectors(width):
        own = np.repeat(rng.normal(size=(n, width)) * rng.gamma(5, 0.2, (n, 1)), sizes, axis=0)
        return own + rng.standard_t(6, (sizes.sum(), width))

    return Cohort(
        pd.DataFrame(
            {
                "patient_id": ids,
                "person": ids,
                "age_years": rng.normal(60, 12, n).round(),
                "lymphocyte_count": np.exp(rng.normal(3, 1, n)),
            }
        ),
        pd.DataFrame({"patient_id": np.repeat(ids, sizes), "status": "taken"}),
        vectors(len(MEASURES)).astype(np.float32),
        (vectors(WIDTH) @ mix).astype(np.float32),
    )


@pytest.fixture(scope="module")
def cohort():
    return made_up(60)


@pytest.fixture(scope="module")
def reference(cohort):
    return cohort.fit()


def test_measures_are_those_of_the_pictures():
    assert MEASURED == MEASURES


class TestFalseAlarms:
    def test_about_five_percent_of_new_patients_of_the_same_source_are_flagged(self):
        new = made_up(150, seed=1)
        flagged = []
        for seed in (2, 3, 4):
            reference = made_up(100, seed=seed).fit()
            flagged += [bool(find_unlike(reference, *new.arguments(i))) for i in range(150)]
        assert 0.02 < np.mean(flagged) < 0.09

    def test_about_one_percent_of_their_cells_are_odd(self, reference):
        new = made_up(100, seed=1)
        odd = np.concatenate([find_odd_cells(reference, new.arguments(i)[1]) for i in range(100)])
        assert 0.003 < odd.mean() < 0.04

    def test_the_limit_is_its_definition(self, cohort, reference):
        """By plain loops and SciPy's quantiles, for the traits that need no space."""
        known = ["cells", "converted", "age", "count", *MEASURED]
        count = cohort.cells["patient_id"].value_counts()
        rows = []
        for i, patient in cohort.patients.iterrows():
            medians = np.median(cohort.arguments(i)[0], axis=0)
            clinical = [patient["age_years"], np.log(patient["lymphocyte_count"])]
            rows.append([np.log(count[patient["patient_id"]]), 0.0, *clinical, *medians])
        values = np.array(rows)
        at = [[trait.name for trait in TRAITS].index(name) for name in known]
        expected = np.array([hdquantiles(column, (0.05, 0.5, 0.95)) for column in values.T]).T
        np.testing.assert_allclose(reference.levels[1:4, at], expected, rtol=1e-6, atol=1e-9)

    def test_the_limits_are_their_definition(self, cohort, reference, monkeypatch):
        """From the traits that `fit_reference` measures, by plain loops."""
        seen = []
        measure = unlike._traits
        monkeypatch.setattr(
            unlike, "_traits", lambda *given: seen.append(measure(*given)) or seen[-1]
        )
        cohort.fit()
        traits = np.array(seen)
        groups = np.split(
            np.arange(len(TRAITS)), [2, 4, 4 + len(MEASURES) + 1, 4 + len(MEASURES) + 2]
        )
        unlikeness = np.array(
            [plain_unlikeness(traits[i], np.delete(traits, i, axis=0)) for i in range(60)]
        )
        by_group = np.array([[row[group].max() for group in groups] for row in unlikeness])
        ratios = [
            max(by_group[i] / plain_scales(np.delete(by_group, i, axis=0))) for i in range(60)
        ]
        # 57.95 = 0.95 (60 + 1), rounded up: two of sixty patients lie above.
        expected = sorted(ratios)[57] * plain_scales(by_group)
        for group, limit in zip(groups, expected, strict=True):
            np.testing.assert_allclose(reference.limits[group], limit, rtol=1e-6)


def plain_unlikeness(own, others):
    found = []
    for value, column, trait in zip(own, others.T, TRAITS, strict=True):
        ordered = np.sort(column)
        tail = ordered[-5:].mean() if value > np.median(ordered) else ordered[:5].mean()
        low, middle, high = hdquantiles(ordered, (0.05, 0.5, 0.95)).tolist()
        judged = trait.high if value > middle else trait.low
        if trait.name in ("age", "count"):
            start = high if value > middle else low
            judged = judged and not low < value < high
        else:
            start = middle
        far = abs(value - start) / max(abs(tail - start), trait.least) if judged else 0
        found.append(np.log1p(far) if trait.name in ("age", "count") else far)
    return np.array(found)


def plain_scales(by_group):
    return np.array([max(0.5, float(hdquantiles(column, 0.95)[0])) for column in by_group.T])


class TestFlags:
    @pytest.mark.parametrize(
        ("change", "name", "words"),
        [
            (lambda m, x, c, a, n: (m[:1], x[:1], c, a, n), "cells", "fewer cells"),
            (lambda m, x, c, a, n: (m, x, 1.0, a, n), "converted", "share: 1, at most 0 in 95 %"),
            (
                lambda m, x, c, a, n: (m, x, c, 5.0, n),
                "age",
                "lower age .* age in years: 5, .* in 90 %",
            ),
            (
                lambda m, x, c, a, n: (m, x, c, a, 9000.0),
                "count",
                "higher count .* 9000, .* in 90 %",
            ),
            (lambda m, x, c, a, n: (m - 12, x, c, a, n), "brightness", "darker background"),
            (lambda m, x, c, a, n: (m - 9, x, c, a, n), "look", "stranger .*; most of all, "),
            (lambda m, x, c, a, n: (m * 30, x, c, a, n), "odd_pictures", "odd pictures: 0.[4-9]"),
            (lambda m, x, c, a, n: (m, x * 30, c, a, n), "embedding", "stranger cells"),
            (lambda m, x, c, a, n: (m, x * 9, c, a, n), "odd_cells", "more odd cells"),
        ],
    )
    def test_say_what_is_unlike(self, cohort, reference, change, name, words):
        assert not find_unlike(reference, *cohort.arguments(0))
        flags = {f.name: f for f in find_unlike(reference, *change(*cohort.arguments(0)))}
        assert flags[name].score > 1
        assert re.search(words, flags[name].text)

    def test_come_with_the_worst_first(self, cohort, reference):
        measures, instances, share, _, _ = cohort.arguments(0)
        scores = [f.score for f in find_unlike(reference, measures + 5, instances, share, 1, 9e4)]
        assert len(scores) > 3
        assert scores == sorted(scores, reverse=True)

    def test_many_cells_and_few_conversions_are_nothing_unusual(self, cohort, reference):
        measures, instances, share, age, count = cohort.arguments(0)
        often = (np.tile(measures, (20, 1)), np.tile(instances, (20, 1)))
        names = {f.name for f in find_unlike(reference, *often, share, age, count)}
        assert names.isdisjoint({"cells", "converted"})

    def test_what_is_missing_is_not_flagged(self, cohort, reference):
        measures, instances, share, _, _ = cohort.arguments(0)
        assert not find_unlike(reference, measures, instances, share, None, None)

    def test_do_not_depend_on_the_order_of_cells(self, cohort, reference):
        measures, instances, *others = cohort.arguments(0)
        order = np.random.default_rng(0).permutation(len(measures))
        there = find_unlike(reference, measures + 4, instances, *others)
        assert there == find_unlike(reference, measures[order] + 4, instances[order], *others)
        odd = find_odd_cells(reference, instances * 2)
        np.testing.assert_array_equal(find_odd_cells(reference, instances[order] * 2), odd[order])

    def test_one_cell_is_judged(self, cohort, reference):
        measures, instances, *others = cohort.arguments(0)
        flags = find_unlike(reference, measures[:1], instances[:1], *others)
        assert "cells" in {flag.name for flag in flags}
        assert all(np.isfinite(flag.score) for flag in flags)


class TestReference:
    def test_does_not_depend_on_the_order_of_patients(self, cohort, reference):
        order = np.random.default_rng(0).permutation(60)
        turned = replace(cohort, patients=cohort.patients.iloc[order]).fit()
        expected = reference.arrays()
        for name, array in turned.arrays().items():
            np.testing.assert_array_equal(array, expected[name])

    def test_ignores_pictures_of_others(self, cohort):
        half = replace(cohort, patients=cohort.patients[:30])
        rows = cohort.cells["patient_id"].isin(half.patients["patient_id"]).to_numpy()
        alone = Cohort(
            half.patients,
            cohort.cells[rows].reset_index(drop=True),
            cohort.measures[rows],
            cohort.instances[rows],
        )
        expected = alone.fit().arrays()
        for name, array in half.fit().arrays().items():
            np.testing.assert_array_equal(array, expected[name])

    def test_holds_nothing_of_one_patient(self, cohort, reference):
        stored = np.concatenate([a.ravel() for a in reference.arrays().values()]).round(9)
        means = [cohort.arguments(i)[k].mean(axis=0) for i in range(60) for k in (0, 1)]
        medians = [np.median(cohort.arguments(i)[0], axis=0) for i in range(60)]
        logs = np.log(cohort.patients["lymphocyte_count"].to_numpy())
        given = [cohort.measures.ravel(), cohort.instances.ravel(), *means, *medians, logs]
        given.append(cohort.patients["lymphocyte_count"].to_numpy())
        assert not np.isin(stored, np.concatenate(given).round(9)).any()
        assert not any(len(array) == 60 for array in reference.arrays().values() if array.ndim)

    def test_goes_through_plain_arrays(self, cohort, reference):
        again = Reference.from_arrays(reference.arrays())
        changed = (cohort.arguments(0)[0] + 3, *cohort.arguments(0)[1:])
        assert find_unlike(again, *changed) == find_unlike(reference, *changed) != []
        assert again.patients == 60

    @pytest.mark.parametrize(
        ("name", "damage", "message"),
        [
            ("limits", lambda a: a * np.nan, "limits: has a value that is not finite"),
            ("limits", lambda a: a * 0, "limits: has a value that is not above 0"),
            ("patients", lambda a: a.astype(float), "patients: is float64"),
            ("look.scale", lambda a: -a, "look.scale: has a value that is not above 0"),
            ("embedding.between", lambda a: a - 9, "embedding.between: has a value below 0"),
            ("embedding.components", lambda a: a[1:], "embedding.components: is float64"),
            ("embedding.turn", lambda a: a.astype(np.float32), "embedding.turn: is float32"),
            ("levels", lambda a: a[::-1], "levels: are not in order"),
            ("levels", lambda a: a[:, :-1], "levels: is float64"),
            ("judged", lambda a: a.astype(int), "judged: is int64"),
            ("odd_from", lambda a: a[0], "odd_from: is float64"),
        ],
    )
    def test_refuses_damaged_arrays(self, reference, name, damage, message):
        arrays = reference.arrays()
        with pytest.raises(UserError, match=message):
            Reference.from_arrays(arrays | {name: damage(arrays[name])})

    def test_refuses_missing_and_strange_arrays(self, reference):
        arrays = reference.arrays()
        for name in arrays:
            with pytest.raises(UserError, match=f"{name}: is missing"):
                Reference.from_arrays({key: a for key, a in arrays.items() if key != name})
        with pytest.raises(UserError, match="more: does not belong here"):
            Reference.from_arrays(arrays | {"more": arrays["limits"]})


class TestFewPatients:
    @pytest.mark.parametrize("n", [1, 2, 4])
    def test_nobody_is_unlike_a_handful(self, n):
        cohort = made_up(n)
        reference = Reference.from_arrays(cohort.fit().arrays())
        (caution,) = reference.cautions()
        assert caution.startswith(f"With {n} training patient(s) nobody")
        assert not find_unlike(reference, *made_up(1, seed=5).arguments(0))

    @pytest.mark.parametrize(("n", "share"), [(5, "17%"), (12, "8%"), (18, "5%")])
    def test_few_give_a_limit_that_more_exceed(self, n, share):
        reference = Reference.from_arrays(made_up(n).fit().arrays())
        assert f"about {share} of patients like them" in reference.cautions()[0]
        measures, *others = made_up(1, seed=5).arguments(0)
        assert find_unlike(reference, measures + 50, *others)

    def test_enough_need_no_caution(self):
        assert made_up(19).fit().cautions() == []

    def test_a_value_that_hardly_any_has_is_not_judged(self, cohort):
        patients = cohort.patients.assign(age_years=[50.0] * 4 + [np.nan] * 56)
        reference = replace(cohort, patients=patients).fit()
        assert reference.cautions() == [
            "Not compared with training patients, too few of whom have it: age in years."
        ]
        measures, instances, share, _, count = cohort.arguments(0)
        assert not find_unlike(reference, measures, instances, share, 300.0, count)


class TestSpaces:
    def test_a_patient_of_the_source_lies_at_a_distance_of_about_one(self):
        rng = np.random.default_rng(0)
        mix = rng.normal(size=(6, 6))

        def bags(count):
            between = (3, 1, 1, 0.5, 0, 0) * rng.normal(size=(count, 1, 6))
            return (between + rng.normal(size=(count, 25, 6))) @ mix

        space = fit_space(list(bags(300)), 6)
        places = [space.place(bag) for bag in bags(300)]
        assert np.mean([place.mean**2 for place in places]) == pytest.approx(1, abs=0.15)
        assert np.mean([(p.cells**2).mean() for p in places]) == pytest.approx(1, abs=0.15)
        # With one cell, the mean varies more; that is allowed for.
        alone = [space.place(bag[:1]) for bag in bags(300)]
        assert np.mean([place.mean**2 for place in alone]) == pytest.approx(1, abs=0.15)

    def test_what_lies_outside_its_directions(self):
        rng = np.random.default_rng(0)
        bags = rng.normal(size=(20, 10, 3)) @ np.eye(3, 8)
        space = fit_space(list(bags), 3)
        assert space.place(bags[0]).rest == pytest.approx(0, abs=1e-6)
        assert space.place(bags[0] + 5 * np.eye(8)[7]).rest > 100

    def test_equal_cells_do_no_harm(self):
        space = fit_space([np.ones((3, 4)), np.ones((2, 4))], 4)
        place = space.place(np.ones((5, 4)))
        assert (place.mean, place.rest, place.cells.max()) == (0, 0, 0)


SIDE = 64


def photograph(rng, stain, cells=6):
    traits = [
        CellTraits(*rng.normal((0.15, 0.65, 0.05, 0.1, 1, 0.5), (0.01, 0.05, 0.01, 0.03, 0.1, 0.1)))
        for _ in range(cells)
    ]
    return np.stack([draw_cell(rng, traits[k], stain, 2 * SIDE) for k in range(cells)])


def kept(pictures, crop=SIDE):
    """The middle, as it would be stored."""
    edge = (2 * SIDE - crop) // 2
    middle = pictures[:, edge : 2 * SIDE - edge, edge : 2 * SIDE - edge]
    return np.stack(
        [
            np.asarray(Image.fromarray(p).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
            for p in middle
        ]
    )


def each(change):
    return lambda pictures: kept(np.stack([change(p) for p in pictures]))


def through_jpeg(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=20)
    return np.asarray(Image.open(file))


def density_times(*factors):
    return lambda p: (255 * (np.maximum(p, 1) / 255) ** np.array(factors)).astype(np.uint8)


CHANGES = {
    "brightness": each(lambda p: (0.7 * p).astype(np.uint8)),
    "white balance": each(lambda p: np.clip(p * [1.15, 1, 0.85], 0, 255).astype(np.uint8)),
    "strength of the stain": each(density_times(1.8, 1.8, 1.8)),
    "tint of the stain": each(density_times(1.3, 1, 0.7)),
    "blur": each(lambda p: np.asarray(Image.fromarray(p).filter(ImageFilter.GaussianBlur(2)))),
    "JPEG quality": each(through_jpeg),
    "grey": each(lambda p: np.repeat(p.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)),
    "zoom 0.5": lambda pictures: kept(pictures, 128),
    "zoom 1.4": lambda pictures: kept(pictures, 46),
    "black": each(np.zeros_like),
}


@pytest.fixture(scope="module")
def slides():
    """Pictures of 33 patients, before the crop."""
    rng = np.random.default_rng(0)
    return [
        photograph(
            rng,
            StainTraits(
                tuple(rng.uniform((249, 224, 198), (255, 232, 212))),
                rng.uniform(0.9, 1.12), rng.uniform(-0.05, 0.05), 60, 0.5,
                rng.uniform(0.007, 0.01),
            ),
        )
        for _ in range(33)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def simulated(slides):
    ids = [f"P{i:02d}" for i in range(25)]
    pictures = np.concatenate([kept(slide) for slide in slides[:25]])
    patients = pd.DataFrame({"patient_id": ids, "person": ids})
    return fit_reference(
        patients.assign(age_years=np.arange(45, 70), lymphocyte_count=np.arange(5.0, 30)),
        pd.DataFrame({"patient_id": np.repeat(ids, 6), "status": "taken"}),
        measure_pictures(pictures),
        embedded(pictures),
    )


class TestSimulatedPictures:
    def test_patients_of_the_same_source_are_rarely_flagged(self, slides, simulated):
        assert sum(bool(judged(simulated, kept(slide))) for slide in slides[25:]) <= 2

    @pytest.mark.parametrize("change", CHANGES)
    def test_every_change_is_found_where_it_is_strong(self, slides, simulated, change):
        found = [judged(simulated, CHANGES[change](slide)) for slide in slides[25:]]
        assert sum(map(bool, found)) >= 7


def embedded(pictures):
    """A stand-in for an encoder: colours of a coarse picture."""
    return pictures.reshape(-1, 4, SIDE // 4, 4, SIDE // 4, 3).mean(axis=(2, 4)).reshape(-1, 48)


def judged(reference, pictures):
    return find_unlike(reference, measure_pictures(pictures), embedded(pictures), 0.0, 55.0, 15.0)
