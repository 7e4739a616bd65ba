"""Pull views of a picture to their centre; all projections together become a round Gaussian.

Source: Balestriero and LeCun 2025, LeJEPA: provable and scalable self-supervised learning without
the heuristics.
"""

import torch
from torch import Tensor

from lymphocytosis.pretext.joint_embedding import import_lightly, joint_embedding_task
from lymphocytosis.pretext.task import Task, TaskInputs

LOSS = "LeJEPA loss"


def build(given: TaskInputs) -> Task:
    """Build the task; see `build_task`. It shows two views."""
    losses, heads = import_lightly("lejepa")
    lejepa = given.pretext.lejepa
    loss = losses.LeJEPALoss(lejepa.regularisation, sigreg_num_vectors=lejepa.slices)

    def criterion(*projected: Tensor) -> Tensor:
        # The first two views are the targets, as the global views in the paper.
        targets = torch.stack(projected[:2])
        others = torch.stack(projected[2:]) if len(projected) > 2 else targets
        found: Tensor = loss.to(targets.device)(local_proj=others, global_proj=targets)
        return found

    return joint_embedding_task(
        given, heads.LeJEPAProjectionHead, lejepa, criterion, views=lejepa.views
    )
