"""From an untrusted file's bytes to one stored picture, or to the reason why not."""

import io
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, ImageFile, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from lymphocytosis.cohort.pictures import SUFFIXES
from lymphocytosis.errors import UserError
from lymphocytosis.parameters import ImageParameters

FORMATS = ("JPEG", "PNG", "BMP", "TIFF")
# Pillow converts these to RGB without a loss that matters; it would clip 16- and 32-bit modes.
CONVERTIBLE_MODES = ("1", "L", "LA", "P", "PA", "RGBA", "RGBX", "CMYK", "YCbCr")
# Colour of 16 bits a channel. Pillow keeps the byte that comes first in its opinion, so reading in
# the other byte order as well gives both.
DEEP_MODE = re.compile(r"(RGB|RGBX|RGBA|CMYK);16([LBN])")
UNSCALABLE = ("LA;16", "RGBa;16")  # Pillow reads these in one byte order
OTHER_ORDER = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}
# Bits of a camera's values, whatever the file has room for.
DEPTHS = (8, 10, 12, 14, 16)
# Of 256. A cell and its background span about a hundred; a camera's noise alone, about ten.
LEAST_SPAN = 16
FAINT = "uses almost none of its range"
# The beginning of a JPEG, and what follows it 9 bytes on if nothing else does.
JFIF, QUANTISATION = b"\xff\xd8\xff\xe0\0\x10JFIF\0", b"\xff\xdb"
# A file that declares more pixels than this is not opened further (a decompression bomb).
MOST_PIXELS = 4096 * 4096
# Each scan of a progressive JPEG goes over all pixels, and a scan of a few bytes is enough: a small
# file can take hours. Programs write about ten.
START_OF_SCAN = re.compile(b"\xff\xda")
MOST_SCANS = 100
# A TIFF's tile is decoded whole, however small the picture that is cut from it. Pillow doesn't see
# a side that is written as a number with a sign and 64 bits (type 17), as no program does; libtiff,
# which decodes, does.
TILE_WIDTH, TILE_LENGTH = 322, 323
BITS, PLANES, COLOUR_MAP = 258, 284, 320
UNSEEN_TILE_SIDE = re.compile(rb"[BC]\x01\x11\0\x01\0\0\0|\x01[BC]\0\x11\0\0\0[\0\x01]")

Status = Literal["taken", "converted", "left_out"]
Pixels = npt.NDArray[np.uint8]
DeepPixels = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class Decoded:
    """What became of one file.

    Attributes:
        pixels: (size, size, 3) uint8, or None where the picture is left out.
        status: taken as it is, converted, or left out.
        reason: what was converted, that the picture is faint, or why it is left out; else empty.
    """

    pixels: Pixels | None
    status: Status
    reason: str


def decode_picture(
    content: bytes, path: str, image: ImageParameters, greatest: Callable[[], int] = lambda: 0
) -> Decoded:
    """Decode a file, check size and mode, keep the central square and scale it.

    Colour of 16 bits a channel is scaled by the camera's depth, which is the least of `DEPTHS` that
    holds the greatest value of this picture and of the others of its patient. Pictures of one
    patient so keep their relative brightness.

    Args:
        content: the file's bytes.
        path: its path in the cohort, for messages and for its suffix.
        image: the block `image` of the parameters.
        greatest: gives the greatest value in the patient's other 16-bit pictures; called for a
            16-bit picture alone.

    Returns:
        The picture and its status.

    Raises:
        UserError: a parameter says `refuse` for what is wrong with this file.
    """
    try:
        mode, size, picture = _open(content, path)
    except Exception as error:
        # A broken file makes Pillow raise whatever its parsers stumble over, TypeError and
        # DecompressionBombError among them; none of it may end the run.
        return refuse_or_leave_out(f"can't be decoded: {error}", path, image)
    changes = []
    if mode != "RGB":
        changes.append((f"mode {mode}, not RGB", "other_mode", image.other_mode))
    if size != (image.source_size, image.source_size):
        asked = f"{image.source_size}x{image.source_size}"
        changes.append((f"{size[0]}x{size[1]} pixels, not {asked}", "other_size", image.other_size))
    for reason, key, policy in changes:
        if policy == "refuse":
            raise UserError(f"{path}: {reason}; image.{key} is 'refuse'.")
        if policy == "leave_out":
            return Decoded(None, "left_out", reason)
    reasons = [reason for reason, _, _ in changes]
    if isinstance(picture, Image.Image):
        if picture.mode not in ("RGB", *CONVERTIBLE_MODES) or mode.startswith(UNSCALABLE):
            return refuse_or_leave_out(f"mode {mode} has no 8-bit RGB form", path, image)
        if _mend_palette(picture):
            reasons.append("palette taken as 8-bit values")
        pixels = np.asarray(picture.convert("RGB"))
    elif picture.dtype == np.uint16:
        top = max(int(picture.max()), greatest())
        depth = next(bits for bits in DEPTHS if top < 2**bits)
        reasons.append(f"read as {depth}-bit values")
        shallow = (picture >> (depth - 8)).astype(np.uint8)
        pixels = np.asarray(
            Image.fromarray(shallow, "CMYK" if shallow.shape[2] == 4 else "RGB").convert("RGB")
        )
    else:
        pixels = picture
    stored = _stored(pixels, image)
    span = _span(stored)
    if span == 0:
        return refuse_or_leave_out("; ".join([*reasons, "is of one colour"]), path, image)
    if span < LEAST_SPAN:
        reasons.append(f"{FAINT}: {span + 1} of 256 values")
    return Decoded(stored, "converted" if changes else "taken", "; ".join(reasons))


def greatest_value(content: bytes, path: str) -> int:
    """Find the greatest value of a picture with 16 bits a channel.

    Args:
        content: the file's bytes.
        path: its path in the cohort, for its suffix.

    Returns:
        The value; 0 for any other picture, and for a file that can't be decoded.
    """
    try:
        _, _, picture = _open(content, path)
    except Exception:
        return 0  # decode_picture says why
    if isinstance(picture, Image.Image) or picture.dtype != np.uint16:
        return 0
    return int(picture.max())


def refuse_or_leave_out(reason: str, path: str, image: ImageParameters) -> Decoded:
    """Treat a file that gives no picture as the parameter `image.unreadable` says.

    Args:
        reason: why it gives none.
        path: its path in the cohort.
        image: the block `image` of the parameters.

    Returns:
        The file, left out.

    Raises:
        UserError: `image.unreadable` is `refuse`.
    """
    if image.unreadable == "refuse":
        raise UserError(f"{path}: {reason}; image.unreadable is 'refuse'.")
    return Decoded(None, "left_out", reason)


def _open(
    content: bytes, path: str
) -> tuple[str, tuple[int, int], Image.Image | Pixels | DeepPixels]:
    """The mode in the file, width and height, and the picture.

    Of a JPEG in colour its pixels; of colour with 16 bits a channel its values, without alpha.
    """
    if not path.lower().endswith(SUFFIXES):
        raise ValueError(f"not a picture file (expected {', '.join(SUFFIXES)})")
    # As cameras of microscopes write them: neither a preview nor a second picture before the first.
    if content[:11] == JFIF and content[20:22] == QUANTISATION:
        pixels = _pixels_of_jpeg(content)
        if pixels is not None:
            return "RGB", (pixels.shape[1], pixels.shape[0]), pixels
    try:
        picture = Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        # Pillow's own message has an address in memory, which differs from run to run.
        raise ValueError(f"no picture in {', '.join(FORMATS)}") from None
    if picture.width * picture.height > MOST_PIXELS:
        raise ValueError(f"declares {picture.width}x{picture.height} pixels")
    if isinstance(picture, TiffImageFile):
        _check_tiff(picture, content)
    if _has_second(picture):
        raise ValueError("holds more than one picture")
    if picture.format == "JPEG" and _has_more_scans(content):
        raise ValueError(f"is a JPEG of more than {MOST_SCANS} scans")
    mode = _mode_in_file(picture)
    if picture.format == "JPEG" and mode == "RGB":
        pixels = _pixels_of_jpeg(content)
        # Two parsers may find two sizes in a forged file.
        if pixels is not None and pixels.shape[1::-1] == picture.size:
            return mode, picture.size, pixels
    other = _in_other_byte_order(picture, content)
    picture.load()
    if other is None:
        return mode, picture.size, picture
    big = np.asarray(picture).astype(np.uint16) << 8 | np.asarray(other)
    return mode, picture.size, big if picture.mode == "CMYK" else big[..., :3]


def _in_other_byte_order(
    picture: ImageFile.ImageFile, content: bytes
) -> ImageFile.ImageFile | None:
    """The low bytes of a picture whose channels have 16 bits, as a picture; None of any other."""
    found = [DEEP_MODE.search(str(tile.args)) for tile in picture.tile]
    if not found or not all(found):
        return None
    other = Image.open(io.BytesIO(content), formats=FORMATS)
    other.tile = [tile._replace(args=_swapped(tile.args)) for tile in other.tile]
    return other


def _swapped(args: Any) -> Any:
    if isinstance(args, tuple):
        return (_swapped(args[0]), *args[1:])
    return args[:-1] + OTHER_ORDER[args[-1]]


def _mend_palette(picture: Image.Image) -> bool:
    """Put right a TIFF's palette that is written in 8-bit values; whether it was.

    TIFF wants 16 bits, and Pillow takes the upper 8. libtiff looks for any value above 255, too.
    """
    if not isinstance(picture, TiffImageFile) or picture.mode not in ("P", "PA"):
        return False
    values = np.asarray(picture.tag_v2[COLOUR_MAP])
    if values.max() > 255 or values.max() == 0:
        return False
    picture.putpalette(values.reshape(3, -1).T.astype(np.uint8).tobytes())
    return True


def _span(pixels: Pixels) -> int:
    """Range of the values of the channel that uses most, but for its odd pixels; 0: one colour."""
    # Some sixty values of green show that nearly every picture is fine, in little time.
    few = pixels[::28, ::28, 1].tobytes()
    span = max(few) - min(few)
    if span >= LEAST_SPAN or not np.ptp(pixels, axis=(0, 1)).any():
        return span
    # A camera may have a few pixels that are always bright or dark.
    low, high = np.percentile(pixels, (0.1, 99.9), axis=(0, 1), method="nearest")
    return max(1, int((high - low).max()))


def _check_tiff(picture: TiffImageFile, content: bytes) -> None:
    width, length = (picture.tag_v2.get(tag, 0) for tag in (TILE_WIDTH, TILE_LENGTH))
    if width * length > MOST_PIXELS:
        raise ValueError(f"declares tiles of {width}x{length} pixels")
    if UNSEEN_TILE_SIDE.search(content):
        raise ValueError("declares tiles in a form that no program writes")
    # Pillow takes the bytes of such channels for values.
    if picture.tag_v2.get(PLANES) == 2 and max(picture.tag_v2.get(BITS, (8,))) > 8:
        raise ValueError("holds each channel apart, with more than 8 bits a value")


def _has_second(picture: ImageFile.ImageFile) -> bool:
    # Not by `n_frames`: that reads all of a TIFF's hundred thousand pages, for an hour.
    try:
        picture.seek(1)
    except EOFError:
        return False
    return True


def _has_more_scans(content: bytes) -> bool:
    # Twice as fast as `bytes.count`, and done after the first too many.
    return any(islice(START_OF_SCAN.finditer(content), MOST_SCANS, None))


def _pixels_of_jpeg(content: bytes) -> Pixels | None:
    """Exactly the pixels that Pillow would give, in half its time; None if Pillow must decide."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
        if colours not in ("YCbCr", "RGB") or height * width > MOST_PIXELS:
            return None
        return None if _has_more_scans(content) else simplejpeg.decode_jpeg(content)
    except Exception:
        return None  # damaged, according to simplejpeg: Pillow words the message


def _mode_in_file(picture: ImageFile.ImageFile) -> str:
    """Pillow's mode, or its raw mode where channels of other than 8 bits become 8-bit silently."""
    for tile in picture.tile:
        if raw := re.search(r"\w+;1[56]\w*", str(tile.args)):
            return raw.group()
    return picture.mode


def _stored(pixels: Pixels, image: ImageParameters) -> Pixels:
    if pixels.shape[:2] != (image.source_size, image.source_size):
        # The whole short side is kept, so that the cell stays in the middle and undistorted.
        pixels = _scaled(_central_square(pixels, min(pixels.shape[:2])), image.source_size)
    pixels = _central_square(pixels, image.crop)
    return pixels if image.crop == image.size else _scaled(pixels, image.size)


def _central_square(pixels: Pixels, side: int) -> Pixels:
    height, width = pixels.shape[:2]
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]


def _scaled(pixels: Pixels, side: int) -> Pixels:
    picture = Image.fromarray(pixels)
    return np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR))
