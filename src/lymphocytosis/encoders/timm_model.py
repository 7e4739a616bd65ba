"""Building a timm model without the layers after its last feature map."""

from typing import Any

import timm


def build_model(name: str, image_size: int, pretrained: bool = False) -> Any:
    """Build a timm model.

    Args:
        name: a timm model.
        image_size: side of the pictures in pixels; some models are built for one size.
        pretrained: whether to load the weights of timm's hub; otherwise they are random.

    Returns:
        The model, without a classification head.

    Raises:
        Exception: of many kinds, from the hub's client or the model's family.
    """
    config = timm.get_pretrained_cfg(name)
    options: dict[str, Any] = {"pretrained": pretrained, "num_classes": 0}
    # Such as plain transformers.
    if config and config.fixed_input_size and config.input_size[1] != image_size:
        options["img_size"] = image_size
    try:
        return timm.create_model(name, global_pool="", **options)
    except AssertionError:  # some families need their pooling
        return timm.create_model(name, **options)
