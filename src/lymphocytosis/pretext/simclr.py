"""Contrast two views of a picture with the views of other pictures.

Source: Chen et al. 2020, A simple framework for contrastive learning of visual representations.
"""

from lymphocytosis.pretext.joint_embedding import import_lightly, joint_embedding_task
from lymphocytosis.pretext.task import Task, TaskInputs

LOSS = "NT-Xent loss"


def build(given: TaskInputs) -> Task:
    """Build the task; see `build_task`. It shows two views."""
    losses, heads = import_lightly("simclr")
    simclr = given.pretext.simclr
    criterion = losses.NTXentLoss(simclr.temperature)
    return joint_embedding_task(given, heads.SimCLRProjectionHead, simclr, criterion)
