"""Any timm model as an encoder: a picture in, a feature map out."""

from typing import Any

import timm
import torch
from torch import Tensor, nn

from lymphocytosis.encoders.checks import check_name
from lymphocytosis.encoders.weights import initial_state
from lymphocytosis.errors import UserError
from lymphocytosis.parameters import EncoderParameters


class Encoder(nn.Module):
    """A timm model up to its last feature map, whatever layout the model itself uses.

    Attributes:
        dim: channels of the feature map, the width of the large embedding (2560 for
            EfficientNet-B7).
    """

    def __init__(self, name: str, image_size: int) -> None:
        """Build the model with random weights.

        Args:
            name: a timm model.
            image_size: side of the pictures in pixels; some models are built for one size.

        Raises:
            UserError: timm has no such model, or the model takes no pictures of this size.
        """
        super().__init__()
        check_name(name)
        config = timm.get_pretrained_cfg(name)
        # Models of one fixed size, such as plain transformers, are built for the pictures' size.
        sized: dict[str, Any] = (
            {"img_size": image_size} if config and config.fixed_input_size else {}
        )
        self.model: Any = timm.create_model(name, num_classes=0, global_pool="", **sized)
        try:
            with torch.inference_mode():
                feature_map = self.eval()(torch.zeros(1, 3, image_size, image_size))
        except (RuntimeError, AssertionError, ValueError) as error:
            raise UserError(
                f"encoder.name {name!r} takes no pictures of {image_size}x{image_size}: {error}. "
                "Change image.size or the encoder."
            ) from error
        self.dim: int = feature_map.shape[1]
        self.train()

    def forward(self, images: Tensor) -> Tensor:
        """Compute the feature map.

        Args:
            images: (B, 3, H, W) float, in [0, 1].

        Returns:
            (B, dim, h, w) float.
        """
        features: Tensor = self.model.forward_features(images)
        if features.ndim == 3:  # a transformer's tokens (B, n, dim), prefix tokens first
            patches = features[:, self.model.num_prefix_tokens :]
            side = round(patches.shape[1] ** 0.5)
            return patches.transpose(1, 2).unflatten(2, (side, side))
        width = self.model.num_features
        if features.shape[3] == width and features.shape[1] != width:  # (B, h, w, dim)
            return features.permute(0, 3, 1, 2)
        return features


def build_encoder(parameters: EncoderParameters, image_size: int) -> Encoder:
    """Build an encoder with its initial weights.

    Args:
        parameters: the block `encoder` of the parameters.
        image_size: side of the pictures in pixels.

    Returns:
        The encoder, in train mode.

    Raises:
        UserError: no such model, or its weights can't be had.
    """
    encoder = Encoder(parameters.name, image_size)
    state = initial_state(parameters, encoder.model)
    if state is not None:
        encoder.model.load_state_dict(state)
    return encoder
