"""Plain measures of a stored picture: colour, stain, sharpness, the size of what is dark in it.

They describe how a picture was made more than what it shows, so they tell pictures of another
laboratory, camera or magnification from those a system was trained on. Sums are of whole numbers,
which are exact in any order: a picture's measures never depend on the others'.
"""

import numpy as np
import numpy.typing as npt

# Distances in pixels at which detail is measured, in lightness and in colour.
DETAIL_LAGS = (1, 2, 4, 8)
COLOUR_LAGS = (2, 8)
MEASURES = (
    "brightness",
    "background_red",
    "background_blue",
    "nucleus_stain",
    "nucleus_red",
    "nucleus_blue",
    "around_stain",
    "around_red",
    "around_blue",
    "saturation",
    "nucleus_share",
    "contrast",
    *(f"detail_{lag}" for lag in DETAIL_LAGS),
    *(f"colour_detail_{lag}" for lag in COLOUR_LAGS),
)
"""Names of the measures, in the order of the columns of `measure_pictures`."""

# Colours are counted on a grid of at least this many pixels a side.
_GRID = 100
# Rows and columns along which detail is measured, per side of a picture.
_LINES = 33
_BACKGROUND = 0.95
# Of a picture's values; what is less counts as this, since 0 has no logarithm.
_LEAST = 1 / 64
_LEVELS = np.arange(256)
# Optical density against white. Half a level, since the density of black would be infinite.
_DENSITY = -np.log((_LEVELS + 0.5) / 255.5)


def measure_pictures(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Measure pictures, each by itself.

    The background is the 95th percentile of each channel. The nucleus is what is darker in green
    than Otsu's threshold, and the surroundings are the rest.

    - brightness: mean of the background's channels, 0 to 255; background_red and background_blue:
      those channels less green.
    - nucleus_stain: mean optical density of the nucleus in green, against the background;
      nucleus_red and nucleus_blue: those channels' density less that of green. The same around.
    - saturation: mean difference between a pixel's greatest and smallest channel, 0 to 255.
    - nucleus_share: the nucleus' share of the picture.
    - contrast: log2 of the standard deviation of green.
    - detail_k: log2 of the mean absolute second difference of green at a distance of k pixels,
      along rows and columns, less the contrast; colour_detail_k: the same of red less blue.

    Args:
        pixels: (n, S, S, 3) uint8, RGB; S is at least 17.

    Returns:
        (n, m) float32, the columns in the order of `MEASURES`; finite for any picture.

    Source: Otsu 1979, A threshold selection method from gray-level histograms.
    """
    rows = [_measure(picture) for picture in np.asarray(pixels)]
    return np.array(rows, np.float32).reshape(-1, len(MEASURES))


def _measure(picture: npt.NDArray[np.uint8]) -> list[float]:
    colours = _colours(picture)
    contrast = colours[-1]
    step = max(1, len(picture) // _LINES)
    # Columns are not turned into rows, which would take longer than all else.
    lines = [picture[::step].swapaxes(0, 1), picture[:, ::step]]
    red, green, blue = ([np.array(part[..., c], np.float32) for part in lines] for c in range(3))
    colour = [first - last for first, last in zip(red, blue, strict=True)]
    details = [_detail(green, lag) - contrast for lag in DETAIL_LAGS]
    details += [_detail(colour, lag) - contrast for lag in COLOUR_LAGS]
    return colours + details


def _colours(picture: npt.NDArray[np.uint8]) -> list[float]:
    step = max(1, len(picture) // _GRID)
    channels = np.ascontiguousarray(picture[::step, ::step].transpose(2, 0, 1))
    green = channels[1]
    dark = green <= _threshold(np.bincount(green.ravel(), minlength=256))
    # Six histograms in one go: of each channel, outside and inside the nucleus.
    offsets = np.arange(0, 3 * 512, 512, dtype=np.uint16)[:, None, None] + np.uint16(256) * dark
    counts = np.bincount((channels + offsets).ravel(), minlength=3 * 512).reshape(3, 2, 256)
    cumulative = counts.sum(axis=1).cumsum(axis=1)
    background = (cumulative < _BACKGROUND * green.size).sum(axis=1)
    pixels = counts[0].sum(axis=1)
    density = counts @ _DENSITY - pixels * _DENSITY[background][:, None]  # (3, 2)
    density /= np.maximum(pixels, 1)
    surroundings, nucleus = density.T.tolist()
    chroma = channels.max(axis=0) - channels.min(axis=0)
    of_green = counts[1].sum(axis=0)
    mean = of_green @ _LEVELS / green.size
    deviation = np.sqrt(of_green @ (_LEVELS - mean) ** 2 / green.size)
    red, middle, blue = background.tolist()
    return [
        (red + middle + blue) / 3,
        red - middle,
        blue - middle,
        nucleus[1],
        nucleus[0] - nucleus[1],
        nucleus[2] - nucleus[1],
        surroundings[1],
        surroundings[0] - surroundings[1],
        surroundings[2] - surroundings[1],
        chroma.sum(dtype=np.int64) / green.size,
        np.count_nonzero(dark) / green.size,
        _log(deviation),
    ]


def _threshold(counts: npt.NDArray[np.int64]) -> int:
    """The level, itself dark, whose split of a histogram leaves the classes least mixed."""
    below = counts.cumsum()
    sums = (counts * _LEVELS).cumsum()
    both = below * (below[-1] - below)
    # Variance between the classes; 0 where one of them is empty.
    between = (sums[-1] * below - below[-1] * sums).astype(float) ** 2 / np.maximum(both, 1)
    return int(between.argmax())


def _detail(lines: list[npt.NDArray[np.float32]], lag: int) -> float:
    """Log of the mean absolute second difference along the first axis."""
    seconds = [part[2 * lag :] - 2 * part[lag:-lag] + part[: -2 * lag] for part in lines]
    total = sum(float(np.abs(second).sum()) for second in seconds)
    return _log(total / sum(second.size for second in seconds))


def _log(value: float) -> float:
    return float(np.log2(max(value, _LEAST)))
