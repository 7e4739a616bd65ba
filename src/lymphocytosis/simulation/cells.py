"""Draw one picture: a stained lymphocyte among red cells (May-Gruenwald-Giemsa).

Stains absorb light, so they add up as optical densities: a pixel is background * exp(-density),
and red cells that overlap get darker by themselves, as on a slide. Contours are radii over the
angle, textures are coarse noise made smooth by two thin sparse matrices, and an edge's blur is the
width of its ramp: no filter runs over the picture, which keeps a picture at a few milliseconds.
Dense matrix products are avoided on purpose: BLAS would start threads, which cost more than they
save.

Lengths are shares of the picture's side, so that a cell looks alike at every picture size.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

Floats = NDArray[np.floating[Any]]  # float32 throughout: half the memory, twice the speed
Steps = NDArray[np.intp]
Place = tuple[slice, slice]

# Optical density of each stain at strength 1, over red, green and blue, chosen to look right:
# red cells pinkish grey, nuclei purple, cytoplasm blue.
RED_CELL_COLOUR = (0.36, 0.47, 0.25)
NUCLEUS_COLOUR = (1.06, 1.72, 0.44)
CYTOPLASM_COLOUR = (0.59, 0.60, 0.13)

RED_CELL_RADIUS = 0.107  # share of the side
COARSE_GRAIN = 0.030  # distance between chromatin clumps, share of the side
FINE_GRAIN = 0.009  # distance between chromatin threads, share of the side
MEMBRANE = 0.008  # thickness of a membrane, share of the side

# A contour is a table of radii over one turn; its waves are cosines and sines, 2 to 8 a turn, the
# short ones weaker. Scaled so that random coefficients of variance 1 give a wave of variance 1.
_STEPS = 720
_TURN = np.arange(_STEPS, dtype=np.float32) * np.float32(2 * np.pi / _STEPS)
_ORDERS = np.arange(2, 9, dtype=np.float32)[:, None]
_WEIGHTS = _ORDERS**-1.3 / np.sqrt(np.sum(_ORDERS**-2.6))
_WAVES = np.concatenate([_WEIGHTS * np.cos(_ORDERS * _TURN), _WEIGHTS * np.sin(_ORDERS * _TURN)])


@dataclass(frozen=True)
class CellTraits:
    """What one lymphocyte looks like.

    Attributes:
        nucleus_radius: mean radius of the nucleus, share of the picture's side.
        nucleus_share: area of the nucleus / area of the cell, in (0, 1).
        irregularity: standard deviation of a contour's radius, share of that radius.
        notch: depth of the notch in the nucleus, share of its radius.
        basophilia: how deep the blue of the cytoplasm is; 1 is medium, 2 deep.
        clumping: how coarse and dark the chromatin is, in [0, 1].
    """

    nucleus_radius: float
    nucleus_share: float
    irregularity: float
    notch: float
    basophilia: float
    clumping: float

    @property
    def cell_radius(self) -> float:
        """Mean radius of the whole cell, share of the picture's side."""
        return float(self.nucleus_radius / self.nucleus_share**0.5)


@dataclass(frozen=True)
class StainTraits:
    """What one patient's slide looks like.

    Attributes:
        background: red, green and blue of the empty slide, 0 to 255.
        intensity: strength of all stains; 1 is medium.
        hue: turns the stains to blue (above 0) or to red (below 0); within 0.1 looks natural.
        red_cells: places tried for a red cell; those that are taken already stay free of it.
        pallor: how pale the middle of a red cell is, in [0, 1].
        blur: width of an edge, share of the picture's side.
    """

    background: tuple[float, float, float]
    intensity: float
    hue: float
    red_cells: int
    pallor: float
    blur: float


def draw_cell(
    rng: np.random.Generator, cell: CellTraits, stain: StainTraits, size: int
) -> NDArray[np.uint8]:
    """Draw one lymphocyte in the middle of a picture, among red cells and platelets.

    Args:
        rng: the source of everything that the traits leave open.
        cell: the lymphocyte's traits.
        stain: the slide's traits.
        size: side of the picture in pixels.

    Returns:
        The picture, uint8 (size, size, 3), RGB.
    """
    # Strength of the stain of red cells, of nuclei and of cytoplasm, at each pixel.
    strength = np.zeros((3, size, size), np.float32)
    _draw_red_cells(rng, strength[0], cell, stain)
    _draw_platelets(rng, strength[1], stain)
    _draw_lymphocyte(rng, strength, cell, stain)
    return _photograph(rng, strength, stain)


def _draw_red_cells(
    rng: np.random.Generator, strength: Floats, cell: CellTraits, stain: StainTraits
) -> None:
    size = len(strength)
    for x, y, share in _place_red_cells(rng, cell.cell_radius, stain.red_cells):
        contour = share * size * (1 + 0.06 * _oval(rng) + 0.015 * _wave(rng))
        here, distance, step = _window(size, x, y, int(contour.max()) + 3)
        radius = contour[step]
        pallor = min(1.0, stain.pallor * rng.uniform(0.4, 1.6))
        hollow = _line((distance / radius) ** 2, rng.uniform(0.1, 0.3))
        body = rng.uniform(0.92, 1.12) * (1 - pallor * hollow)
        layer = _ramp(radius - distance, 1.5 * stain.blur * size) * body
        # Overlapping cells are pressed thin: they darken each other by less than their sum.
        strength[here] += layer - 0.6 * np.minimum(layer, strength[here])


def _place_red_cells(
    rng: np.random.Generator, cell_radius: float, tries: int
) -> list[tuple[float, float, float]]:
    """Column, row and radius (shares of the side) of red cells that leave the lymphocyte room."""
    placed: list[tuple[float, float, float]] = []
    for x, y, scale, gap in rng.uniform((-0.1, -0.1, 0.85, 0), (1.1, 1.1, 1.15, 1), (tries, 4)):
        radius = RED_CELL_RADIUS * scale
        # Most stay apart from the others, some overlap one.
        apart = radius * (1.95 if gap < 0.75 else 1.2)
        clear = np.hypot(x - 0.5, y - 0.5) > cell_radius + 0.9 * radius
        if clear and all((x - a) ** 2 + (y - b) ** 2 > apart**2 for a, b, _ in placed):
            placed.append((float(x), float(y), float(radius)))
    return placed


def _draw_platelets(rng: np.random.Generator, strength: Floats, stain: StainTraits) -> None:
    size = len(strength)
    for _ in range(rng.poisson(0.8)):
        x, y = rng.uniform(0, 1, 2)
        contour = rng.uniform(0.010, 0.025) * size * (1 + 0.15 * _wave(rng))
        here, distance, step = _window(size, x, y, int(contour.max()) + 3)
        grains = 0.6 + 0.25 * _noise(rng, distance.shape, FINE_GRAIN * size)
        strength[here] += _ramp(contour[step] - distance, 2 * stain.blur * size) * grains


def _draw_lymphocyte(
    rng: np.random.Generator, strength: Floats, cell: CellTraits, stain: StainTraits
) -> None:
    size = strength.shape[1]
    body_contour, nucleus_contour = (size * contour for contour in _contours(rng, cell))
    x, y = 0.5 + rng.uniform(-0.02, 0.02, 2)
    here, distance, step = _window(size, x, y, int(body_contour.max()) + 3)
    body = body_contour[step] - distance
    # The nucleus never reaches the cell's edge: a thin rim of cytoplasm stays.
    nucleus = np.minimum(nucleus_contour[step] - distance, body - 0.006 * size)
    inside, core = (_ramp(depth, stain.blur * size) for depth in (body, nucleus))
    strength[(slice(None), *here)] *= 1 - inside  # the lymphocyte lies on top of the rest
    strength[1][here] += core * _chromatin(rng, nucleus, cell, size)
    strength[2][here] += (inside - core) * _cytoplasm(rng, body, nucleus, cell, size)


def _contours(rng: np.random.Generator, cell: CellTraits) -> tuple[Floats, Floats]:
    """Radii (shares of the side) of the cell and its nucleus around the nucleus' middle."""
    wave = cell.irregularity * _wave(rng)
    nucleus = cell.nucleus_radius * (1 + wave - cell.notch * _bump(rng, 6))
    # The cell follows its nucleus roughly, has corners, and bulges to one side where it has room.
    own_wave = cell.irregularity * (_wave(rng) + sum(2.5 * _bump(rng, 20) for _ in range(3)))
    room = cell.cell_radius - cell.nucleus_radius
    bulge = room * rng.uniform(0, 0.9) * np.cos(_TURN - rng.uniform(0, 2 * np.pi))
    body = cell.cell_radius * (1 + 0.5 * wave + own_wave) + bulge
    return np.minimum(body, 0.45), nucleus


def _chromatin(rng: np.random.Generator, nucleus: Floats, cell: CellTraits, size: int) -> Floats:
    """Strength of the nucleus' stain: clumps, threads and a darker membrane."""
    clumps: Floats = np.tanh(1.5 * _noise(rng, nucleus.shape, COARSE_GRAIN * size))
    threads = _noise(rng, nucleus.shape, FINE_GRAIN * size)
    membrane = _line(nucleus - 0.5 * MEMBRANE * size, MEMBRANE * size)
    level = 0.90 + 0.3 * cell.clumping
    relief = cell.clumping * clumps
    # Light shines through between the threads, most of all where they are not clumped.
    gaps = (0.26 - 0.10 * relief) * np.maximum(threads, 0)
    chromatin: Floats = np.maximum(level + 0.24 * relief - gaps + 0.2 * membrane, 0.2)
    return chromatin


def _cytoplasm(
    rng: np.random.Generator, body: Floats, nucleus: Floats, cell: CellTraits, size: int
) -> Floats:
    """Strength of the cytoplasm's stain: grainy, paler at the nucleus, darker at the edge."""
    grains = 1 + 0.15 * _noise(rng, body.shape, FINE_GRAIN * size)
    halo = 1 - 0.25 * _line(nucleus, 0.02 * size)
    cytoplasm: Floats = cell.basophilia * grains * halo + 0.6 * _line(body, MEMBRANE * size)
    return cytoplasm


def _photograph(
    rng: np.random.Generator, strength: Floats, stain: StainTraits
) -> NDArray[np.uint8]:
    """Stain strengths (3, size, size) to what a camera sees, uint8 (size, size, 3)."""
    size = strength.shape[1]
    colours = np.array((RED_CELL_COLOUR, NUCLEUS_COLOUR, CYTOPLASM_COLOUR), np.float32)
    colours *= stain.intensity * np.array((1 + stain.hue, 1, 1 - stain.hue), np.float32)
    light = np.exp(-np.einsum("shw,sc->chw", strength, colours))  # (3, size, size), in (0, 1]
    light *= np.array(stain.background, np.float32)[:, None, None]
    light *= 1 + 0.006 * _noise(rng, (size, size), 0.4 * size)  # the lamp is uneven
    light += 1.5 * rng.standard_normal((size, size), np.float32)  # the sensor is noisy
    picture = np.clip(light, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(picture.transpose(1, 2, 0))


def _ramp(depth: Floats, width: float) -> Floats:
    """0 outside an edge (depth below 0), 1 inside, and a straight ramp of that width between."""
    ramp: Floats = np.clip(depth / width + 0.5, 0, 1)
    return ramp


def _line(depth: Floats, width: float) -> Floats:
    """1 on the line of depth 0, falling off to both sides over that width."""
    line: Floats = np.exp(-((depth / width) ** 2))
    return line


def _wave(rng: np.random.Generator) -> Floats:
    """A smooth random wave around a turn, of mean 0 and variance 1: float32 (_STEPS,)."""
    wave: Floats = np.einsum("w,ws->s", rng.standard_normal(len(_WAVES), np.float32), _WAVES)
    return wave


def _oval(rng: np.random.Generator) -> Floats:
    """The wave of an oval in a random direction, float32 (_STEPS,)."""
    oval: Floats = rng.standard_normal() * np.cos(2 * _TURN - rng.uniform(0, 2 * np.pi))
    return oval


def _bump(rng: np.random.Generator, sharpness: float) -> Floats:
    """A bump of height 1 in a random direction, float32 (_STEPS,)."""
    bump: Floats = np.exp(sharpness * (np.cos(_TURN - rng.uniform(0, 2 * np.pi)) - 1))
    return bump


def _noise(rng: np.random.Generator, shape: tuple[int, ...], grain: float) -> Floats:
    """Smooth noise of mean 0 and variance 1, float32 (rows, columns).

    Args:
        rng: the source of the noise.
        shape: rows and columns.
        grain: distance in pixels over which the noise changes.
    """
    rows, columns = (_smoother(length, grain) for length in shape)
    coarse = rng.standard_normal((rows.shape[1], columns.shape[1]), np.float32)
    noise: Floats = (columns @ (rows @ coarse).T).T
    return noise


@lru_cache(maxsize=512)
def _smoother(length: int, grain: float) -> csr_array:
    """Weights (length, knots) that blend values at knots, one each grain, into smooth ones."""
    knots = np.arange(-1, int(length / grain) + 3)
    offsets = np.arange(length)[:, None] / grain - knots
    weights = np.where(abs(offsets) < 2.5, np.exp(-0.5 * (offsets / 0.6) ** 2), 0)
    weights /= np.sqrt(np.sum(weights**2, axis=1, keepdims=True))
    return csr_array(weights.astype(np.float32))


def _window(size: int, x: float, y: float, reach: int) -> tuple[Place, Floats, Steps]:
    """The square around a point, cut at the picture's edges.

    Args:
        size: side of the picture in pixels.
        x: column of the point, share of the side.
        y: row of the point, share of the side.
        reach: half the square's side in pixels, at most half the picture's.

    Returns:
        Where the square lies in the picture; and for each of its pixels, the distance from the
        point in pixels, float32, and the step of a contour around it.
    """
    middles = (round(y * size), round(x * size))
    spans = [(max(0, at - reach), max(0, min(size, at + reach + 1))) for at in middles]
    rows, columns = (slice(start, stop) for start, stop in spans)
    half = size // 2
    polar = tuple(
        slice(start - at + half, stop - at + half)
        for at, (start, stop) in zip(middles, spans, strict=True)
    )
    distance, step = _polar(half)
    return (rows, columns), distance[polar], step[polar]


@lru_cache(maxsize=4)
def _polar(half: int) -> tuple[Floats, Steps]:
    """Distance in pixels and step of a contour, seen from the middle of (2 half + 1) squared."""
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32)
    step = (np.arctan2(y, x) * (_STEPS / (2 * np.pi))).astype(np.intp) % _STEPS
    return np.hypot(x, y), step
