"""The classifier suite and the nested evaluation, against other ways to train the same."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
import yaml
from tensordict import TensorDict
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader
from torchmil.models import MILModel
from torchmil.utils.trainer import Trainer

from benchmarks.side_by_side import Row, divide, time_in_turn
from lymphocytosis.compute import in_batches, start_fabric
from lymphocytosis.display import working
from lymphocytosis.mil.bags import Bags
from lymphocytosis.mil.classifiers import build_classifier
from lymphocytosis.mil.nested import SYSTEMS, Recipe, predict_held_out
from lymphocytosis.mil.splits import draw_splits
from lymphocytosis.mil.suite import train_suite
from lymphocytosis.mil.turns import Job, run_in_turns
from lymphocytosis.parameters import ComputeParameters, MilParameters, SplitParameters
from lymphocytosis.progress import Progress

CONF = Path(__file__).parents[1] / "conf/base/parameters.yml"
COMPUTE = ComputeParameters(
    accelerator="auto", precision="32-true", embed_batch_size=32, embed_backend="torch"
)
DEVICE = start_fabric(COMPUTE).device
# The challenge's labelled patients; the large and the small embedding of EfficientNet-B7. The
# paper's 100 epochs would take hours.
PATIENTS, WIDTHS, SPLITS, EPOCHS, TURNS = 163, (2560, 1024), 5, 2, 3
NESTED_PATIENTS, NESTED_WIDTH, NESTED_FOLDS, NESTED_EPOCHS = 24, 1280, 4, 6
SAME = 1e-3  # of the learning rate, which is what Adam moves a weight by in a step
VIEWS = ("original", "horizontal", "vertical")


def measure() -> list[Row]:
    """Train on random embeddings, bags as the challenge's (16 to 198 cells, median 66)."""
    return [*suite_rows(PATIENTS, WIDTHS, SPLITS, TURNS), nested_row()]


def suite_rows(
    patients: int, widths: tuple[int, ...], splits: int, turns: int, peers: bool = True
) -> list[Row]:
    """Compare the suite with a plain loop, with its products and, if asked, with others' ways."""
    mil = parameters(EPOCHS)
    fabric = start_fabric(COMPUTE)
    cases = []
    for width in widths:
        bags, table = random_bags(patients, width)
        drawn = draw_splits(table, split_parameters(splits), seed=0)
        trained = drawn[drawn["role"] == "train"].groupby("split")["patient_id"]
        of_split = [np.flatnonzero(table["patient_id"].isin(ids)) for _, ids in trained]
        cases.append((bags, bags.on(DEVICE), table, drawn, of_split))

    def suite(mil: MilParameters = mil) -> list[dict[int, Any]]:
        return [
            train_suite(bags, table, drawn, mil, 0, fabric, Progress(None))[0]["state_dicts"]
            for bags, _, table, drawn, _ in cases
        ]

    def each(train: Callable[..., Any], mil: MilParameters = mil) -> list[list[Any]]:
        return [
            [train(bags, numbers, mil, seed) for seed, numbers in enumerate(of_split)]
            for _, bags, _, _, of_split in cases
        ]

    def products() -> None:
        threads = torch.get_num_threads()
        one_thread = partial(torch.set_num_threads, 1 if DEVICE.type == "cpu" else threads)
        for _, bags, _, _, of_split in cases:
            jobs = [matrix_products(bags, bags.of_patients(numbers), mil) for numbers in of_split]
            list(run_in_turns(jobs, threads, one_thread))
        torch.set_num_threads(threads)

    # After one epoch, since the suite keeps the best of several.
    once = mil.model_copy(update={"epochs": 1})
    apart = [
        (ours[split][name] - weight.cpu()).abs().flatten()
        for ours, theirs in zip(suite(once), each(patient_by_patient, once), strict=True)
        for split, state in enumerate(theirs, start=1)
        for name, weight in state.items()
        if name.endswith("weight")
    ]
    # Not the greatest: where a gradient is all but zero, Adam makes a full step of its rounding.
    far = float(torch.cat(apart).median())
    if DEVICE.type == "cpu" or mil.dropout == 0:  # dropout draws on the device, elsewhere otherwise
        assert far < SAME * mil.learning_rate, f"the loop's weights differ by {far}"
    sides: dict[str, Callable[[], object]] = {
        "suite": suite,
        "loop": lambda: each(patient_by_patient),
        "products": products,
    }
    if peers:
        sides["padded"] = lambda: each(with_padding)
        sides["torchmil"] = lambda: each(by_torchmil)
    seconds = time_in_turn(sides, turns)
    what = (
        f"{DEVICE.type}; {patients} patients, 3 views, widths {' and '.join(map(str, widths))}, "
        f"{splits} splits, {EPOCHS} epochs; after the first, weights differ by {far:.0e} (median; "
        f"the learning rate is {mil.learning_rate})"
    )
    compared = {
        "loop": ("a plain loop over patients", "at least 1.3 (GPU: 5)", what),
        "torchmil": ("torchmil's Trainer", "at least 2.2", "bags padded to a batch's largest"),
        "padded": (
            "the authors' padded bags",
            "at least 2.5",
            "padded to the cohort's largest bag",
        ),
        "products": (
            "its matrix products alone",
            "at least 0.85",
            "with the instances; a thread each",
        ),
    }
    return [
        Row("classifier suite", against, goal, divide(seconds[name], seconds["suite"]), note)
        for name, (against, goal, note) in compared.items()
        if name in seconds
    ]


def parameters(epochs: int) -> MilParameters:
    """Return the paper's classifier."""
    return MilParameters(**yaml.safe_load(CONF.read_text())["mil"] | {"epochs": epochs})


def split_parameters(count: int) -> SplitParameters:
    """Return the paper's splits, but for their number."""
    return SplitParameters(source="stratified", count=count, validation_share=0.125)


def nested_row() -> Row:
    """Compare the nested evaluation with its trainings alone, at the suite's rate."""
    mil, splits = parameters(NESTED_EPOCHS), split_parameters(2)
    bags, patients = random_bags(NESTED_PATIENTS, NESTED_WIDTH)
    ids = patients["patient_id"].to_numpy()
    fold = np.arange(len(ids)) % NESTED_FOLDS + 1
    folds = pd.DataFrame({"repeat": 1, "fold": fold, "patient_id": ids})
    recipe = Recipe(mil, splits, COMPUTE, seed=0)
    fabric = start_fabric(COMPUTE)

    def nested() -> None:
        with working("nested", NESTED_FOLDS, "folds") as work:
            predict_held_out(bags, patients, folds, recipe, "nested", Progress(None), work)

    def trainings() -> None:
        for _, held_out in folds.groupby("fold"):
            inside = patients[~patients["patient_id"].isin(held_out["patient_id"])]
            of_fold = draw_splits(inside, splits, 0)
            for inputs, _ in SYSTEMS.values():
                asked = mil.model_copy(update={"inputs": inputs})
                train_suite(bags, patients, of_fold, asked, 0, fabric, Progress(None))

    seconds = time_in_turn({"nested": nested, "trainings": trainings}, TURNS)
    return Row(
        "nested evaluation",
        "its trainings alone",
        "at most 1.1",
        divide(seconds["nested"], seconds["trainings"]),
        f"{NESTED_PATIENTS} patients, width {NESTED_WIDTH}, {NESTED_FOLDS} folds, {len(SYSTEMS)} "
        f"systems, 2 inner splits, {NESTED_EPOCHS} epochs",
    )


def random_bags(count: int, width: int) -> tuple[Bags, pd.DataFrame]:
    """Draw embeddings that tell nothing, so that no training ends early."""
    rng = np.random.default_rng(0)
    cells = np.clip(rng.lognormal(np.log(66), 0.6, count), 16, 198).astype(int)
    size = np.repeat(cells, len(VIEWS))
    names = [f"P{p:03d}" for p in range(count)]
    patients = pd.DataFrame(
        {
            "patient_id": names,
            "person": names,
            "subset": "train",
            "label": pd.array(np.arange(count) % 2, dtype="Int8"),
        }
    )
    bags = Bags(
        instances=torch.from_numpy(rng.normal(size=(size.sum(), width)).astype(np.float32)),
        first=np.cumsum(size) - size,
        size=size,
        patient=np.repeat(np.arange(count), len(VIEWS)),
        view=list(VIEWS) * count,
        clinical=torch.from_numpy(rng.uniform(5, 90, (count, 2)).astype(np.float32)),
        label=np.arange(count) % 2,
        image_id=np.full(size.sum(), "000000.jpg", dtype=object),
        encoder="",
    )
    return bags, patients


def train_plainly(
    bags: Bags,
    numbers: npt.NDArray[np.int64],
    mil: MilParameters,
    seed: int,
    forward: Callable[[Any, npt.NDArray[np.int64]], Tensor],
) -> Any:
    """Train one classifier by a forward of another form; validate after each epoch."""
    classifier = build_classifier(mil, bags.instances.shape[1], seed)
    classifier.fit_clinical_scale(bags.clinical[torch.from_numpy(numbers)])
    classifier.to(DEVICE)
    optimizer = torch.optim.Adam(classifier.parameters(), lr=mil.learning_rate, fused=True)
    order = torch.Generator().manual_seed(seed)
    train = bags.of_patients(numbers)
    held = np.setdiff1d(np.arange(len(bags.size)), train)
    for _ in range(mil.epochs):
        classifier.train()
        for part in in_batches(train[torch.randperm(len(train), generator=order)], mil.batch_size):
            label = torch.from_numpy(bags.label[bags.patient[part]]).float().to(DEVICE)
            loss = F.binary_cross_entropy_with_logits(forward(classifier, part), label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()
        classifier.eval()
        with torch.inference_mode():
            for part in in_batches(held, mil.batch_size):
                forward(classifier, part)
    return classifier


def cells_of(bags: Bags, bag: int) -> Tensor:
    """Return the instances of one bag."""
    return bags.instances[bags.first[bag] : bags.first[bag] + bags.size[bag]]


def with_clinical(classifier: Any, bags: Bags, part: Any, pooled: Tensor) -> Tensor:
    """Put pooled bags and clinical values through the head."""
    clinical = bags.clinical[torch.from_numpy(bags.patient[part])]
    clinical = (clinical - classifier.clinical_low) / classifier.clinical_span
    return classifier.head(torch.cat([pooled, clinical], dim=1)).squeeze(1)


def patient_by_patient(
    bags: Bags, numbers: Any, mil: MilParameters, seed: int
) -> dict[str, Tensor]:
    """Train with a matrix product and a mean for each bag."""

    def forward(classifier: Any, part: Any) -> Tensor:
        linear, norm, relu = classifier.special_embedding
        embedded = relu(norm(torch.cat([linear(cells_of(bags, bag)) for bag in part])))
        pooled = [cells.mean(dim=0) for cells in embedded.split(bags.size[part].tolist())]
        return with_clinical(classifier, bags, part, torch.stack(pooled))

    return train_plainly(bags, numbers, mil, seed, forward).state_dict()


def with_padding(bags: Bags, numbers: Any, mil: MilParameters, seed: int) -> None:
    """Train on bags that are all padded to the largest of the cohort, padding in BatchNorm too."""
    longest = bags.size.max()

    def forward(classifier: Any, part: Any) -> Tensor:
        cells = bags.instances.new_zeros(len(part), longest, bags.instances.shape[1])
        for place, bag in enumerate(part):
            cells[place, : bags.size[bag]] = cells_of(bags, bag)
        size = torch.from_numpy(bags.size[part]).to(DEVICE)
        mask = (torch.arange(longest, device=DEVICE) < size[:, None]).float()
        embedded = classifier.special_embedding(cells.flatten(0, 1)).unflatten(0, cells.shape[:2])
        pooled = (embedded * mask[..., None]).sum(dim=1) / size[:, None]
        return with_clinical(classifier, bags, part, pooled)

    train_plainly(bags, numbers, mil, seed, forward)


class PaddedModel(MILModel):
    """The paper's classifier as torchmil wants a model: padded bags and a mask."""

    def __init__(self, classifier: Any) -> None:
        """Take the layers of one of our classifiers."""
        super().__init__()
        self.classifier = classifier

    def compute_loss(
        self,
        Y: Tensor,  # noqa: N803
        X: Tensor,  # noqa: N803
        mask: Tensor,
        clinical: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return predictions and their loss; torchmil passes a batch's entries by these names."""
        embedded = self.classifier.special_embedding(X.flatten(0, 1))
        embedded = embedded.unflatten(0, X.shape[:2]) * mask[..., None]
        pooled = embedded.sum(dim=1) / mask.sum(dim=1, keepdim=True)
        logits = self.classifier.head(torch.cat([pooled, clinical], dim=1)).squeeze(1)
        return logits, {"loss": F.binary_cross_entropy_with_logits(logits, Y)}


def by_torchmil(bags: Bags, numbers: Any, mil: MilParameters, seed: int) -> None:
    """Train by torchmil's Trainer; its loader pads each batch to its largest bag."""
    model = PaddedModel(build_classifier(mil, bags.instances.shape[1], seed))
    train = bags.of_patients(numbers)
    held = np.setdiff1d(np.arange(len(bags.size)), train)

    def collate(part: list[int]) -> TensorDict:
        cells = pad_sequence([cells_of(bags, bag) for bag in part], batch_first=True)
        size = torch.from_numpy(bags.size[part]).to(DEVICE)
        return TensorDict(
            {
                "X": cells,
                "mask": (torch.arange(cells.shape[1], device=DEVICE) < size[:, None]).float(),
                "Y": torch.from_numpy(bags.label[bags.patient[part]]).float().to(DEVICE),
                "clinical": bags.clinical[torch.from_numpy(bags.patient[part])] / 90,
            }
        )

    loaders = [
        DataLoader(list(chosen), mil.batch_size, shuffle=shuffle, collate_fn=collate)
        for chosen, shuffle in ((train, True), (held, False))
    ]
    Trainer(
        model,
        torch.optim.Adam(model.parameters(), lr=mil.learning_rate),
        device=DEVICE.type,
        early_stop_patience=mil.epochs,
        disable_pbar=True,
        verbose=False,
    ).train(mil.epochs, *loaders)


def matrix_products(bags: Bags, trained: npt.NDArray[np.int64], mil: MilParameters) -> Job[None]:
    """Multiply what a classifier's epochs must multiply with the instances, batch by batch.

    That is two products for each training batch, the output and the gradient of the weight, and one
    for each validation batch.
    """
    held = np.setdiff1d(np.arange(len(bags.size)), trained)
    rows = {
        part: [int(bags.size[batch].sum()) for batch in in_batches(chosen, mil.batch_size)]
        for part, chosen in (("trained", trained), ("held", held))
    }
    longest = max(rows["trained"] + rows["held"])
    width = bags.instances.shape[1]
    cells = torch.rand(longest, width, device=DEVICE)
    weight = torch.rand(width, mil.embedding_width, device=DEVICE)
    gradient = torch.rand(longest, mil.embedding_width, device=DEVICE)
    for _ in range(mil.epochs):
        for n in rows["trained"]:
            cells[:n] @ weight
            gradient[:n].T @ cells[:n]
        for n in rows["held"]:
            cells[:n] @ weight
        yield
