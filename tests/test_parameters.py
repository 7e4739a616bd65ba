import copy
from collections.abc import Mapping
from datetime import date
from pathlib import Path

import pytest
import yaml
from kedro.config import OmegaConfigLoader

from lymphocytosis.errors import UserError
from lymphocytosis.parameters import check_parameters
from lymphocytosis.settings import CONFIG_LOADER_ARGS

CONF = Path(__file__).parents[1] / "conf"


def load(env, **runtime_params):
    """parameters.yml as a run in this environment has it."""
    loader = OmegaConfigLoader(
        conf_source=str(CONF), env=env, runtime_params=runtime_params, **CONFIG_LOADER_ARGS
    )
    return loader["parameters"]


BASE = load("base")


def blocks_of(values, at=()):
    """The path of each block, the whole of it first."""
    yield at
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from blocks_of(value, (*at, key))


def leaves_of(values):
    """The path of each single parameter."""
    for at in blocks_of(values):
        block = get(values, at)
        yield from ((*at, key) for key in block if not isinstance(block[key], Mapping))


def get(values, at):
    for key in at:
        values = values[key]
    return values


def changed(at, value):
    """The base parameters with one of them changed."""
    values = copy.deepcopy(BASE)
    get(values, at[:-1])[at[-1]] = value
    return values


def plain(value):
    """Typed parameters as parameters.yml would have them."""
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, tuple):
        return [plain(inner) for inner in value]
    return value.isoformat() if isinstance(value, date) else value


BLOCKS = list(blocks_of(BASE))
LEAVES = list(leaves_of(BASE))
TYPED = check_parameters(BASE).model_dump()
dotted = ".".join


class TestFiles:
    @pytest.mark.parametrize("env", ["base", "demo"])
    def test_every_value_passes_unchanged(self, env):
        values = load(env)
        assert plain(check_parameters(values).model_dump()) == values

    def test_the_demo_changes_what_its_file_names_and_nothing_else(self):
        expected = copy.deepcopy(BASE)
        for name in ("parameters.yml", "globals.yml"):
            stated = yaml.safe_load((CONF / "demo" / name).read_text())
            for at in leaves_of(stated):
                get(expected, at[:-1])[at[-1]] = get(stated, at)
        assert load("demo") == expected

    def test_base_has_the_papers_values(self):
        parameters = check_parameters(BASE)
        assert parameters.clinical.reference_date == date(2021, 3, 1)
        assert parameters.image.crop == parameters.image.size == 224
        # timm writes a model's weights, if they are named, behind a dot.
        assert parameters.encoder.name.split(".")[0] == "tf_efficientnet_b7"
        assert parameters.encoder.small_dim == 1024
        pretext = parameters.pretext
        assert (pretext.epochs, pretext.batch_size, pretext.learning_rate) == (90, 16, 0.002)
        assert set(parameters.views) == {"original", "horizontal", "vertical"}
        mil = parameters.mil
        assert (mil.epochs, mil.batch_size, mil.learning_rate) == (100, 32, 0.1)
        assert (mil.scheduler.factor, mil.scheduler.patience) == (0.8, 5)
        assert len(mil.hidden_widths) == 2
        assert (mil.monitor, mil.monitor_threshold) == ("validation", "fixed")
        assert parameters.splits.count == 5

    def test_the_command_line_wins_over_the_files(self):
        values = load("demo", cohort_dir="/elsewhere", image={"crop": 100})
        parameters = check_parameters(values)
        assert (parameters.cohort_dir, parameters.image.crop) == ("/elsewhere", 100)
        assert parameters.image.size == 64


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("mil.epohs", "epochs"),
        ("encodr", "encoder"),
        ("image.colour", ""),
        ("evaluation.wanted_sensitivity", ""),  # its name before it moved to `ensemble`
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest(key, nearest):
    told = f"{key}: no such parameter" + (f"; the nearest: {nearest}" if nearest else "")
    with pytest.raises(UserError) as caught:
        check_parameters(changed(tuple(key.split(".")), 1))
    assert f"  - {told}" in str(caught.value).splitlines()


@pytest.mark.parametrize("block", BLOCKS, ids=lambda at: dotted(at) or "all")
class TestKeys:
    def test_an_unknown_key_is_refused_by_name(self, block):
        at = (*block, "tpyo")
        with pytest.raises(UserError) as caught:
            check_parameters(changed(at, 1))
        assert f"  - {dotted(at)}: no such parameter" in str(caught.value).splitlines()

    def test_what_is_no_block_is_refused_by_name(self, block):
        if block:
            with pytest.raises(UserError, match=rf"(?m)^  - {dotted(block)}: .*, not 5$"):
                check_parameters(changed(block, 5))
        else:
            with pytest.raises(UserError, match="  - parameters: "):
                check_parameters(5)


@pytest.mark.parametrize("at", LEAVES, ids=dotted)
class TestTypes:
    def test_a_missing_parameter_is_refused_by_name(self, at):
        values = copy.deepcopy(BASE)
        del get(values, at[:-1])[at[-1]]
        with pytest.raises(UserError) as caught:
            check_parameters(values)
        assert str(caught.value).splitlines()[1:] == [f"  - {dotted(at)}: missing"]

    def test_values_of_another_type_are_refused_by_name(self, at):
        kind = type(get(TYPED, at))
        wrong = {
            bool: ["yes", 1, 0, None],
            int: ["5", True, 5.0, 5.5, None, [5]],
            float: ["0.1", True, None, float("nan"), float("inf")],
            str: [5, True, None, ["x"]],
            date: [5, 5.0, True, None, ["2021-03-01"]],
            tuple: ["original", 5, None, True],
            type(None): [5, True, 5.5, ["x"], ""],  # a path that may be left out
        }[kind]
        if at[:2] == ("clinical", "labels"):  # one word may stand alone, and be a number
            wrong = [True, None, 5.5, [True], [["x"]], []]
        for other in wrong:
            with pytest.raises(UserError) as caught:
                check_parameters(changed(at, other))
            (line,) = str(caught.value).splitlines()[1:]
            assert line.startswith(f"  - {dotted(at)}: ")
            assert line.endswith(f"not {other!r}")


class TestValues:
    @pytest.mark.parametrize(
        ("key", "values"),
        [
            ("cohort_dir", [""]),
            ("workspace", [""]),
            ("seed", [-1, 2**31]),
            ("clinical.reference_date", ["1/3/2021", "2021-02-30", "2021", 0, 20210301]),
            ("image.source_size", [0, -224, 31, 5000]),
            ("image.crop", [0, 15, 5000]),
            ("image.size", [0, 32, 1025]),
            ("image.unreadable", ["convert", "ignore"]),
            ("image.other_size", ["ignore", "CONVERT"]),
            ("image.other_mode", ["ignore", ""]),
            ("encoder.name", [""]),
            ("encoder.small_dim", [0, -1, 10_000]),
            ("pretext.name", ["rotation"]),
            ("pretext.images", ["test"]),
            ("pretext.epochs", [0, -1]),
            ("pretext.batch_size", [0, -1]),
            ("pretext.learning_rate", [0, -0.1, 2]),
            ("pretext.reduction", ["none"]),
            ("pretext.upright_weight", [0, -1]),
            ("pretext.keep", ["first"]),
            ("pretext.early_epoch", [0]),
            ("pretext.jitter.shift", [-0.01, 0.11]),
            ("pretext.jitter.scale", [-0.01, 0.21]),
            ("pretext.jitter.brightness", [-0.1, 0.9]),
            ("pretext.jitter.stain", [-0.1, 0.6]),
            ("pretext.jitter.blur", [-1, 6]),
            ("pretext.simclr.temperature", [0, -0.1]),
            ("pretext.simclr.hidden_width", [0]),
            ("pretext.vicreg.invariance", [-1]),
            ("pretext.vicreg.output_width", [0, 1]),
            ("pretext.igpt.side", [0, 1, 129]),
            ("pretext.igpt.colours", [1, 5000]),
            ("pretext.igpt.layers", [0, 1, 97]),
            ("pretext.igpt.heads", [0]),
            ("splits.source", ["random"]),
            ("splits.count", [0, -5, 101]),
            ("splits.validation_share", [0, 1, -0.1, 1.5]),
            ("mil.classifier", ["svm"]),
            ("mil.inputs", ["clinical"]),
            ("mil.components", [-1, 5000]),
            ("mil.aggregator", ["sum"]),
            ("mil.fusion", ["early"]),
            ("mil.weight_decay", [-0.1]),
            ("mil.logistic_c", [0, -1]),
            ("evaluation.source", ["random"]),
            ("evaluation.folds", [1, 101]),
            ("evaluation.repeats", [0]),
            ("evaluation.seed", [-1]),
            ("evaluation.pretraining", ["never"]),
            ("evaluation.resamples", [99]),
            ("evaluation.confidence", [0, 1]),
            ("mil.embedding_width", [0, -1]),
            ("mil.dropout", [-0.1, 1, 1.5]),
            ("mil.epochs", [0, -1]),
            ("mil.batch_size", [0, 1]),
            ("mil.learning_rate", [0, -0.1]),
            ("mil.monitor", ["train"]),
            ("mil.monitor_threshold", ["0.5"]),
            ("mil.scheduler.factor", [0, 1, 2]),
            ("mil.scheduler.patience", [-1]),
            ("ensemble.sa_variant", ["printed"]),
            ("ensemble.size", ["both"]),
            ("ensemble.wanted_sensitivity", [0, 1.1]),
            ("ensemble.error_rate", [0, 0.51]),
            ("compute.accelerator", ["gpu", "cuda:0"]),
            ("compute.precision", ["16", "float32"]),
            ("compute.embed_batch_size", [0, -1]),
            ("simulation.seed", [-1]),
            ("simulation.train_reactive", [0]),
            ("simulation.train_tumoral", [0]),
            ("simulation.test", [-1]),
            ("simulation.test_labels", ["some"]),
            ("simulation.min_cells", [0]),
            ("simulation.max_cells", [0, 2000]),
            ("simulation.picture_size", [0, 63]),
            ("simulation.cell_signal", [-0.1, 1.1]),
            ("simulation.clinical_signal", [-0.1, 1.1]),
        ],
    )
    def test_one_that_can_not_work_is_refused_by_name(self, key, values):
        for value in values:
            with pytest.raises(UserError, match=rf"(?m)^  - {key}: ") as caught:
                check_parameters(changed(key.split("."), value))
            assert str(caught.value).endswith(f"not {value!r}")

    @pytest.mark.parametrize(
        ("changes", "told"),
        [
            ({"image.crop": 300}, r"image: crop \(300\) is larger than source_size \(224\)"),
            ({"encoder.weights": "imagenet"}, "encoder: weights is 'imagenet'; allowed: random, "),
            (
                {"encoder.weights": "package"},
                "encoder: weights is 'package', and no package has weights of 'tf_efficientnet_b7",
            ),
            (
                {"pretext.name": "frozen", "encoder.weights": "random"},
                "pretext.name is 'frozen'.*Set encoder.weights to timm, package",
            ),
            (
                {"pretext.name": "simclr", "pretext.batch_size": 1},
                "pretext: name is 'simclr'.* batch_size is 1; 2 or more",
            ),
            (
                {"pretext.igpt.heads": 7},
                r"pretext.igpt: width \(512\) is no multiple of heads \(7\)",
            ),
            (
                {"pretext.name": "igpt", "pretext.igpt.side": 64, "image.size": 40},
                r"pretext.igpt.side \(64\) is larger than image.size \(40\)",
            ),
            (
                {"mil.classifier": "logistic", "mil.aggregator": "attention"},
                "mil: aggregator 'attention' has weights to learn, and a logistic",
            ),
            (
                {"mil.classifier": "logistic", "mil.fusion": "mixture"},
                "mil: fusion is 'mixture' and classifier is 'logistic'; allowed: concatenation",
            ),
            ({"views": []}, r"views: .* at least 1 item"),
            ({"views": ["original", "diagonal"]}, r"views.1: .*not 'diagonal'"),
            ({"views": ["vertical", "vertical"]}, "views names one view twice"),
            ({"views": ["original", True]}, r"views.1: .*not True"),
            ({"mil.hidden_widths": [512, 0]}, r"mil.hidden_widths.1: .*not 0"),
            ({"mil.hidden_widths": [512, "256"]}, r"mil.hidden_widths.1: .*not '256'"),
            ({"mil.hidden_widths": [True]}, r"mil.hidden_widths.0: .*not True"),
            (
                {"simulation.min_cells": 50, "simulation.max_cells": 20},
                r"simulation: min_cells \(50\) is larger than max_cells \(20\)",
            ),
        ],
    )
    def test_values_that_do_not_go_together_are_refused_by_name(self, changes, told):
        values = copy.deepcopy(BASE)
        for key, value in changes.items():
            *at, last = key.split(".")
            get(values, at)[last] = value
        with pytest.raises(UserError, match=f"  - .*{told}"):
            check_parameters(values)

    @pytest.mark.parametrize(
        ("key", "values"),
        [
            ("clinical.reference_date", ["2021-03-01", date(2021, 3, 1)]),
            ("image.crop", [16, 224]),
            ("image.size", [33, 1024]),
            ("encoder.weights", ["random", "timm", "some/where.pth", "weights.pt"]),
            ("pretext.upright_weight", [1, 3, 0.5]),
            ("pretext.learning_rate", [1, 1e-9]),
            ("pretext.name", ["autoencoder", "frozen", "simclr", "vicreg", "igpt"]),
            ("pretext.batch_size", [1]),
            ("pretext.jitter.stain", [0, 0.5]),
            ("views", [["vertical"], ["horizontal", "original"]]),
            ("mil.dropout", [0, 0.99]),
            ("mil.hidden_widths", [[], [1], [512, 256, 128]]),
            ("ensemble.error_rate", [0.001, 0.5]),
            ("simulation.test", [0]),
            ("seed", [0, 2**31 - 1]),
        ],
    )
    def test_those_at_the_bounds_pass(self, key, values):
        at = key.split(".")
        for value in values:
            parameters = check_parameters(changed(at, value)).model_dump()
            assert plain(get(parameters, at)) == (str(value) if isinstance(value, date) else value)

    def test_packaged_weights_pass_for_their_own_encoder(self):
        values = copy.deepcopy(BASE)
        values["encoder"] |= {"name": "tf_efficientnet_lite2", "weights": "package"}
        assert check_parameters(values).encoder.weights == "package"

    def test_all_faults_are_reported_at_once(self):
        values = changed(("image", "crop"), 0)
        values["seed"] = "x"
        values["mil"]["scheduler"]["patience"] = -1
        with pytest.raises(UserError) as caught:
            check_parameters(values)
        lines = str(caught.value).splitlines()
        assert [line.split(":")[0] for line in lines] == [
            "parameters.yml (or --params) can't be used",
            "  - seed",
            "  - image.crop",
            "  - mil.scheduler.patience",
        ]
