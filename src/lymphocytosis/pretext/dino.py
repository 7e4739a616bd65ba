"""A student learns what its own moving average, the teacher, says of another view of a picture.

Source: Caron et al. 2021, Emerging properties in self-supervised vision transformers. Without
small crops: they would cut the cell.
"""

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lymphocytosis.compute import drawing_from
from lymphocytosis.encoders.pooled import build_pooled_encoder
from lymphocytosis.pretext.joint_embedding import JointEmbedding, import_lightly, show_views
from lymphocytosis.pretext.task import Task, TaskInputs

LOSS = "DINO loss"


class SelfDistillation(nn.Module):
    """A student, and its teacher, which follows it."""

    def __init__(
        self,
        student: JointEmbedding,
        teacher: JointEmbedding,
        criterion: nn.Module,
        momentum: float,
    ) -> None:
        """Put the parts together.

        Args:
            student: what is trained.
            teacher: with the same weights.
            criterion: of the teacher's and the student's projections; it has a state.
            momentum: share of the teacher that stays in each step.
        """
        super().__init__()
        self.student = student
        self.teacher = teacher.requires_grad_(False)
        self.criterion = criterion
        self.momentum = momentum

    def forward(self, views: Sequence[Tensor]) -> Tensor:
        """Let the teacher follow, then ask both.

        Args:
            views: of the same pictures, each (B, 3, H, W) float, in [0, 1].

        Returns:
            (B, 2 views, the head's output width): the teacher's projections, then the student's.
        """
        with torch.no_grad():
            pairs = zip(self.teacher.parameters(), self.student.parameters(), strict=True)
            for followed, leading in pairs:
                followed.lerp_(leading, 1 - self.momentum)
            said = [self.teacher(view) for view in views]
        return torch.stack([*said, *(self.student(view) for view in views)], dim=1)


def build(given: TaskInputs) -> Task:
    """Build the task; see `build_task`. The teacher's weights are kept; it shows two views."""
    losses, heads = import_lightly("dino")
    pretext = given.pretext
    dino = pretext.dino
    student, teacher = (_projected(given, heads.DINOProjectionHead) for _ in range(2))
    criterion = losses.DINOLoss(
        dino.output_width,
        teacher_temp=dino.teacher_temperature,
        student_temp=dino.student_temperature,
    )
    module = SelfDistillation(student, teacher, criterion, dino.momentum)

    def loss(model: nn.Module, views: Sequence[Tensor], generator: torch.Generator) -> Tensor:
        said, told = model(views).chunk(2, dim=1)
        found: Tensor = criterion(said.unbind(1), told.unbind(1))
        return found

    return Task(module, module.teacher.pooled, 2, loss, show_views(pretext, given.seed))


def _projected(given: TaskInputs, head_class: Callable[..., nn.Module]) -> JointEmbedding:
    """The encoder and a head; the same seed gives the same weights."""
    dino, width = given.pretext.dino, given.encoder.small_dim
    pooled = build_pooled_encoder(given.encoder, given.images.shape[1], given.seed)
    with drawing_from(given.seed), warnings.catch_warnings():
        # lightly normalises the last layer's weights by a function that torch wants to replace.
        warnings.simplefilter("ignore", FutureWarning)
        head = head_class(width, dino.hidden_width, dino.bottleneck_width, dino.output_width)
    return JointEmbedding(pooled, head)
