"""Pull two views of a picture together, without collapse to the same embedding for all.

Source: Bardes et al. 2022, VICReg: variance-invariance-covariance regularization.
"""

from lymphocytosis.pretext.joint_embedding import import_lightly, joint_embedding_task
from lymphocytosis.pretext.task import Task, TaskInputs

LOSS = "VICReg loss"


def build(given: TaskInputs) -> Task:
    """Build the task; see `build_task`. It shows two views."""
    losses, heads = import_lightly("vicreg")
    vicreg = given.pretext.vicreg
    criterion = losses.VICRegLoss(vicreg.invariance, vicreg.variance, vicreg.covariance)
    return joint_embedding_task(given, heads.VICRegProjectionHead, vicreg, criterion)
