"""Nodes of the embed pipeline.

Other rooms are imported inside the nodes: registering pipelines must not wait for libraries.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lymphocytosis.parameters import ComputeParameters
from lymphocytosis.pipelines.late import CellImages, Figure, np, pa, pd, store
from lymphocytosis.progress import Progress

# Few enough rows that one patient is read without the others, enough that a scan stays fast.
ROWS_PER_GROUP = 1024


def export_encoder(
    autoencoder: dict[str, Any], earlier_graph: dict[str, Any] | None, compute: ComputeParameters
) -> dict[str, Any]:
    """Export the encoder for CPUs, unless a run before this one has; see `portable_graph`.

    Args:
        autoencoder: the packed state dict.
        earlier_graph: what this returned in the run before this one.
        compute: the block `compute` of the parameters.

    Returns:
        The encoder as an ONNX model; empty where torch runs it.
    """
    from lymphocytosis.compute import start_fabric
    from lymphocytosis.encoders.backend import portable_graph

    if start_fabric(compute).device.type != "cpu":
        return {}
    return portable_graph(autoencoder, earlier_graph, compute)


def embed_cells(
    cell_images: CellImages,
    autoencoder: dict[str, Any],
    encoder_graph: dict[str, Any] | None,
    views: list[str],
    compute: ComputeParameters,
    progress: Progress,
) -> Iterator[pa.Table]:
    """Compute the large and the small embedding of every cell in every view.

    Args:
        cell_images: uint8 (n, S, S, 3); its records say which row is which cell.
        autoencoder: the packed state dict.
        encoder_graph: as `export_encoder` returns it; by default it is exported.
        views: original, horizontal, vertical.
        compute: the block `compute` of the parameters.
        progress: where each table is saved until the run ends well.

    Returns:
        Tables of some 1,024 rows, computed while they are saved: patient_id, image_id, view,
        large and small (float32 lists of fixed length); the schema's metadata names the
        autoencoder.
    """
    from lymphocytosis.distributed import share
    from lymphocytosis.encoders.checkpoint import check_same_pictures, fingerprint, unpack
    from lymphocytosis.encoders.embed import embed_in_shards
    from lymphocytosis.imaging.views import view_of

    model, image = unpack(autoencoder)
    check_same_pictures(image, cell_images.image)
    # Without `cells`, whose paths and checksums are most of what a large cohort needs of memory.
    taken = pd.concat(
        part.loc[part["row"].notna(), ["patient_id", "image_id", "row"]]
        for part in cell_images.parts_of_records()
    ).set_index("row")
    made_by = {"autoencoder": fingerprint(autoencoder)}
    progress.begin(
        {
            "the pictures": store.fingerprint(cell_images),
            "the encoder": made_by["autoencoder"],
            "the parameter views": views,
            "the parameters compute": compute,
        }
    )
    if encoder_graph is None:
        encoder_graph = export_encoder(autoencoder, None, compute)
    graph = encoder_graph["onnx"].numpy() if encoder_graph else np.empty(0, dtype=np.uint8)
    # What could not be exported is not tried again.
    compute = compute.model_copy(update={"embed_backend": "onnx" if len(graph) else "torch"})
    if compute.nodes * compute.processes > 1:
        job = {
            "autoencoder": autoencoder,
            "graph": graph,
            "pixels": str(cell_images.folder),
            "cells": taken.reset_index().to_dict("list"),
            "views": views,
            "compute": compute.model_dump(),
            "least": ROWS_PER_GROUP,
        }
        share("embeddings", progress, job, compute)
    embedded = embed_in_shards(
        model, cell_images, taken, views, view_of, compute, progress, ROWS_PER_GROUP,
        graph=graph.tobytes(),
    )  # fmt: skip
    return (table.replace_schema_metadata(made_by) for table in embedded)


def plot_embedding_map(
    embeddings: pa.Table, cells: pd.DataFrame, cell_images: CellImages, patients: pd.DataFrame
) -> Figure:
    """Draw cells where their embeddings are; see `map_cells`."""
    from lymphocytosis.pipelines.embed import figures

    store.check_same_ingest(cells, cell_images)
    return figures.map_cells(embeddings, cells, cell_images, patients)
