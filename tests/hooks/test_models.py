from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from kedro.framework.startup import bootstrap_project
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline, node

from lymphocytosis.datasets.bundle_folder import BundleDataset
from lymphocytosis.datasets.state_dict import StateDictDataset
from lymphocytosis.errors import UserError
from lymphocytosis.hooks.models import check_models
from lymphocytosis.parameters import Parameters

PROJECT = Path(__file__).parents[2]
bootstrap_project(PROJECT)
ASKED = yaml.safe_load((PROJECT / "conf/base/parameters.yml").read_text()) | {
    "cohort_dir": "cohort", "workspace": "out", "runs_dir": "runs",
}  # fmt: skip
RECORDS = {
    "autoencoder": ("encoder", "image", "pretext", "seed"),
    "large_classifiers": ("mil", "views"),
    "pictures_classifiers": ("encoder", "image", "mil", "bag_images", "views", "seed"),
}


@pytest.fixture
def check(tmp_path):
    """A function that checks a run which uses models of base's parameters; it takes changes."""

    def run(entry, changes, records=None, used_by="ensemble"):
        blocks = Parameters(**ASKED).model_dump(mode="json")
        if records is None:
            records = {name: blocks[name] for name in RECORDS[entry]}
        model = StateDictDataset(filepath=str(tmp_path / f"{entry}.pt"))
        model.save({"parameters": records, "state_dict": {"weight": torch.zeros(1)}})
        asked = deepcopy(ASKED)
        for key, value in changes.items():
            *blocks, name = key.split(".")
            block = asked
            for part in blocks:
                block = block[part]
            block[name] = value
        use = Pipeline([node(lambda model: 1, entry, "used", name="use", namespace=used_by)])
        return check_models(use, DataCatalog({entry: model}), Parameters(**asked), {})

    return run


@pytest.mark.parametrize(
    ("entry", "key", "value", "maker"),
    [
        ("autoencoder", "encoder.name", "resnet18", "ssl_pretrain"),
        ("autoencoder", "encoder.small_dim", 8, "ssl_pretrain"),
        ("autoencoder", "image.crop", 112, "ssl_pretrain"),
        ("autoencoder", "image.size", 112, "ssl_pretrain"),
        ("autoencoder", "pretext.jitter.blur", 2.0, "ssl_pretrain"),
        ("large_classifiers", "mil.aggregator", "gated_attention", "classify"),
        ("large_classifiers", "mil.scheduler.patience", 1, "classify"),
        ("large_classifiers", "views", ["original"], "classify"),
        ("pictures_classifiers", "bag_images.epochs", 3, "bag_images"),
        ("pictures_classifiers", "encoder.name", "resnet18", "bag_images"),
    ],
)
def test_what_a_loaded_model_contradicts_is_refused_by_name(check, entry, key, value, maker):
    check(entry, {})
    with pytest.raises(UserError) as refused:
        check(entry, {key: value})
    message = str(refused.value)
    assert message.startswith(f"{key} is {value!r} for this run and ")
    assert f" in the model {entry}. " in message
    assert message.endswith(f"kedro run --pipelines={maker}")
    assert "\n" not in message


def test_many_are_told_by_the_first(check):
    changes = {"encoder.name": "resnet18", "encoder.weights": "random", "encoder.small_dim": 8,
               "image.crop": 112, "image.size": 112, "pretext.epochs": 3}  # fmt: skip
    told = r"^image\.crop is 112 .*; encoder\.small_dim .* in the model autoencoder; and 1 more\."
    with pytest.raises(UserError, match=told):
        check("autoencoder", changes)


@pytest.mark.parametrize(
    "free",
    [{"seed": 5}, {"image.other_mode": "refuse"}, {"mil.epochs": 3}, {"views": ["vertical"]}],
)
def test_what_the_model_does_not_decide_is_free(check, free):
    assert not check("autoencoder", free) & free.keys()


@pytest.mark.parametrize(
    "records", [None, {}, {"encoder": "a digest"}, {"mil": 3}, {"unknown": {"epochs": 3}}, 7]
)
def test_what_a_model_does_not_record_is_not_compared(check, records):
    check("large_classifiers", {}, records or {})


def test_models_for_pictures_only_are_that_in_a_run_of_both(check):
    mil = Parameters(**ASKED).model_dump(mode="json")["mil"] | {"inputs": "pictures"}
    check("large_pictures_only_classifiers", {}, {"mil": mil})
    with pytest.raises(UserError, match=r"mil\.inputs"):
        check("large_classifiers", {}, {"mil": mil})
    with pytest.raises(UserError, match=r"mil\.epochs is 3 .*kedro run --pipelines=bundle"):
        check("large_pictures_only_classifiers", {"mil.epochs": 3}, {"mil": mil})


def test_where_each_fold_trains_an_encoder_its_parameters_are_the_runs(check):
    changes = {"evaluation.pretraining": "each_fold", "encoder.name": "resnet18"}
    check("autoencoder", changes, used_by="evaluate")
    with pytest.raises(UserError, match=r"encoder\.name"):
        check("autoencoder", changes, used_by="embed")


class TestBundle:
    """What `predict` was given and what was not."""

    BLOCKS = Parameters(**ASKED).model_dump(mode="json")

    @pytest.fixture
    def check(self, tmp_path, monkeypatch):
        def load(dataset):
            loaded.append(dataset)
            packed = {name: self.BLOCKS[name] for name in ("encoder", "image", "pretext", "seed")}
            trained = {"mil": self.BLOCKS["mil"], "views": self.BLOCKS["views"], "encoder": "x"}
            return SimpleNamespace(
                autoencoder={"parameters": packed},
                classifiers={"large": {"parameters": trained}},
                ensemble=parameters.ensemble,
                compute=parameters.compute,
            )

        loaded = []
        monkeypatch.setattr(BundleDataset, "load", load)
        parameters = Parameters(**ASKED)
        use = Pipeline([node(lambda bundle: 1, "bundle", "used", name="use", namespace="predict")])
        catalog = DataCatalog({"bundle": BundleDataset(filepath=str(tmp_path))})

        def run(given, **changes):
            asked = Parameters(**{**self.BLOCKS, **changes})
            compared = check_models(use, catalog, asked, given)
            return compared, loaded

        return run

    def changed(self, block, **values):
        return {block: {**self.BLOCKS[block], **values}}

    def test_parameters_yml_alone_is_not_compared(self, check):
        given = {"cohort_dir": "cohort", "workspace": "out", "bundle": "b"}
        assert check(given, **self.changed("image", crop=112)) == (set(), [])

    @pytest.mark.parametrize(
        ("block", "values", "told"),
        [
            ("image", {"crop": 112}, "image.crop is 112 for this run and 224 in the bundle."),
            ("compute", {"embed_batch_size": 7}, "compute.embed_batch_size is 7 for this run and"),
            ("ensemble", {"size": "small"}, "ensemble.size is 'small' for this run and 'large'"),
            ("mil", {"aggregator": "max"}, "mil.aggregator is 'max' for this run and 'mean'"),
        ],
    )
    def test_what_was_given_is(self, check, block, values, told):
        same = {block: {name: self.BLOCKS[block][name] for name in values}}
        assert check(same)[0] == {f"{block}.{name}" for name in values}
        with pytest.raises(UserError) as refused:
            check({block: values}, **self.changed(block, **values))
        assert str(refused.value).startswith(told)
        assert str(refused.value).endswith("Leave what differs out of --params: a bundle brings "
                                           "its own values.")  # fmt: skip

    @pytest.mark.parametrize(
        ("block", "values"),
        [
            ("image", {"other_size": "refuse"}),
            ("compute", {"accelerator": "cpu"}),
            ("encoder", {"weights": "random"}),
        ],
    )
    def test_what_the_run_decides_is_free(self, check, block, values):
        assert check({block: values}, **self.changed(block, **values))[0] == set()
