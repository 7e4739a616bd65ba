"""The two embedding sizes: what classify and ensemble do for each of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, update_wrapper
from hashlib import sha256
from typing import Any

from kedro.pipeline import Pipeline, node, pipeline

from lymphocytosis.pipelines.late import pa

SIZES = ("large", "small")


def bind(function: Callable[..., Any], **values: Any) -> Callable[..., Any]:
    """Fix a node function's last arguments; it keeps its name, which Kedro shows.

    Args:
        function: the node's.
        values: of the arguments.

    Returns:
        The function of the others.
    """
    return update_wrapper(partial(function, **values), function)


def select_embedding(embeddings: pa.Table, size: str) -> pa.Table:
    """Take one size of the embeddings; nothing is copied.

    Args:
        embeddings: patient_id, image_id, view, large, small.
        size: large or small.

    Returns:
        patient_id, image_id, view, embedding.
    """
    keys = ["patient_id", "image_id", "view"]
    one_size = embeddings.select([*keys, size]).rename_columns([*keys, "embedding"])
    # Renaming drops the metadata, which name the encoder.
    return one_size.replace_schema_metadata(embeddings.schema.metadata)


def select_size(size: str) -> Pipeline:
    """Wire the embeddings to those of one size.

    Args:
        size: large or small.

    Returns:
        A pipeline of one node; the same wherever it is used, so that two uses join to one.
    """
    return pipeline(
        [
            node(
                bind(select_embedding, size=size),
                inputs="embeddings",
                outputs=f"{size}_embeddings",
                name=f"select_{size}_embedding",
                namespace="embed",
            )
        ],
        tags=["classify", "ensemble", "bundle"],
    )


def fingerprint(embeddings: pa.Table) -> str:
    """Tell one table of embeddings from another.

    Args:
        embeddings: any of its columns.

    Returns:
        A SHA-256 digest of all values, in hexadecimal, however the table is cut into chunks.
    """
    digest = sha256(repr(embeddings.column_names).encode())
    for name in embeddings.column_names:
        for chunk in embeddings[name].chunks:
            if pa.types.is_fixed_size_list(chunk.type):
                digest.update(chunk.flatten().to_numpy())
            else:
                digest.update("".join(f"{value}\n" for value in chunk.to_pylist()).encode())
    return digest.hexdigest()
