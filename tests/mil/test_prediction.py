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
    load_suite,
    predict_patient,
    predict_patients,
    weigh_cells,
)
from lymphocytosis.mil.suite import train_suite
from lymphocytosis.progress import Progress

FABRIC = Fabric(accelerator="cpu", devices=1)
TRAIN, VALIDATION = np.arange(16), np.arange(16, 24)


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

    def test_every_cell_has_its_share_in_its_patients_prediction(self, suite_of):
        patients, bags, _, classifiers, _ = suite_of(aggregator="attention")
        suite = load_suite(classifiers)
        asked = suite, bags, patients, {1: VALIDATION, 2: np.arange(8)}, FABRIC
        predictions, cells = predict_patients(*asked), weigh_cells(*asked)
        assert list(cells.columns) == ["patient_id", "image_id", "split", "view", "weight"]
        keys = ["patient_id", "split", "view"]
        sums = cells.groupby(keys)["weight"].sum()
        assert set(sums.index) == set(predictions.set_index(keys).index)
        np.testing.assert_allclose(sums, 1, rtol=1e-5)
        # A patient's own cells, each once a split and view, whatever order they stand in.
        assert not cells.duplicated([*keys, "image_id"]).any()
        count = patients.set_index("patient_id")["cell_count"]
        owners = sums.index.get_level_values("patient_id")
        assert cells.groupby(keys).size().tolist() == count.loc[owners].tolist()
        assert predictions.equals(
            predictions.sort_values(["patient_id", "split"], kind="stable", ignore_index=True)
        )

    def test_a_cells_weight_is_the_one_of_its_own_picture(self, cohort, mil):
        patients, table = cohort()
        # Pictures come shuffled, under names that tell their vectors.
        table = table.take(np.random.default_rng(0).permutation(len(table)))
        names = [f"{v[0].as_py():.9f}" for v in table["embedding"]]
        table = table.set_column(1, "image_id", pa.array(names))
        bags = gather_bags(table, patients)
        splits = pd.DataFrame(
            {
                "split": 1,
                "patient_id": patients["patient_id"],
                "role": ["train"] * 16 + ["validation"] * 8,
            }
        )
        content, _ = train_suite(
            bags, patients, splits, mil(aggregator="attention"), 0, FABRIC, Progress(None)
        )
        suite = load_suite(content)
        cells = weigh_cells(suite, bags, patients, {1: VALIDATION}, FABRIC)
        vectors = {n: v.as_py() for n, v in zip(names, table["embedding"], strict=True)}
        model = suite.classifiers[1].eval()
        for _, mine in cells.groupby(["patient_id", "view"]):
            instances = torch.tensor([vectors[name] for name in mine["image_id"]])
            with torch.no_grad():
                scores = model.aggregator.scores(model.special_embedding(instances))
            np.testing.assert_allclose(mine["weight"], scores.softmax(dim=0), rtol=1e-4)

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
        table, weights = predict_patients(*asked), weigh_cells(*asked)
        assert list(table.columns) == ["patient_id", "split", "view", "probability"]
        assert list(weights.columns) == ["patient_id", "image_id", "split", "view", "weight"]
        assert table.empty
        assert weights.empty

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
            schemas.predictions.validate(predict_patients(*asked))
            assert (weigh_cells(*asked)["weight"] == 1).all()


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def wide_suite(settings, dim=300, components=40):
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
    views = ("original", "horizontal", "vertical")
    return Suite(classifiers, whitening, width, views, "encoder", "splits")


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
            return predict_patients(suite, bags, some, asked, FABRIC), bags

        together, _ = predict(range(12))
        backwards, _ = predict(range(11, -1, -1))
        assert backwards.equals(together)
        for number in range(12):
            alone, bags = predict([number])
            expected = together[together["patient_id"] == patients["patient_id"][number]]
            assert alone.equals(expected.reset_index(drop=True))
            probability, logits = predict_patient(suite, bags.instances, bags.clinical[0], FABRIC)
            assert probability.ravel().tolist()[: len(alone)] == alone["probability"].to_list()
            np.testing.assert_allclose(probability, 1 / (1 + np.exp(-logits)))
