"""Of several machines, the first one runs the pipelines; the others help it and save nothing."""

import logging

from kedro.pipeline import Pipeline

from lymphocytosis.errors import UserError
from lymphocytosis.hooks.refusals import refusal
from lymphocytosis.parameters import Parameters
from lymphocytosis.progress import unfinished

logger = logging.getLogger(__name__)


class Helped(Exception):  # noqa: N818 - nothing went wrong
    """This machine is not the first one, and has done its part of the run."""


def warn_of_idle_processes(pipeline: Pipeline, parameters: Parameters) -> None:
    """Say that several processes were asked for, and no node of a run can share its work.

    Args:
        pipeline: what will run.
        parameters: the run's.
    """
    from lymphocytosis.distributed import SHARED

    shared = {*SHARED}
    if parameters.evaluation.pretraining == "each_fold":
        shared.add("classifier_predictions")
    if not shared & pipeline.all_outputs():
        logger.warning(
            "compute.processes is %d, and no node of this run can be shared by several processes: "
            "without effect. Those of ssl_pretrain, embed and classify can.",
            parameters.compute.processes,
        )


def help_first_machine(pipeline: Pipeline, parameters: Parameters) -> None:
    """Do this machine's part of each node that machines share, unless it is the first machine.

    Args:
        pipeline: what the first machine runs.
        parameters: the run's; several machines.

    Raises:
        Helped: all is done, and there is nothing left to do here.
        ClickException: the machines did not meet, or a process failed, or there is nothing to
            share.
    """
    from lymphocytosis.distributed import SHARED, is_first, join

    # In the order in which the first machine runs them.
    shared = [entry for node in pipeline.nodes for entry in node.outputs if entry in SHARED]
    compute = parameters.compute
    if not shared:
        raise refusal(
            f"compute.nodes is {compute.nodes}, and no node of this run can be shared by several "
            "machines; those of ssl_pretrain, embed and classify can. Run it on one machine, with "
            "compute.nodes=1."
        )
    try:
        if is_first(compute):
            return
        for entry in shared:
            join(entry, unfinished(parameters.workspace, entry), compute)
    except UserError as error:
        raise refusal(str(error)) from error
    raise Helped(
        f"Done: this machine has helped with {', '.join(shared)}. The first machine, "
        f"{str(compute.rendezvous).rpartition(':')[0]}, saves the results."
    )
