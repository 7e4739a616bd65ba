"""The pipelines that `kedro run --pipeline=...` knows."""

from kedro.pipeline import Pipeline

from lymphocytosis.pipelines import (
    bag_images,
    choose,
    classify,
    embed,
    ensemble,
    evaluate,
    ingest,
    simulate,
    ssl_pretrain,
)


def register_pipelines() -> dict[str, Pipeline]:
    """Register every pipeline; no torch is imported.

    Returns:
        The pipelines by name. `__default__` takes a cohort from its pictures to the results
        table; hooks/demo.py runs `simulate` before it in the demo environment.
    """
    method = {
        "ingest": ingest.create_pipeline(),
        "ssl_pretrain": ssl_pretrain.create_pipeline(),
        "embed": embed.create_pipeline(),
        "classify": classify.create_pipeline(),
        "ensemble": ensemble.create_pipeline(),
    }
    return {
        "__default__": sum(method.values(), start=Pipeline([])),
        "simulate": simulate.create_pipeline(),
        # Before the others: of an entry's makers, hooks/inputs.py names the last: for splits,
        # `classify`.
        "bag_images": bag_images.create_pipeline(),
        **method,
        "evaluate": evaluate.create_pipeline(),
        "choose": choose.create_pipeline(),
    }
