"""Wiring of the bundle pipeline."""

from kedro.pipeline import Pipeline, node, pipeline

from lymphocytosis.pipelines.bundle.nodes import (
    find_evidence,
    fit_reference,
    fit_referrals,
    load_system,
    make_bundle,
    train_pictures_only,
)
from lymphocytosis.pipelines.resumable import resumable
from lymphocytosis.pipelines.sizes import SIZES, select_size

_EVALUATED = (
    "classifier_predictions", "evaluation", "evaluation_summary", "referral_evaluation",
)  # fmt: skip


def create_pipeline() -> Pipeline:
    """Wire a trained workspace to a bundle."""
    models = [f"{size}{alone}" for alone in ("", "_pictures_only") for size in SIZES]
    classifiers = {model: f"{model}_classifiers" for model in models}
    nodes = [
        node(
            load_system,
            inputs={
                "autoencoder": "autoencoder",
                "ensemble": "params:ensemble",
                **classifiers,
            },
            outputs="bundled_system",
            name="load_system",
        ),
        node(
            find_evidence,
            inputs={
                "system": "bundled_system",
                "large_classifiers": "large_classifiers",
                "ensemble": "params:ensemble",
                **{entry: entry for entry in _EVALUATED},
            },
            outputs="bundled_evidence",
            name="find_evidence",
        ),
        node(
            fit_referrals,
            inputs=[
                "bundled_system",
                "bundled_evidence",
                "large_embeddings",
                "small_embeddings",
                "patients",
                "splits",
                "params:ensemble",
                "params:compute",
            ],
            outputs="bundled_referrals",
            name="fit_referrals",
            tags="gpu",
        ),
        node(
            fit_reference,
            inputs=["bundled_system", "embeddings", "cell_images", "cells", "patients", "splits"],
            outputs="bundled_reference",
            name="fit_reference",
        ),
        node(
            make_bundle,
            inputs={
                "autoencoder": "autoencoder",
                "encoder_graph": "encoder_graph",
                "evidence": "bundled_evidence",
                "referrals": "bundled_referrals",
                "reference": "bundled_reference",
                "patients": "patients",
                "splits": "splits",
                "ensemble": "params:ensemble",
                "compute": "params:compute",
                **classifiers,
            },
            outputs="bundle",
            name="make_bundle",
        ),
    ]
    whole = pipeline(nodes, namespace="bundle", prefix_datasets_with_namespace=False, tags="bundle")
    return sum((_one_size(size) for size in SIZES), start=whole)


def _one_size(size: str) -> Pipeline:
    entry = f"{size}_pictures_only_classifiers"
    train = node(
        resumable(train_pictures_only, entry),
        inputs=[
            f"{size}_embeddings",
            "patients",
            "splits",
            "params:mil",
            "params:compute",
            "params:seed",
            "params:workspace",
        ],
        outputs=entry,
        name="train_pictures_only",
        tags="gpu",
    )
    return select_size(size) + pipeline(
        [train], namespace=f"bundle.{size}", prefix_datasets_with_namespace=False, tags="bundle"
    )
