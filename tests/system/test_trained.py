from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
import torch

from lymphocytosis.errors import UserError
from lymphocytosis.system.trained import gather_for, load_system
from tests.system.conftest import ENSEMBLE


class TestLoading:
    def test_all_that_leads_from_pictures_to_a_decision_is_in_it(self, trained, autoencoder):
        system = trained.system
        assert system.autoencoder["parameters"]["encoder"]["name"] == "test_efficientnet"
        assert (system.image.crop, system.image.size) == (40, 40)
        assert system.views == ("original", "horizontal", "vertical")
        assert {size: set(suite.classifiers) for size, suite in system.suites.items()} == {
            "large": {1, 2}, "small": {1, 2},
        }  # fmt: skip
        assert system.suites["large"].whitening["matrix"].shape == (5, 2)
        assert system.ensemble == ENSEMBLE

    def test_an_encoder_that_the_classifiers_do_not_know_is_refused(self, trained, autoencoder):
        with pytest.raises(UserError, match=r"large classifiers .*another encoder.*Run classify"):
            load_system(autoencoder(seed=1), trained.classifiers, ENSEMBLE)

    def test_sizes_trained_on_other_views_are_refused(self, trained, autoencoder):
        classifiers = deepcopy(trained.classifiers)
        classifiers["small"]["parameters"]["views"] = ["original"]
        with pytest.raises(UserError, match=r"original and original, horizontal.*Run classify"):
            load_system(autoencoder(), classifiers, ENSEMBLE)

    @pytest.mark.parametrize("part", ["large", "small"])
    def test_damaged_classifiers_are_refused(self, trained, autoencoder, part):
        classifiers = deepcopy(trained.classifiers)
        classifiers[part]["state_dicts"][2].popitem()
        with pytest.raises(UserError, match=r"can't be rebuilt.*Run classify again"):
            load_system(autoencoder(), classifiers, ENSEMBLE)

    @pytest.mark.parametrize(
        "encoder", [{}, {"kind": "classifiers"}, {"kind": "autoencoder", "parameters": {}}]
    )
    def test_what_is_no_encoder_is_refused(self, trained, encoder):
        with pytest.raises(UserError, match=r"'autoencoder'.*Run ssl_pretrain again"):
            load_system(encoder, trained.classifiers, ENSEMBLE)


class TestGathering:
    def test_bags_are_as_wide_as_the_embeddings_whatever_the_whitening(self, trained):
        table = trained.embeddings["large"].to_pandas()
        first = table[(table["patient_id"] == "P00") & (table["view"] == "original")]
        found = trained.bags.instances[: len(first)].numpy()
        assert np.array_equal(found, np.stack(first["embedding"].to_list()))

    @pytest.mark.parametrize("made_by", [{"autoencoder": "another"}, None])
    def test_embeddings_of_another_encoder_are_refused(self, trained, made_by):
        table = trained.embeddings["large"].replace_schema_metadata(made_by)
        with pytest.raises(UserError, match=r"another encoder.*Run classify again"):
            gather_for(trained.system, "large", table, trained.patients)

    def test_embeddings_of_the_other_size_are_refused(self, trained):
        with pytest.raises(UserError, match="another encoder"):
            gather_for(trained.system, "large", trained.embeddings["small"], trained.patients)

    def test_other_views_than_those_learned_from_are_refused(self, trained):
        table = trained.embeddings["large"]
        table = table.filter(pd.Series(table["view"].to_pylist()).ne("vertical").to_numpy())
        with pytest.raises(UserError, match=r"original, horizontal, vertical, and .*original, hor"):
            gather_for(trained.system, "large", table, trained.patients)


def test_the_encoder_is_not_built_before_it_is_needed(trained, autoencoder, monkeypatch):
    monkeypatch.setattr(torch.nn.Conv2d, "__init__", None)
    load_system(autoencoder(), trained.classifiers, ENSEMBLE)
