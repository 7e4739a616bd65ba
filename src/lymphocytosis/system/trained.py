"""A trained system, assembled from its parts after checking that they belong together."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa

from lymphocytosis.encoders.checkpoint import fingerprint, image_of
from lymphocytosis.errors import UserError
from lymphocytosis.mil.bags import Bags, gather_bags
from lymphocytosis.mil.prediction import Suite, load_suite
from lymphocytosis.parameters import EnsembleParameters, ImageParameters


@dataclass(frozen=True)
class TrainedSystem:
    """Everything needed to diagnose a patient.

    Attributes:
        autoencoder: the encoder, packed; `checkpoint.unpack` rebuilds it.
        encoder: its fingerprint.
        image: how pictures must be cropped and resized for it.
        views: the views that each picture is embedded in.
        suites: the classifiers by embedding size, with their whitening.
        ensemble: how the rules in `decision.rules` combine a patient's predictions.
    """

    autoencoder: dict[str, Any]
    encoder: str
    image: ImageParameters
    views: tuple[str, ...]
    suites: dict[str, Suite]
    ensemble: EnsembleParameters


def load_system(
    autoencoder: dict[str, Any],
    classifiers: Mapping[str, dict[str, Any]],
    ensemble: EnsembleParameters,
) -> TrainedSystem:
    """Assemble a system.

    Args:
        autoencoder: the packed encoder.
        classifiers: the packed classifiers by embedding size.
        ensemble: the block `ensemble` of the parameters.

    Returns:
        The system; its encoder is not built yet.

    Raises:
        UserError: a part is of another kind or damaged, or the parts were not trained together.
    """
    encoder = fingerprint(autoencoder)
    suites = {size: load_suite(content) for size, content in classifiers.items()}
    for size, suite in suites.items():
        if suite.encoder != encoder:
            raise UserError(
                f"The {size} classifiers were trained on embeddings of another encoder than that "
                "of the catalog entry 'autoencoder'. Run classify again, after embed; or choose "
                "the encoder's version: --load-versions=autoencoder:..."
            )
    views = {suite.views for suite in suites.values()}
    if len(views) > 1:
        raise UserError(
            "The classifiers of the two sizes were trained on different views: "
            f"{' and '.join(sorted(map(', '.join, views)))}. Run classify again."
        )
    return TrainedSystem(autoencoder, encoder, image_of(autoencoder), views.pop(), suites, ensemble)


def gather_for(
    system: TrainedSystem, size: str, embeddings: pa.Table, patients: pd.DataFrame
) -> Bags:
    """Group patients' embeddings into bags that a system's classifiers can predict.

    Args:
        system: the system.
        size: of the embeddings.
        embeddings: patient_id, image_id, view, embedding.
        patients: with age and count; labels may be unknown.

    Returns:
        The bags.

    Raises:
        UserError: the embeddings are of another encoder, other views or other patients.
    """
    suite = system.suites[size]
    bags = gather_bags(embeddings, patients)
    views = tuple(dict.fromkeys(bags.view))
    width = len(suite.whitening["mean"]) if suite.whitening else suite.in_dim
    if bags.encoder != system.encoder or bags.instances.shape[1] != width:
        raise UserError(
            "The classifiers were trained on embeddings of another encoder than those in the "
            "catalog entry 'embeddings'. Run classify again."
        )
    if views != system.views:
        raise UserError(
            f"The classifiers were trained on the views {', '.join(system.views)}, and the "
            f"embeddings are of {', '.join(views)}. Run embed or classify again."
        )
    return bags
