"""What a run needs is looked for before any work: saved entries, an encoder, weights, a device."""

from kedro.framework.project import pipelines
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from lymphocytosis.hooks.refusals import refusal
from lymphocytosis.parameters import Parameters


def check_inputs(pipeline: Pipeline, catalog: DataCatalog) -> None:
    """Refuse entries that an earlier pipeline should have made; raw ones refuse by themselves."""
    made_by = {
        entry: name
        for name, made in pipelines.items()
        if name not in ("__default__", "simulate")
        for entry in made.all_outputs()
    }
    missing = sorted(
        entry for entry in pipeline.inputs() if entry in made_by and not catalog.exists(entry)
    )
    if missing:
        makers = [name for name in pipelines if name in {made_by[entry] for entry in missing}]
        raise refusal(
            f"Nothing has been saved yet as {', '.join(missing)}. Make it first, in the same "
            f"workspace: kedro run --pipelines={','.join(makers)}"
        )
    if "evaluated_runs" in pipeline.inputs() and not catalog.exists("evaluated_runs"):
        raise refusal(
            f"{catalog.load('params:runs_dir')} holds no evaluation. Run evaluate in several "
            "workspaces below one folder, and name the folder by --params=runs_dir=..."
        )


def check_encoder(pipeline: Pipeline, parameters: Parameters) -> None:
    """Refuse an encoder, weights or a device that is not there."""
    from lymphocytosis.encoders.checks import check_name, check_task, check_weights

    # The other accelerators are there on every machine.
    if parameters.compute.accelerator == "cuda":
        from lymphocytosis.compute import start_fabric

        start_fabric(parameters.compute)
    pretrains = {"autoencoder"} & pipeline.all_outputs()
    if parameters.evaluation.pretraining == "each_fold":
        pretrains |= {"evaluation"} & pipeline.all_outputs()
    if pretrains:
        check_task(parameters.encoder, parameters.pretext)
    if "pictures_classifiers" in pipeline.all_outputs():
        from lymphocytosis.end_to_end.model import check_trainable

        check_name(parameters.encoder.name)
        check_weights(parameters.encoder)
        check_trainable(parameters.mil)
