"""Checks before any work: are the inputs, the encoder, its weights and the device there?"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kedro.framework.project import pipelines
from kedro.io import AbstractVersionedDataset, DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline

from lymphocytosis.datasets.bundle_folder import BundleDataset
from lymphocytosis.errors import some
from lymphocytosis.hooks.options import requested
from lymphocytosis.hooks.refusals import plainly, refusal
from lymphocytosis.parameters import Parameters
from lymphocytosis.pipelines.report.pipeline import REPORTED

logger = logging.getLogger(__name__)

# What a pipeline makes use of if it is there: its nodes get None for what is not.
_SPARED = {
    "bundle": {
        "classifier_predictions", "encoder_graph", "evaluation", "evaluation_summary",
        "referral_evaluation",
    },
    "embed": {"earlier_graph", "encoder_graph"},
    "ssl_pretrain": {"earlier_training"},
    "report": set(REPORTED),
    "predict": {"versions"},
}  # fmt: skip


def check_inputs(run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
    """Refuse a run that lacks an input; its nodes get None for those that they can spare.

    Args:
        run_params: Kedro's.
        pipeline: what will run.
        catalog: its datasets.

    Raises:
        ClickException: an entry is missing; the message gives the command that makes it.
        DatasetError: one of the user's own files is missing.
    """
    _check_versions(run_params["load_versions"] or {}, catalog)
    # In the order of the nodes, so that the cohort's folder is checked before other files.
    entries = dict.fromkeys(entry for node in pipeline.nodes for entry in node.inputs)
    free = pipeline.inputs()
    lacking = [entry for entry in entries if entry in free and not catalog.exists(entry)]
    for entry in list(lacking):
        users = [node.namespace or "" for node in pipeline.nodes if entry in node.inputs]
        if all(entry in _SPARED.get(user, ()) for user in users):
            with _quiet("kedro.io.data_catalog"):  # it warns of what is replaced
                catalog[entry] = MemoryDataset(None)
            lacking.remove(entry)
    in_memory = [entry for entry in lacking if isinstance(catalog.get(entry), MemoryDataset)]
    if in_memory:
        names = run_params["pipeline_names"]
        nodes = _with_makers(in_memory, pipeline, requested(names), catalog).nodes
        only = f"--pipelines={','.join(names)} " if names else ""
        raise refusal(
            f"{', '.join(in_memory)}: kept in memory and never saved, so the nodes that make it "
            "must run too. Instead of the options that choose nodes, give: "
            f"kedro run {only}--nodes={','.join(sorted(node.name for node in nodes))}"
        )
    # The pipelines registered first, those of the method, win over later ones.
    made_by = {
        entry: name
        for name, made in reversed(list(pipelines.items()))
        if name not in ("__default__", "demo", "simulate")
        for entry in made.all_outputs()
    }
    for entry in lacking:
        if entry in ("evaluated_runs", "evaluations"):
            raise refusal(
                f"{catalog.load('params:runs_dir')} holds no evaluation. Run evaluate in several "
                "workspaces below one folder, and name the folder by --params=runs_dir=..."
            )
        if entry == "bundle":
            raise refusal(
                f"There is no bundle {catalog[entry]._describe()['filepath']}. Give its folder "
                "by --params=bundle=..., or make one from a trained workspace: "
                "kedro run --pipelines=bundle"
            )
        if entry not in made_by:
            catalog.load(entry)  # a user's own file: its dataset says what is missing
    if saved := [entry for entry in lacking if entry in made_by]:
        makers = {made_by[entry] for entry in saved}
        while more := {
            made_by[entry]
            for entry in requested(makers).inputs()
            if entry in made_by and not catalog.exists(entry)
        }:
            makers |= more
        raise refusal(
            f"Nothing has been saved yet as {', '.join(saved)}. Make it first, in the same "
            f"workspace: kedro run --pipelines={','.join(n for n in pipelines if n in makers)}"
        )


def spare_damaged(run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
    """Let a run that ends in a report do without what only the report would read, and can't.

    Args:
        run_params: Kedro's.
        pipeline: what will run.
        catalog: its datasets, with their versions fixed; those that can't be read become None.
    """
    if run_params["pipeline_names"] == ["report"]:
        return  # it has nothing else to do, and says what is wrong
    for entry in sorted(pipeline.inputs() & set(REPORTED)):
        users = {node.namespace for node in pipeline.nodes if entry in node.inputs}
        if users == {"report"}:
            with _quiet("kedro.io.data_catalog"):
                try:
                    catalog.load(entry)
                except Exception as error:
                    catalog[entry] = MemoryDataset(None)
                    logger.warning(
                        "The report will leave out %s, which can't be used: %s",
                        entry,
                        plainly(error, catalog) or error,
                    )


def check_bundle(pipeline: Pipeline, catalog: DataCatalog) -> None:
    """Refuse a run that could not save its bundle."""
    if "bundle" in pipeline.all_outputs():
        bundle = catalog["bundle"]
        if isinstance(bundle, BundleDataset):
            bundle.check()


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    log = logging.getLogger(name)
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _with_makers(
    in_memory: list[str], pipeline: Pipeline, within: Pipeline, catalog: DataCatalog
) -> Pipeline:
    """Add the nodes that make entries kept in memory, and so on for the inputs of those nodes."""
    while in_memory:
        pipeline += within.only_nodes_with_outputs(*in_memory)
        in_memory = [
            entry
            for entry in pipeline.inputs()
            if not catalog.exists(entry) and isinstance(catalog.get(entry), MemoryDataset)
        ]
    return pipeline


def _check_versions(asked: dict[str, str], catalog: DataCatalog) -> None:
    for entry, version in asked.items():
        dataset = catalog.get(entry)
        if not isinstance(dataset, AbstractVersionedDataset) or not dataset._version:
            raise refusal(f"--load-versions={entry}:{version}: {entry} has no versions.")
        there = dataset.list_versions(full_path=False)
        if there and version not in there:
            raise refusal(
                f"--load-versions={entry}:{version}: there is no such version; available: "
                f"{some(there)}."
            )


def check_encoder(pipeline: Pipeline, parameters: Parameters) -> None:
    """Refuse an encoder, weights or a device that is not available."""
    from lymphocytosis.encoders import checks
    from lymphocytosis.pretext.checks import check_task

    # The other accelerators are available on every machine.
    if parameters.compute.accelerator == "cuda":
        from lymphocytosis.compute import start_fabric

        start_fabric(parameters.compute)
    pretrains = {"autoencoder"} & pipeline.all_outputs()
    if parameters.evaluation.pretraining == "each_fold":
        pretrains |= {"evaluation"} & pipeline.all_outputs()
    if pretrains:
        check_task(parameters.encoder, parameters.pretext, parameters.image.size)
    if "pictures_classifiers" in pipeline.all_outputs():
        from lymphocytosis.end_to_end.model import check_trainable

        checks.check_plain(parameters.encoder, "bag_images")
        checks.check_encoder(parameters.encoder, parameters.image.size)
        check_trainable(parameters.mil)
