"""Libraries that registering pipelines must not wait for: each is imported where it is first used.

Kedro resolves the signatures of the nodes it is about to run, so a name in a signature has to lead
to the library itself, or to `Any`. Modules that take names from here begin with
`from __future__ import annotations`: their signatures are not resolved before.
"""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any


class _Late(ModuleType):
    """Stands in for a module, which is imported when an attribute is needed."""

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self.__name__), name)


if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    import pyarrow as pa
    from matplotlib.figure import Figure

    from lymphocytosis.imaging import store
    from lymphocytosis.imaging.store import CellImages, PictureStream
    from lymphocytosis.mil.bags import Bags
    from lymphocytosis.system.bundle import Bundle
    from lymphocytosis.system.diagnosis import ReadySystem
    from lymphocytosis.system.trained import TrainedSystem
else:
    np = _Late("numpy")
    npt = _Late("numpy.typing")
    pd = _Late("pandas")
    pa = _Late("pyarrow")
    # Their modules would import torch, Pillow or matplotlib before the first node runs.
    Bags = Bundle = CellImages = Figure = PictureStream = ReadySystem = TrainedSystem = Any
    store = _Late("lymphocytosis.imaging.store")

__all__ = [
    "Bags",
    "Bundle",
    "CellImages",
    "Figure",
    "PictureStream",
    "ReadySystem",
    "TrainedSystem",
    "np",
    "npt",
    "pa",
    "pd",
    "store",
]
