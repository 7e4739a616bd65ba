"""The nodes of ssl_pretrain, for every pretext task, on a store of a few random pictures."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from kedro.config import OmegaConfigLoader

from lymphocytosis import schemas
from lymphocytosis.parameters import JOINT_EMBEDDING, check_parameters
from lymphocytosis.pipelines.embed.nodes import embed_cells
from lymphocytosis.pipelines.ssl_pretrain.nodes import (
    plot_pretrain_history,
    plot_reconstructions,
    pretrain_encoder,
)
from lymphocytosis.pretext.task import name_of_loss
from lymphocytosis.progress import Progress
from lymphocytosis.settings import CONFIG_LOADER_ARGS

CONF = Path(__file__).parents[2] / "conf"
KINDS = ["autoencoder", "frozen", *JOINT_EMBEDDING, "igpt"]
VIEWS = ["original", "horizontal"]
PATIENTS = pd.DataFrame({"patient_id": ["P1", "P2", "P3"], "subset": ["train"] * 2 + ["test"]})


@pytest.fixture(scope="module")
def store(store_of, image_parameters):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 40, 40, 3), dtype=np.uint8)
    records = pd.DataFrame(
        {
            "patient_id": ["P1", "P1", "P2", "P2", "P3", "P3"],
            "image_id": [f"{k}.png" for k in range(6)],
            "sha256": "",
            "row": pd.array(range(6), dtype="Int64"),
        }
    )
    return store_of(pixels, records, image_parameters())


@pytest.fixture(scope="module")
def run(store, tmp_path_factory):
    """A function that runs the node for a task."""
    weights = tmp_path_factory.mktemp("weights") / "test_efficientnet.pth"
    torch.manual_seed(0)
    torch.save(timm.create_model("test_efficientnet").state_dict(), weights)

    def pretrain(name, earlier=None, **pretext):
        if name in JOINT_EMBEDDING:
            pytest.importorskip("lightly", reason="needs the extra ssl")
        changes = {
            "pretext": {"name": name, "epochs": 2, **pretext},
            "encoder": {"weights": str(weights)},
            "image": {"size": 40},
        }
        loader = OmegaConfigLoader(
            conf_source=str(CONF), env="demo", runtime_params=changes, **CONFIG_LOADER_ARGS
        )
        blocks = check_parameters(loader["parameters"])
        made = pretrain_encoder(
            store, store.records, PATIENTS, earlier, blocks.encoder, blocks.pretext, blocks.compute,
            0, Progress(None),
        )  # fmt: skip
        return blocks, *made

    return pretrain


@pytest.mark.parametrize("name", KINDS)
def test_each_task_gives_an_encoder_that_embeds_a_history_and_figures(run, store, name):
    blocks, packed, history, shown, _ = run(name)
    (table,) = embed_cells(store, packed, None, VIEWS, blocks.compute, Progress(None))
    assert table.num_rows == 6 * len(VIEWS)
    assert table.schema.field("small").type.list_size == blocks.encoder.small_dim
    assert np.isfinite(np.stack(table["large"].to_pylist())).all()
    assert packed["parameters"]["pretext"]["name"] == name
    assert list(schemas.pretrain_history.validate(history)["epoch"]) == (
        [] if name == "frozen" else [1, 2]
    )
    assert np.array_equal(shown["original"], store[[0, 1, 3, 5]])
    figure = plot_reconstructions(shown, store.records, PATIENTS, blocks.pretext)
    assert len(figure.axes) == 4 * len(shown)
    # Whose they are; and of reconstructions the error, that of the trained pictures' loss.
    records = store.records.iloc[[0, 1, 3, 5]]
    assert [axis.get_title("left") for axis in figure.axes[:4]] == [
        f"{row.patient_id}, {row.image_id}" for row in records.itertuples()
    ]
    errors = [axis.get_xlabel() for axis in figure.axes[4:]]
    if name == "autoencoder":
        last = np.square(shown["epoch 2"] / 255 - shown["original"] / 255)
        assert errors[-4:] == [f"error {error:.4f}" for error in last.mean(axis=(1, 2, 3))]
    else:
        assert set(errors) <= {""}
    (axis,) = plot_pretrain_history(history, blocks.pretext).axes
    assert axis.get_ylabel() == name_of_loss(name)


def test_a_longer_training_goes_on_from_a_finished_one(run, caplog):
    def of(made):
        _, packed, history, _, training = made
        return packed["state_dict"], history, training

    at_once, whole, _ = of(run("autoencoder", epochs=3))
    _, _, training = of(run("autoencoder", epochs=2))
    caplog.set_level("INFO")
    state, history, _ = of(run("autoencoder", training, epochs=3))
    assert "goes on from a finished training of 2 epochs" in caplog.text
    assert history.equals(whole)
    assert all(torch.equal(state[name], value) for name, value in at_once.items())
    # One that was trained otherwise, or as long, is no beginning.
    caplog.clear()
    run("autoencoder", training, epochs=3, batch_size=2)
    run("autoencoder", training, epochs=2)
    assert "finished training" not in caplog.text


def test_one_epoch_shows_in_the_history(pretext_parameters):
    for losses in ([0.3], [0.3, 0.2]):
        history = pd.DataFrame({"epoch": range(1, len(losses) + 1), "loss": losses})
        figure = plot_pretrain_history(history, pretext_parameters())
        figure.draw_without_rendering()
        (line,) = figure.axes[0].lines
        assert (line.get_marker() == "o") == (len(losses) == 1)


def test_nothing_is_trained_for_frozen_features(run):
    blocks, packed, _, shown, training = run("frozen")
    weights = torch.load(blocks.encoder.weights, weights_only=True)
    for name, values in packed["state_dict"].items():
        if name.startswith("encoder.model."):
            assert torch.equal(values, weights[name.removeprefix("encoder.model.")])
    assert list(shown) == ["original"]
    assert training == {}
