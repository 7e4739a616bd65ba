"""Any timm model as an encoder, from a picture to a feature map."""

from collections.abc import Sequence
from math import isqrt
from typing import Any

import timm
import torch
from torch import Tensor, nn

from lymphocytosis.encoders.names import check_name
from lymphocytosis.encoders.timm_model import build_model
from lymphocytosis.encoders.weights import initial_state
from lymphocytosis.errors import UserError, brief
from lymphocytosis.parameters import EncoderParameters


class Encoder(nn.Module):
    """A timm model up to its last feature map, in one layout for all models.

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
            UserError: timm has no such model, it can't be built for pictures of this size, or it
                gives no feature map.
        """
        super().__init__()
        check_name(name)
        try:
            self.model: Any = build_model(name, image_size)
            with torch.inference_mode():
                feature_map = self.eval()(torch.zeros(1, 3, image_size, image_size))
        except Exception as error:
            # timm's families raise many kinds.
            config = timm.get_pretrained_cfg(name)
            own = f" It was made for image.size {config.input_size[1]}." if config else ""
            raise UserError(
                f"encoder.name {name!r} can't be used with pictures of {image_size}x{image_size} "
                f"({brief(error)}). Choose another encoder, or another image.size.{own}"
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
        return self._as_map(self.model.forward_features(images))

    def layers(
        self, images: Tensor, numbers: Sequence[int], token: bool
    ) -> list[tuple[Tensor, Tensor]]:
        """Compute the feature maps of layers.

        The layers before the last are those that timm's `forward_intermediates` gives.

        Args:
            images: (B, 3, H, W) float, as the model expects it.
            numbers: which, counted from the last, which is 1.
            token: whether to give the class tokens, too.

        Returns:
            For each layer (B, d, h, w) float and its class token (B, d) or, unasked, (B, 0).

        Raises:
            ValueError: the model has no class token, or fewer layers.
        """
        if token and getattr(self.model, "cls_token", None) is None:
            raise ValueError("it has no class token")
        count = max(numbers)
        if count == 1:
            last, earlier = self.model.forward_features(images), []
        else:
            if not hasattr(self.model, "forward_intermediates"):
                raise ValueError("timm gives only its last layer")
            options = {"return_prefix_tokens": True} if token else {}
            last, earlier = self.model.forward_intermediates(
                images, indices=count, norm=True, **options
            )
        none = images.new_empty(len(images), 0)
        found = [(self._as_map(last), last[:, 0] if token else none)]
        maps = [(m[0], m[1][:, 0]) if token else (m, none) for m in reversed(earlier)]
        # Most families give their last layer twice; EfficientNets add a convolution after it.
        if maps and maps[0][0].shape == found[0][0].shape:
            del maps[0]
        found += maps
        return [found[number - 1] for number in numbers]

    def _as_map(self, features: Tensor) -> Tensor:
        if not isinstance(features, Tensor):
            raise ValueError("it gives several sets of features instead of one feature map")
        if features.ndim == 3:  # tokens (B, n, dim), prefix tokens first
            n = features.shape[1]
            prefix = getattr(self.model, "num_prefix_tokens", n - isqrt(n) ** 2)
            side = isqrt(n - prefix)
            if side < 2 or side**2 + prefix != n:
                raise ValueError(f"it gives {n} tokens, which do not form a feature map")
            return features[:, prefix:].transpose(1, 2).unflatten(2, (side, side))
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
        UserError: no such model, or it or its weights can't be used.
    """
    encoder = Encoder(parameters.name, image_size)
    state = initial_state(parameters, encoder.model, image_size)
    if state is not None:
        encoder.model.load_state_dict(state)
    return encoder
