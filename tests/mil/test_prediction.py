from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from lightning_fabric import Fabric

from lymphocytosis import schemas
from lymphocytosis.errors import UserError
from lymphocytosis.mil.aggregators import AGGREGATORS
from lymphocytosis.mil.bags import gather_bags
from lymphocytosis.mil.classifiers import build_classifier
from lymphocytosis.mil.prediction import (
    Suite,
    explain_patient,
    explain_patients,
    load_suite,
    predict_patient,
    predict_patients,
)
from lymphocytosis.mil.suite import train_suite
from lymphocytosis.progress import Progress

FABRIC = Fabric(accelerator="cpu", devices=1)
TRAIN, VALIDATION = np.arange(16), np.arange(16, 24)
VIEWS = ("original", "horizontal", "vertical")


def weights_of(content):
    """The first weight in the state dict of split 1, and the dict."""
    state = content["state_dicts"][1]
    return next(iter(state)), state


def with_weight(change):
    def spoil(content):
        name, state = weights_of(content)
        state[name] = change(state[name])

    return spoil


# What may have become of a file of classifiers.
SPOILED = [
    lambda content: content.pop("parameters"),
    lambda content: content.pop("state_dicts"),
    lambda content: content.pop("whitening"),
    lambda content: content.update(parameters=None),
    lambda content: content.update(parameters={}),
    lambda content: content.update(state_dicts=[]),
    lambda content: content.update(state_dicts={1: {}, 2: {}}),
    lambda content: content["state_dicts"].clear(),
    lambda content: content["parameters"].pop("views"),
    lambda content: content["parameters"].update(in_dim=7),
    lambda content: content["state_dicts"].update({1: None}),
    lambda content: content.update(whitening={"mean": torch.zeros(3)}),
    lambda content: content.update(whitening=3),
    lambda content: content["whitening"].update(mean=torch.zeros(7)),
    lambda content: content["whitening"].update(matrix=torch.zeros(5, 2)),
    lambda content: content["whitening"]["matrix"].fill_(torch.nan),
    lambda content: content["parameters"].update(mil={}),
    lambda content: content["parameters"]["mil"].update(aggregator="median"),
    lambda content: content["parameters"]["mil"].update(aggregator="mean_and_spread"),
    lambda content: content["parameters"]["mil"].update(embedding_width=10**12),
    with_weight(lambda weight: weight[:1]),
    with_weight(lambda weight: weight.double()),
    with_weight(lambda weight: weight * torch.nan),
    with_weight(lambda weight: weight.tolist()),
    lambda content: weights_of(content)[1].pop(weights_of(content)[0]),
    lambda content: weights_of(content)[1].update(surprise=torch.zeros(1)),
]


class TestPrediction:
    def test_rebuilt_classifiers_predict_as_the_history_says(self, suite_of):
        patients, bags, _, classifiers, history = suite_of(dropout=0.3)
        asked = {1: VALIDATION, 2: np.arange(8)}
        table = predict_patients(load_suite(classifiers), bags, patients, asked, FABRIC)
        assert len(table) == 3 * (8 + 8)
        label = patients.set_index("patient_id")["label"].loc[table["patient_id"]].to_numpy()
        right = (table["probability"] >= 0.5).to_numpy() == (label == 1)
        for split in (1, 2):
            mine = (table["split"] == split).to_numpy()
            by_class = [right[mine & (label == value)].mean() for value in (0, 1)]
            kept = history[(history["split"] == split) & history["kept"]]
            assert np.mean(by_class) == pytest.approx(kept["validation_balanced_accuracy"].iloc[0])

    def test_every_cell_contributes_to_each_of_its_patients_predictions(self, suite_of):
        patients, bags, _, classifiers, _ = suite_of(aggregator="attention")
        asked = load_suite(classifiers), bags, patients, {1: VALIDATION, 2: np.arange(8)}, FABRIC
        predictions, cells = predict_patients(*asked), explain_patients(*asked)
        schemas.cell_contributions.validate(cells)
        keys = ["patient_id", "split", "view"]
        sizes = cells.groupby(keys).size()
        assert set(sizes.index) == set(predictions.set_index(keys).index)
        # A patient's own cells, each once a split and view, whatever order they stand in.
        assert not cells.duplicated([*keys, "image_id"]).any()
        count = patients.set_index("patient_id")["cell_count"]
        assert sizes.tolist() == count.loc[sizes.index.get_level_values("patient_id")].tolist()
        assert predictions.equals(
            predictions.sort_values(["patient_id", "split"], kind="stable", ignore_index=True)
        )

    @pytest.mark.parametrize("components", [0, 3])
    def test_a_contribution_is_that_of_the_cells_own_picture(self, cohort, mil, components):
        patients, table = cohort()
        # Pictures come shuffled, under names that tell their vectors.
        table = table.take(np.random.default_rng(0).permutation(len(table)))
        names = [f"{v[0].as_py():.9f}" for v in table["embedding"]]
        table = table.set_column(1, "image_id", pa.array(names))
        bags = gather_bags(table, patients)
        suite = wide_suite(mil(classifier="logistic", components=components), 5, 3, set(bags.view))
        cells = explain_patients(suite, bags, patients, {1: VALIDATION, 2: TRAIN}, FABRIC)
        vectors = dict(zip(names, table["embedding"].to_pylist(), strict=True))
        number = pd.Index(patients["patient_id"])
        for (patient, split, _), mine in cells.groupby(["patient_id", "split", "view"]):
            instances = torch.tensor([vectors[name] for name in mine["image_id"]])
            if components:
                instances = (instances - suite.whitening["mean"]) @ suite.whitening["matrix"]
            model = suite.classifiers[split]
            scaled = bags.clinical[number.get_loc(patient)] - model.clinical_mean
            weight = model.weight[0]
            own = (
                (instances - model.pooled_mean) @ weight[:-2]
                + (scaled / model.clinical_scale) @ weight[-2:]
                + model.bias
            )
            np.testing.assert_allclose(mine["contribution"], own / len(mine), rtol=1e-3, atol=1e-3)

    def test_nobody_sees_another_split_through_its_batch(self, suite_of):
        patients, bags, _, classifiers, _ = suite_of()
        suite = load_suite(classifiers)
        both = predict_patients(suite, bags, patients, {1: TRAIN, 2: TRAIN}, FABRIC)
        second = replace(suite, classifiers={2: suite.classifiers[2]})
        one = predict_patients(second, bags, patients, {2: TRAIN}, FABRIC)
        assert both[both["split"] == 2].reset_index(drop=True).equals(one)

    def test_probabilities_stay_finite_for_extreme_values(self, suite_of):
        patients, bags, _, classifiers, _ = suite_of()
        bags.instances.mul_(1e6)
        asked = {1: TRAIN, 2: TRAIN}
        table = predict_patients(load_suite(classifiers), bags, patients, asked, FABRIC)
        assert table["probability"].between(0, 1).all()

    def test_nobody_asked_for_gives_an_empty_table(self, suite_of):
        patients, bags, _, classifiers, _ = suite_of()
        nobody = np.array([], dtype=np.int64)
        asked = load_suite(classifiers), bags, patients, {1: nobody, 2: nobody}, FABRIC
        table, cells = predict_patients(*asked), explain_patients(*asked)
        schemas.predictions.validate(table)
        schemas.cell_contributions.validate(cells)
        assert table.empty
        assert cells.empty

    def test_another_kind_of_model_is_refused(self):
        with pytest.raises(UserError, match="not classifiers"):
            load_suite({"kind": "autoencoder"})

    @pytest.mark.parametrize("classifier", ["neural", "logistic"])
    @pytest.mark.parametrize("spoil", SPOILED, ids=range(len(SPOILED)))
    def test_a_file_that_was_tampered_with_is_refused(self, spoil, classifier, suite_of):
        *_, content, _ = suite_of(classifier=classifier, components=3)
        spoil(content)
        with pytest.raises(UserError, match=r"can't be rebuilt: .*Run classify again"):
            load_suite(content)

    def test_sizes_beyond_what_the_file_holds_take_no_memory(self, mil, suite_of):
        *_, content, _ = suite_of()
        # A hundred thousand million weights: 430 GB.
        content["parameters"]["mil"] |= {"hidden_widths": [16_384] * 400}
        with pytest.raises(UserError, match="can't be rebuilt"):
            load_suite(content)

    @pytest.mark.parametrize("fusion", ["concatenation", "late", "mixture"])
    @pytest.mark.parametrize("aggregator", AGGREGATORS)
    def test_bags_of_one_cell_and_constant_values_give_probabilities(
        self, cohort, mil, aggregator, fusion
    ):
        patients, table = cohort()
        first = table.to_pandas().drop_duplicates(["patient_id", "view"]).index
        patients = patients.assign(cell_count=1, age_years=50, lymphocyte_count=5.0)
        bags = gather_bags(table.take(first.to_numpy()), patients)
        roles = ["train"] * 16 + ["validation"] * 8
        splits = pd.DataFrame({"split": 1, "patient_id": patients["patient_id"], "role": roles})
        settings = mil(aggregator=aggregator, fusion=fusion, learning_rate=1e-3)
        content, _ = train_suite(bags, patients, splits, settings, 0, FABRIC, Progress(None))
        asked = load_suite(content), bags, patients, {1: np.arange(24)}, FABRIC
        for scale in (1, 1e6):
            bags.instances.mul_(scale)
            predictions, cells = predict_patients(*asked), explain_patients(*asked)
            schemas.predictions.validate(predictions)
            schemas.cell_contributions.validate(cells)
            probability = 1 / (1 + np.exp(-cells["contribution"].clip(-700)))
            np.testing.assert_allclose(predictions["probability"], probability, atol=1e-9)


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def wide_suite(settings, dim=300, components=40, views=VIEWS):
    """Two classifiers whose every weight is drawn: products so wide that their shape shows."""
    generator = torch.Generator().manual_seed(0)
    whitening = {}
    if settings.components:
        whitening = {
            "mean": torch.randn(dim, generator=generator),
            "matrix": torch.randn(dim, components, generator=generator),
        }
    width = components if whitening else dim
    classifiers = {split: build_classifier(settings, width, split).eval() for split in (1, 2)}
    for classifier in classifiers.values():
        for value in classifier.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=generator))
    return Suite(classifiers, whitening, width, tuple(views), "encoder", "splits")


EVERY_CLASSIFIER = [("neural", aggregator) for aggregator in AGGREGATORS] + [
    ("logistic", aggregator) for aggregator in ("mean", "mean_and_spread", "max")
]


class TestOnePatient:
    @pytest.mark.parametrize("components", [0, 40])
    @pytest.mark.parametrize(("classifier", "aggregator"), EVERY_CLASSIFIER)
    def test_alone_among_others_and_in_another_order_it_has_the_same_bits(
        self, cohort, mil, classifier, aggregator, components, threads
    ):
        settings = mil(
            classifier=classifier, aggregator=aggregator, components=components, embedding_width=64
        )
        suite = wide_suite(settings)
        patients, table = cohort(n=12, dim=300)

        def predict(chosen):
            some = patients.iloc[chosen].reset_index(drop=True)
            of_some = np.isin(table["patient_id"].to_pylist(), some["patient_id"])
            bags = gather_bags(table.filter(of_some), some)
            # The second split's classifier is asked about every other patient.
            asked = {1: np.arange(len(some)), 2: np.flatnonzero(np.array(chosen) % 2 == 0)}
            asked = suite, bags, some, asked, FABRIC
            return predict_patients(*asked), explain_patients(*asked), bags

        together, cells, _ = predict(range(12))
        backwards, cells_backwards, _ = predict(range(11, -1, -1))
        assert backwards.equals(together)
        assert cells_backwards.equals(cells)
        for number in range(12):
            alone, own_cells, bags = predict([number])
            for found, among in ((alone, together), (own_cells, cells)):
                mine = among["patient_id"] == patients["patient_id"][number]
                assert found.equals(among[mine].reset_index(drop=True))
            probability, logits = predict_patient(suite, bags.instances, bags.clinical[0], FABRIC)
            assert probability.ravel().tolist()[: len(alone)] == alone["probability"].to_list()
            np.testing.assert_allclose(probability, 1 / (1 + np.exp(-logits)))
            of_cells = explain_patient(suite, bags.instances, bags.clinical[0])
            assert of_cells.shape == (2, 3, patients["cell_count"][number])
            assert of_cells.ravel().tolist()[: len(own_cells)] == own_cells["contribution"].tolist()
