"""Wiring of the ensemble pipeline."""

from kedro.pipeline import Pipeline, node, pipeline

from lymphocytosis.decision.rules import RULES
from lymphocytosis.pipelines.decisions import compare, decide
from lymphocytosis.pipelines.ensemble.nodes import (
    answer_patients,
    explain_cells,
    gather_cells,
    load_system,
    predict_test_patients,
    score_out_of_fold,
)
from lymphocytosis.pipelines.sizes import SIZES, bind, select_size


def create_pipeline() -> Pipeline:
    """Wire a trained system and embeddings to decisions, submissions and the results table."""
    system = node(
        load_system,
        inputs=["autoencoder", "large_classifiers", "small_classifiers", "params:ensemble"],
        outputs="system",
        name="load_system",
    )
    tables = [f"{size}_{name}" for size in SIZES for name in ("statistics", *RULES)]
    answer = node(
        answer_patients,
        inputs={
            "ensemble": "params:ensemble",
            "patients": "patients",
            "cells": "cells",
            **{table: table for table in tables},
        },
        outputs="decisions",
        name="answer_patients",
    )
    whole = pipeline(
        [system, answer, compare({"small": "small", "large": "large"}, outputs="results")],
        namespace="ensemble",
        prefix_datasets_with_namespace=False,
        tags="ensemble",
    )
    return sum((_one_size(size) for size in SIZES), start=whole)


def _one_size(size: str) -> Pipeline:
    predictions, out_of_fold = f"{size}_predictions", f"{size}_out_of_fold"
    known = ["system", f"{size}_bags", "patients"]
    nodes = [
        node(
            bind(gather_cells, size=size),
            inputs=["system", f"{size}_embeddings", "patients"],
            outputs=f"{size}_bags",
            name="gather_cells",
        ),
        node(
            bind(predict_test_patients, size=size),
            inputs=[*known, "params:compute"],
            outputs=predictions,
            name="predict",
            tags="gpu",
        ),
        node(
            bind(score_out_of_fold, size=size),
            inputs=[*known, "splits", "params:compute"],
            outputs=out_of_fold,
            name="score_out_of_fold",
            tags="gpu",
        ),
        node(
            bind(explain_cells, size=size),
            inputs=[*known, predictions, out_of_fold, "params:compute"],
            outputs=f"{size}_cell_contributions",
            name="explain_cells",
            tags="gpu",
        ),
        *decide(size),
    ]
    return select_size(size) + pipeline(
        nodes, namespace=f"ensemble.{size}", prefix_datasets_with_namespace=False, tags="ensemble"
    )
