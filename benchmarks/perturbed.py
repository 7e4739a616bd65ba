"""From which strength on a patient whose pictures were changed is found to be unlike the others.

    python -m benchmarks.perturbed --workspace=my_run --cohort=my_cohort

takes the labelled patients of a workspace in which `ingest`, `ssl_pretrain` and `embed` ran, a
tenth at a time. The reference and a classifier on pictures are fitted on the other nine tenths.
Then the pictures of the held-out patients are changed before they are cropped, embedded in their
original view, judged and classified. To bound the time, at most `--cells` pictures of a patient are
taken, in the reference too, but not for the classifier. `--keep=FOLDER` keeps what was computed.

It prints a row for each change and strength: the share of patients flagged, with its exact interval
(Clopper and Pearson); the traits that were most often beyond their limit; balanced accuracy and AUC
of the classifier (mean of whitened cells, logistic regression) on the same pictures.
"""

import argparse
import io
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch
from PIL import Image, ImageFilter
from scipy.ndimage import gaussian_filter
from scipy.stats import beta
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from lymphocytosis.decision.unlike import Reference, find_unlike, fit_reference
from lymphocytosis.encoders.checkpoint import unpack
from lymphocytosis.encoders.embed import ReadyEncoder
from lymphocytosis.imaging.decode import decode_picture
from lymphocytosis.imaging.measures import measure_pictures
from lymphocytosis.imaging.views import view_of
from lymphocytosis.parameters import ComputeParameters, ImageParameters

FOLDS = 10
Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def as_bytes(values: np.ndarray[Any, Any]) -> Pixels:
    """Round and clip to what a camera gives."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def exposed(pixels: Pixels, factor: float) -> Pixels:
    """All channels, times a factor."""
    return as_bytes(pixels * factor)


def balanced(pixels: Pixels, tilt: float) -> Pixels:
    """White balance: red times 1 + tilt, blue times 1 - tilt."""
    return as_bytes(pixels * np.array([1 + tilt, 1, 1 - tilt]))


def stained(pixels: Pixels, factor: float) -> Pixels:
    """Optical density against white, times a factor."""
    return as_bytes(255 * (np.maximum(pixels, 1) / 255) ** factor)


def tinted(pixels: Pixels, tilt: float) -> Pixels:
    """Another stain: density in red times 1 + tilt, in blue times 1 - tilt."""
    return as_bytes(255 * (np.maximum(pixels, 1) / 255) ** np.array([1 + tilt, 1, 1 - tilt]))


def blurred(pixels: Pixels, sigma: float) -> Pixels:
    """A Gaussian blur, in pixels of the file."""
    return as_bytes(gaussian_filter(pixels.astype(float), (sigma, sigma, 0)))


def sharpened(pixels: Pixels, percent: float) -> Pixels:
    """An unsharp mask, as microscopes' programs apply it."""
    mask = ImageFilter.UnsharpMask(radius=2, percent=int(percent), threshold=0)
    return np.asarray(Image.fromarray(pixels).filter(mask))


def noisy(pixels: Pixels, sigma: float) -> Pixels:
    """Noise of a camera."""
    return as_bytes(pixels + np.random.default_rng(0).normal(0, sigma, pixels.shape))


def compressed(pixels: Pixels, quality: float) -> Pixels:
    """A JPEG of that quality."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=int(quality))
    return np.asarray(Image.open(file))


def greyed(pixels: Pixels, share: float) -> Pixels:
    """Colour mixed with grey."""
    grey = np.asarray(Image.fromarray(pixels).convert("L"))[..., None]
    return as_bytes((1 - share) * pixels + share * grey)


def coarse(pixels: Pixels, factor: float) -> Pixels:
    """Taken with fewer pixels, and enlarged to the same size."""
    side = len(pixels)
    small = Image.fromarray(pixels).resize((round(side * factor),) * 2, Image.Resampling.BICUBIC)
    return np.asarray(small.resize((side, side), Image.Resampling.BICUBIC))


def of_laboratory(pixels: Pixels, number: float) -> Pixels:
    """Another laboratory, made up: stain, light, camera and file differ a little each."""
    rng = np.random.default_rng(int(number))
    tilt, stain, light, balance = rng.choice([-1, 1], 4) * (0.08, 0.12, 0.06, 0.03)
    changed = balanced(exposed(stained(tinted(pixels, tilt), 1 + stain), 1 + light), balance)
    return compressed(blurred(changed, 0.5), 80)


# By zoom, the crop changes, not the pixels: below 1 it takes in more of the picture.
ZOOM = "zoom"
CHANGES: dict[str, tuple[Callable[[Pixels, float], Pixels] | None, tuple[float, ...]]] = {
    "brightness": (exposed, (1.06, 0.95, 0.9)),
    "white balance, red and blue": (balanced, (-0.02, 0.02, 0.05)),
    "strength of the stain": (stained, (0.8, 0.9, 1.1, 1.25)),
    "tint of the stain": (tinted, (-0.05, 0.05, 0.1)),
    "grey": (greyed, (0.1, 0.5, 1)),
    "blur, pixels": (blurred, (0.5, 1, 2)),
    "sharpened, percent": (sharpened, (50, 200)),
    "noise": (noisy, (4, 8, 16)),
    "JPEG quality": (compressed, (90, 75, 50, 20)),
    "fewer pixels": (coarse, (0.75, 0.5)),
    ZOOM: (None, (0.7, 0.8, 0.9, 1.1, 1.2, 1.4)),
    "another laboratory, number": (of_laboratory, (1, 2, 5, 6)),
}


def main() -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--cohort", type=Path, required=True)
    parser.add_argument("--cells", type=int, default=16, help="most pictures of a patient")
    parser.add_argument("--keep", type=Path, help="an existing folder for what is computed")
    parser.add_argument("--changes", nargs="*", default=list(CHANGES), help="some of the changes")
    asked = parser.parse_args()

    patients, cells, plain = trained_on(asked.workspace)
    few = np.flatnonzero(cells.groupby("patient_id").cumcount() < asked.cells)
    folds = list(fitted(patients, cells, few, plain))
    cells = cells.iloc[few].reset_index(drop=True)
    files = [np.asarray(Image.open(asked.cohort / path).convert("RGB")) for path in cells["path"]]
    model, image = unpack(torch.load(newest(asked.workspace, "03_encoder/autoencoder.pt")))
    compute = ComputeParameters(
        accelerator="auto", precision="32-true", embed_batch_size=32, embed_backend="onnx"
    )
    encoder = ReadyEncoder(model, image.size, ["original"], view_of, compute)
    print("| change | strength | flagged | traits | balanced accuracy | AUC |")
    print("|---|---|---|---|---|---|")
    print(row("none", "", cells, folds, [values[few] for values in plain]), flush=True)
    for name in asked.changes:
        for strength in CHANGES[name][1]:
            kept = asked.keep and asked.keep / f"{name.replace(' ', '_')}_{strength:g}.npz"
            if kept and kept.exists():
                found = [np.load(kept)[key] for key in ("measures", "embeddings")]
            else:
                pixels = np.stack([changed(file, image, name, strength) for file in files])
                parts = encoder.embed(pixels, np.arange(len(pixels)))
                embeddings = np.concatenate([large[:, 0] for _, large, _ in parts])
                found = [measure_pictures(pixels), embeddings]
            if kept:
                np.savez(kept, measures=found[0], embeddings=found[1])
            print(row(name, f"{strength:g}", cells, folds, found), flush=True)


def newest(workspace: Path, entry: str) -> Path:
    """The file of an entry's newest version."""
    return max((workspace / entry).iterdir()) / Path(entry).name


def trained_on(workspace: Path) -> tuple[pd.DataFrame, pd.DataFrame, list[Any]]:
    """The labelled patients; their cells; measures (n, m) and embeddings (n, D) of these."""
    patients = pd.read_parquet(newest(workspace, "02_intermediate/patients.parquet"))
    patients = patients[patients["label"].notna()].reset_index(drop=True)
    cells = pd.read_parquet(newest(workspace, "02_intermediate/cells.parquet"))
    cells = cells[cells["row"].notna() & cells["patient_id"].isin(patients["patient_id"])]
    store = newest(workspace, "02_intermediate/cell_images") / "pixels-00000.npy"
    pixels, rows = np.load(store, mmap_mode="r"), cells["row"].to_numpy(dtype=int)
    measures = np.concatenate([measure_pictures(pixels[[row]]) for row in rows])
    table = pq.read_table(
        newest(workspace, "04_features/embeddings.parquet"),
        columns=["patient_id", "image_id", "large"],
        filters=[("view", "==", "original")],
    )
    large = table["large"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)
    keys = table.select(["patient_id", "image_id"]).to_pandas().assign(at=np.arange(len(table)))
    at = cells[["patient_id", "image_id"]].merge(keys, how="left", validate="1:1")["at"]
    return patients, cells.reset_index(drop=True), [measures, large[at]]


def changed(pixels: Pixels, image: ImageParameters, name: str, strength: float) -> Pixels:
    """A picture as it would be stored, had it been taken otherwise."""
    change = CHANGES.get(name, (None, ()))[0]
    if change:
        pixels = change(pixels, strength)
    if name == ZOOM:
        image = image.model_copy(update={"crop": round(image.crop / strength)})
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=0)
    stored = decode_picture(file.getvalue(), "changed.png", image).pixels
    if stored is None:
        raise ValueError(f"{name} {strength:g} leaves nothing of a picture")
    return stored


def fitted(
    patients: pd.DataFrame, cells: pd.DataFrame, few: Any, plain: list[Any]
) -> Iterator[tuple[pd.DataFrame, Reference, PCA, LogisticRegression]]:
    """For each fold: the held-out patients; the others' reference, whitening and classifier."""
    measures, embeddings = plain
    persons = pd.factorize(patients["person"])[0]
    fold = (np.random.default_rng(1).permutation(persons.max() + 1) % FOLDS)[persons]
    for number in range(FOLDS):
        others = patients[fold != number]
        reference = fit_reference(others, cells.iloc[few], measures[few], embeddings[few])
        of_others = embeddings[cells["patient_id"].isin(others["patient_id"])].astype(float)
        kept = min(200, *of_others.shape)
        whitening = PCA(kept, whiten=True, svd_solver="covariance_eigh").fit(of_others)
        classifier = LogisticRegression(C=3.0, class_weight="balanced", max_iter=10_000)
        bags = pooled(others, cells, whitening, embeddings)
        classifier.fit(bags, others["label"].astype(int))
        yield patients[fold == number], reference, whitening, classifier


def pooled(patients: pd.DataFrame, cells: pd.DataFrame, whitening: PCA, embeddings: Any) -> Any:
    """Each patient's mean of whitened cells."""
    rows = cells.groupby("patient_id").indices
    means = [embeddings[rows[key]].astype(float).mean(axis=0) for key in patients["patient_id"]]
    return whitening.transform(np.array(means))


def row(name: str, strength: str, cells: pd.DataFrame, folds: Any, found: list[Any]) -> str:
    """A line of the table."""
    measures, embeddings = found
    rows = cells.groupby("patient_id").indices
    flagged, why, label, logit = [], Counter[str](), [], []
    for held_out, reference, whitening, classifier in folds:
        label += held_out["label"].astype(int).tolist()
        bags = pooled(held_out, cells, whitening, embeddings)
        logit += classifier.decision_function(bags).tolist()
        for patient in held_out.itertuples():
            of_one = rows[patient.patient_id]
            converted = float((cells["status"].iloc[of_one] == "converted").mean())
            flags = find_unlike(
                reference, measures[of_one], embeddings[of_one], converted,
                patient.age_years, patient.lymphocyte_count,
            )  # fmt: skip
            flagged.append(bool(flags))
            why.update(flag.name for flag in flags)
    k, n = sum(flagged), len(flagged)
    low = beta.ppf(0.025, k, n - k + 1) if k else 0
    high = beta.ppf(0.975, k + 1, n - k) if k < n else 1
    traits = ", ".join(f"{trait} {count}" for trait, count in why.most_common(3))
    right = balanced_accuracy_score(label, np.array(logit) > 0)
    return (
        f"| {name} | {strength} | {k / n:.0%} ({low:.0%} to {high:.0%}) | {traits} | "
        f"{right:.3f} | {roc_auc_score(label, logit):.3f} |"
    )


if __name__ == "__main__":
    main()
