"""Show where the time goes in training a classifier and in decoding a picture.

Run: python -m benchmarks.shares
"""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import simplejpeg
import torch
from torch.profiler import profile

from benchmarks import classifiers, decoding
from benchmarks.side_by_side import time_in_turn
from lymphocytosis.compute import start_fabric
from lymphocytosis.datasets.picture_folder import PictureFolderDataset
from lymphocytosis.imaging.decode import decode_picture
from lymphocytosis.mil.classifiers import build_classifier
from lymphocytosis.simulation.cohort import simulate_cohort

SHOWN = 0.01


def main() -> None:
    """Print two lists of shares."""
    for width in classifiers.WIDTHS:
        print(f"Training a classifier, width {width}: share of processor time, one thread")
        for name, share in of_training(width).items():
            if share >= SHOWN:
                print(f"  {share:6.1%}  {name}")
    print("\nDecoding a JPEG of 224 x 224 with all checks: what its steps take, of the whole")
    for name, share in of_decoding().items():
        print(f"  {share:6.1%}  {name}")


def of_training(width: int) -> dict[str, float]:
    """Profile one of the suite's classifiers, on one thread, as the suite trains."""
    mil = classifiers.parameters(classifiers.EPOCHS)
    bags, _ = classifiers.random_bags(classifiers.PATIENTS, width)
    patients = np.arange(classifiers.PATIENTS)
    held = patients < classifiers.PATIENTS // 8
    fabric = start_fabric(classifiers.COMPUTE)
    torch.set_num_threads(1)

    def train() -> None:
        classifier = build_classifier(mil, width, 0, fabric.device)
        for _ in classifier.fit(bags, patients[~held], patients[held], fabric):
            pass

    train()
    with profile() as measured:
        train()
    spent = {event.key: event.self_cpu_time_total for event in measured.key_averages()}
    whole = sum(spent.values())
    return {
        name: spent[name] / whole for name in sorted(spent, key=spent.__getitem__, reverse=True)
    }


def of_decoding() -> dict[str, float]:
    """Time the steps of decoding by themselves, on one core."""
    with TemporaryDirectory() as folder:
        dataset = PictureFolderDataset(filepath=folder)
        dataset.save(simulate_cohort(decoding.COHORT)[1])
        contents = [(Path(folder) / file.path).read_bytes() for file in dataset.load()]

    def each(function: Callable[[bytes], object]) -> Callable[[], None]:
        def all_of_them() -> None:
            for content in contents:
                function(content)

        return all_of_them

    seconds = time_in_turn(
        {
            "whole": each(lambda content: decode_picture(content, "cell.jpg", decoding.IMAGE)),
            "the pixels, by simplejpeg": each(simplejpeg.decode_jpeg),
            "simplejpeg's reading of the header": each(simplejpeg.decode_jpeg_header),
            "(SHA-256, beside it)": each(lambda content: sha256(content).digest()),
        },
        decoding.TURNS,
    )
    whole = median(seconds.pop("whole"))
    return {name: median(values) / whole for name, values in seconds.items()}


if __name__ == "__main__":
    main()
