import io
import struct
import zlib

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lymphocytosis.errors import UserError
from lymphocytosis.imaging.decode import FAINT, decode_picture

SIZE = 40
PATH = "trainset/P1/cell.png"


def encode(pixels, file_format="PNG", mode=None, **options):
    file = io.BytesIO()
    Image.fromarray(pixels, mode).save(file, file_format, **options)
    return file.getvalue()


def places(height, width):
    """A picture in which each pixel says where it stands."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.full_like(rows, 7)], axis=-1).astype(np.uint8)


def noise(*shape, seed=0, dtype=np.uint8):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


def hand_made_png(width, height, depth=8, rows=b"", kind=2):
    """A PNG in colour (kind 2), or colour and alpha (kind 6)."""

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def png_of_16_bits(pixels, kind=2):
    rows = pixels.astype(">u2")
    body = b"".join(b"\0" + row.tobytes() for row in rows)
    return hand_made_png(pixels.shape[1], pixels.shape[0], 16, body, kind)


def animation(file_format):
    first, second = (
        Image.fromarray(noise(SIZE, SIZE, 3)),
        Image.fromarray(noise(SIZE, SIZE, 3, seed=1)),
    )
    file = io.BytesIO()
    first.save(file, file_format, save_all=True, append_images=[second])
    return file.getvalue()


class TestCrop:
    @given(st.integers(33, 90), st.data())
    def test_keeps_exactly_the_middle(self, image_parameters, source, data):
        side = data.draw(st.integers(33, source))
        image = image_parameters(source_size=source, crop=side, size=side)
        kept = decode_picture(encode(places(source, source)), PATH, image).pixels
        assert (kept.shape, kept.dtype) == ((side, side, 3), np.uint8)
        top, left = int(kept[0, 0, 0]), int(kept[0, 0, 1])
        np.testing.assert_array_equal(kept, places(source, source)[top:, left:][:side, :side])
        for before, after in ((top, source - side - top), (left, source - side - left)):
            assert abs(before - after) <= 1

    def test_without_a_crop_every_pixel_stays(self, image_parameters):
        pixels = noise(SIZE, SIZE, 3)
        decoded = decode_picture(encode(pixels), PATH, image_parameters())
        np.testing.assert_array_equal(decoded.pixels, pixels)
        assert (decoded.status, decoded.reason) == ("taken", "")

    @pytest.mark.parametrize(("crop", "size"), [(40, 80), (20, 40), (40, 100)])
    def test_a_ramp_stays_the_same_ramp_when_scaled(self, image_parameters, crop, size):
        image = image_parameters(crop=crop, size=size)
        ramp = 5 * places(SIZE, SIZE)
        scaled = decode_picture(encode(ramp), PATH, image).pixels
        # The centre of new pixel j lies at (j + 1/2) crop / size of the crop.
        along = 5 * ((np.arange(size) + 0.5) * crop / size - 0.5 + (SIZE - crop) / 2)
        rim = size // crop + 1
        inner = slice(rim, -rim)
        assert scaled.shape == (size, size, 3)
        assert np.abs(scaled[inner, inner, 0] - along[inner, None]).max() <= 0.5 + 1e-6
        assert np.abs(scaled[inner, inner, 1] - along[None, inner]).max() <= 0.5 + 1e-6
        assert (scaled[..., 2] == 35).all()


class TestOtherSize:
    @pytest.mark.parametrize(("height", "width"), [(40, 41), (80, 40), (40, 77)])
    def test_a_picture_that_is_too_long_keeps_the_middle_of_its_short_side(
        self, image_parameters, height, width
    ):
        decoded = decode_picture(encode(places(height, width)), PATH, image_parameters())
        top, left = (height - SIZE) // 2, (width - SIZE) // 2
        expected = places(height, width)[top:, left:][:SIZE, :SIZE]
        np.testing.assert_array_equal(decoded.pixels, expected)
        assert decoded.status == "converted"
        assert decoded.reason == f"{width}x{height} pixels, not 40x40"

    @pytest.mark.parametrize("factor", [2, 0.5])
    def test_another_scale_is_brought_to_the_source_size_before_the_crop(
        self, image_parameters, factor
    ):
        side = int(SIZE * factor)
        image = image_parameters(source_size=SIZE, crop=34, size=34)
        decoded = decode_picture(encode(3 * places(side, side)), PATH, image)
        # The centre of pixel j of the picture at its proper scale, 3 of which are cropped away.
        along = 3 * ((np.arange(3, 37) + 0.5) * factor - 0.5)
        assert np.abs(decoded.pixels[..., 0] - along[:, None]).max() <= 0.5 + 1e-6
        assert np.abs(decoded.pixels[..., 1] - along[None, :]).max() <= 0.5 + 1e-6

    def test_two_by_two_pixels_fill_the_picture(self, image_parameters):
        four = noise(2, 2, 3)
        decoded = decode_picture(encode(four), PATH, image_parameters())
        np.testing.assert_array_equal(decoded.pixels[::39, ::39], four)
        assert decoded.pixels.shape == (SIZE, SIZE, 3)

    def test_is_left_out_where_the_parameter_says_so(self, image_parameters):
        image = image_parameters(other_size="leave_out")
        decoded = decode_picture(encode(noise(40, 41, 3)), PATH, image)
        assert decoded.pixels is None
        assert (decoded.status, decoded.reason) == ("left_out", "41x40 pixels, not 40x40")

    def test_is_refused_where_the_parameter_says_so(self, image_parameters):
        image = image_parameters(other_size="refuse")
        with pytest.raises(UserError, match=f"{PATH}: 41x40 pixels.*image.other_size is 'refuse'"):
            decode_picture(encode(noise(40, 41, 3)), PATH, image)


GREY = noise(SIZE, SIZE)
COLOURS = noise(SIZE, SIZE, 3)
FOUR = noise(SIZE, SIZE, 4)
DEEP = noise(SIZE, SIZE, 3, dtype=np.uint16)
PALETTE = noise(256, 3, seed=1)


def in_palette(indices):
    picture = Image.fromarray(indices, "L")
    picture.putpalette(PALETTE.tobytes())
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def cmyk_to_rgb(inks):
    """What light the four inks leave: (1 - ink) (1 - black)."""
    left = (255 - inks.astype(float)) / 255
    return 255 * left[..., :3] * left[..., 3:]


# Name: mode in the file, file, and the picture's colours by their definition.
OTHER_MODES = {
    "grey": ("L", encode(GREY), GREY[..., None].repeat(3, -1)),
    "grey and alpha": ("LA", encode(FOUR[..., :2], mode="LA"), FOUR[..., :1].repeat(3, -1)),
    "colour and alpha": ("RGBA", encode(FOUR), FOUR[..., :3]),
    "palette": ("P", in_palette(GREY), PALETTE[GREY]),
    "black and white": (
        "1",
        encode(np.where(GREY > 127, 255, 0).astype(np.uint8) > 0),
        np.where(GREY > 127, 255, 0)[..., None].repeat(3, -1),
    ),
    "printing inks": ("CMYK", encode(FOUR, "TIFF", mode="CMYK"), cmyk_to_rgb(FOUR)),
    "16-bit colour": ("RGB;16B", png_of_16_bits(DEEP), DEEP / 257),
}


@pytest.mark.parametrize("name", OTHER_MODES)
class TestOtherMode:
    def test_is_converted_to_its_colours(self, image_parameters, name):
        mode, content, colours = OTHER_MODES[name]
        path = PATH.replace("png", "tif") if content[:2] in (b"II", b"MM") else PATH
        decoded = decode_picture(content, path, image_parameters())
        depth = "; read as 16-bit values" * (";16" in mode)
        assert (decoded.status, decoded.reason) == ("converted", f"mode {mode}, not RGB{depth}")
        assert np.abs(decoded.pixels - colours.astype(float)).max() <= 1

    def test_is_left_out_where_the_parameter_says_so(self, image_parameters, name):
        mode, content, _ = OTHER_MODES[name]
        decoded = decode_picture(content, PATH, image_parameters(other_mode="leave_out"))
        assert decoded.pixels is None
        assert (decoded.status, decoded.reason) == ("left_out", f"mode {mode}, not RGB")

    def test_is_refused_where_the_parameter_says_so(self, image_parameters, name):
        mode, content, _ = OTHER_MODES[name]
        with pytest.raises(
            UserError, match=f"{PATH}: mode {mode}, not RGB; image.other_mode is 'refuse'"
        ):
            decode_picture(content, PATH, image_parameters(other_mode="refuse"))


def deep_tiff(pixels, order, packed, palette=None):
    """An RGB TIFF of 16 bits a channel in one strip; or of 8-bit indices, with its palette."""
    channels = 1 if palette is not None else 3
    bits = 8 if palette is not None else 16
    data = pixels.astype(order + f"u{bits // 8}").tobytes()
    data = zlib.compress(data) if packed else data
    height, width = pixels.shape[:2]
    apart = {258: np.full(channels, bits)} if channels == 3 else {320: np.ravel(palette.T)}
    tags = {
        256: width, 257: height, 258: bits, 259: 8 if packed else 1, 262: 2 if channels == 3 else 3,
        273: 0, 277: channels, 278: height, 279: len(data),
    }  # fmt: skip
    (tag, values) = next(iter(apart.items()))
    start = 8 + 2 + 12 * len(tags | apart) + 4
    tags |= {tag: start, 273: start + 2 * len(values)}
    entries = b"".join(
        struct.pack(order + "HHII", tag, 3, len(apart[tag]), value)
        if tag in apart
        else struct.pack(order + "HHII", tag, 4, 1, value)
        for tag, value in sorted(tags.items())
    )
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HIH", 42, 8, len(tags))
    return head + entries + bytes(4) + values.astype(order + "u2").tobytes() + data


class TestSixteenBitsAChannel:
    FORMS = ("png", "<", ">", "< packed", "> packed")

    def written(self, pixels, form):
        if form == "png":
            return png_of_16_bits(pixels)
        return deep_tiff(pixels, form[0], "packed" in form)

    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
    def test_the_cameras_depth_gives_the_scale(self, image_parameters, form, bits):
        values = DEEP >> (16 - bits)
        decoded = decode_picture(self.written(values, form), PATH, image_parameters())
        np.testing.assert_array_equal(decoded.pixels, DEEP >> 8)
        assert decoded.status == "converted"
        assert decoded.reason.endswith(f"; read as {bits}-bit values")

    @given(st.integers(1, 65_535), st.integers(0, 65_535))
    def test_no_value_is_clipped_and_order_stays(self, image_parameters, top, elsewhere):
        ramp = np.linspace(0, top, SIZE * SIZE * 3).astype(np.uint16).reshape(SIZE, SIZE, 3)
        decoded = decode_picture(
            png_of_16_bits(ramp), PATH, image_parameters(), greatest=lambda: elsewhere
        )
        if decoded.pixels is not None:
            assert (np.diff(decoded.pixels.ravel().astype(int)) >= 0).all()
            bits = int(decoded.reason.partition("read as ")[2].partition("-")[0])
            assert max(top, elsewhere) < 2**bits
            np.testing.assert_array_equal(decoded.pixels, ramp >> (bits - 8))

    def test_an_opaque_alpha_says_nothing_about_the_depth(self, image_parameters):
        values = np.dstack([DEEP >> 4, np.full((SIZE, SIZE), 65_535)])
        content = png_of_16_bits(values, kind=6)
        decoded = decode_picture(content, PATH, image_parameters())
        np.testing.assert_array_equal(decoded.pixels, DEEP >> 8)
        assert decoded.reason == "mode RGBA;16B, not RGB; read as 12-bit values"


class TestPalettes:
    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize(
        ("factor", "said"), [(1, "; palette taken as 8-bit values"), (257, "")]
    )
    def test_of_either_range_give_their_colours(self, image_parameters, order, factor, said):
        palette = PALETTE.astype(np.uint16) * factor
        content = deep_tiff(GREY, order, packed=False, palette=palette)
        decoded = decode_picture(content, PATH, image_parameters())
        np.testing.assert_array_equal(decoded.pixels, PALETTE[GREY])
        assert (decoded.status, decoded.reason) == ("converted", f"mode P, not RGB{said}")


class TestWhatConversionGave:
    @pytest.mark.parametrize("file_format", ["JPEG", "PNG", "BMP", "TIFF"])
    @pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (200, 10, 90)])
    def test_one_colour_is_left_out(self, image_parameters, file_format, colour):
        content = encode(np.full((SIZE, SIZE, 3), colour, dtype=np.uint8), file_format)
        decoded = decode_picture(content, PATH, image_parameters())
        assert decoded.pixels is None
        assert (decoded.status, decoded.reason) == ("left_out", "is of one colour")
        with pytest.raises(UserError, match=r"is of one colour; image.unreadable is 'refuse'"):
            decode_picture(content, PATH, image_parameters(unreadable="refuse"))

    @pytest.mark.parametrize(("share", "said"), [(0.0005, FAINT), (0.002, "")])
    def test_a_few_pixels_that_are_always_bright_are_no_picture(
        self, image_parameters, share, said
    ):
        pixels = np.zeros((200, 200, 3), dtype=np.uint8)
        pixels[150, 3 : 3 + int(share * 200 * 200)] = 200
        sides = {"source_size": 200, "crop": 200, "size": 200}
        decoded = decode_picture(encode(pixels), PATH, image_parameters(**sides))
        assert decoded.status == "taken"
        assert decoded.reason.startswith(said)
        assert bool(decoded.reason) == bool(said)

    @pytest.mark.parametrize(
        ("values", "said"), [(16, "uses almost none of its range: 16 of 256 values"), (17, "")]
    )
    def test_few_values_are_said_to_be(self, image_parameters, values, said):
        pixels = (100 + np.arange(SIZE * SIZE * 3) % values).reshape(SIZE, SIZE, 3)
        decoded = decode_picture(encode(pixels.astype(np.uint8)), PATH, image_parameters())
        assert (decoded.status, decoded.reason) == ("taken", said)


class TestModesWithoutAnEightBitForm:
    FILES = (
        encode(noise(SIZE, SIZE, dtype=np.uint16)),
        encode(noise(SIZE, SIZE).astype(np.float32), "TIFF"),
        encode(noise(SIZE, SIZE).astype(np.int32), "TIFF"),
    )

    @pytest.mark.parametrize("content", FILES)
    def test_are_left_out_not_clipped(self, image_parameters, content):
        decoded = decode_picture(content, PATH, image_parameters())
        assert decoded.pixels is None
        assert decoded.status == "left_out"
        assert "has no 8-bit RGB form" in decoded.reason

    @pytest.mark.parametrize("content", FILES)
    @pytest.mark.parametrize("key", ["other_mode", "unreadable"])
    def test_are_refused_where_either_parameter_says_so(self, image_parameters, content, key):
        with pytest.raises(UserError, match=f"{PATH}: mode .*; image.{key} is 'refuse'"):
            decode_picture(content, PATH, image_parameters(**{key: "refuse"}))


def test_every_fault_of_a_converted_picture_is_reported(image_parameters):
    decoded = decode_picture(encode(noise(50, 40)), PATH, image_parameters())
    assert decoded.reason == "mode L, not RGB; 40x50 pixels, not 40x40"


def jpeg_of_scans(more):
    """A progressive JPEG whose last scan, of a few bytes, stands there so many times more."""
    whole = encode(COLOURS, "JPEG", progressive=True)
    last = whole[whole.rindex(b"\xff\xda") : -2]
    return whole[:-2] + last * more + whole[-2:]


def tiled_tiff(pixels, side, order="<", side_type=4, big=False):
    """A grey TIFF of one tile, by the specification; a side of another type is written apart."""
    height, width = pixels.shape
    # Of a tile beyond memory, the file holds the picture's rows alone.
    tile = np.zeros((side if side < 5000 else height, side), dtype=np.uint8)
    tile[:height, :width] = pixels
    data = struct.pack(order + "Q", side) + zlib.compress(tile.tobytes())
    tags = {256: width, 257: height, 258: 8, 259: 8, 262: 1, 277: 1, 322: side, 323: side}
    entry, count, start = ("HHQQ", "Q", 16) if big else ("HHII", "H", 8)
    apart = start + struct.calcsize("<" + count) + 10 * struct.calcsize("<" + entry) + start // 2
    tags |= {324: apart + 8, 325: len(data) - 8}
    form = {322: side_type, 323: side_type}
    if side_type != 4 and not big:
        tags |= {322: apart, 323: apart}
    # Small numbers stand at the left of their field.
    entries = b"".join(
        struct.pack(order + entry, tag, form.get(tag, 16 if big else 4), 1, value)
        for tag, value in tags.items()
    )
    header = struct.pack(order + "HHHQ", 43, 8, 0, 16) if big else struct.pack(order + "HI", 42, 8)
    body = struct.pack(order + count, len(tags)) + entries + bytes(start // 2)
    return (b"II" if order == "<" else b"MM") + header + body + data


def tiff_of_pages(n):
    """Pages that all show the same 8x8 pixels: 114 bytes each."""
    tags = {256: 8, 257: 8, 258: 8, 259: 1, 262: 1, 273: 0, 277: 1, 278: 8, 279: 64}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    page = struct.pack("<H", len(tags)) + entries
    follow = [8 + (len(page) + 4) * k for k in range(n)] + [0]
    return struct.pack("<4sI", b"II*\0", 8) + b"".join(
        page + struct.pack("<I", place) for place in follow[1:]
    )


# Name: file, its path, a part of the reason.
UNREADABLE = {
    "empty": (b"", PATH, "no picture in JPEG, PNG, BMP, TIFF"),
    "text": (b"dear colleague", PATH, "no picture in JPEG"),
    "other suffix": (encode(COLOURS), "trainset/P1/notes.txt", "not a picture file (expected .jpg"),
    "no suffix": (encode(COLOURS), "trainset/P1/png", "not a picture file"),
    "other format under a known suffix": (encode(COLOURS, "GIF"), PATH, "no picture in JPEG"),
    "header alone": (encode(COLOURS)[:33], PATH, "can't be decoded"),
    "half a PNG": (encode(COLOURS)[:2000], PATH, "truncated"),
    "half a JPEG": (encode(COLOURS, "JPEG")[:900], PATH, "truncated"),
    "half a BMP": (encode(COLOURS, "BMP")[:900], PATH, "truncated"),
    "damaged pixels": (encode(COLOURS)[:1000] + b"?" + encode(COLOURS)[1001:], PATH, "broken"),
    "just too many pixels": (hand_made_png(4097, 4096), PATH, "declares 4097x4096 pixels"),
    "decompression bomb": (hand_made_png(60_000, 60_000), PATH, "can't be decoded"),
    "no width": (hand_made_png(0, 40), PATH, "can't be decoded"),
    "moving picture": (animation("PNG"), PATH, "more than one picture"),
    "a JPEG that takes hours": (jpeg_of_scans(3000), PATH, "is a JPEG of more than 100 scans"),
    "a TIFF that takes an hour": (tiff_of_pages(50_000), PATH, "more than one picture"),
    "a tile of two gigabytes": (tiled_tiff(GREY, 45_000), PATH, "tiles of 45000x45000 pixels"),
    "just too large a tile": (tiled_tiff(GREY, 4112), PATH, "tiles of 4112x4112 pixels"),
    "a pair of pictures": (animation("MPO"), PATH, "more than one picture"),
    "several pages": (animation("TIFF"), "trainset/P1/cell.tiff", "more than one picture"),
}


@pytest.mark.parametrize("name", UNREADABLE)
class TestUnreadable:
    def test_is_left_out_with_its_reason(self, image_parameters, name):
        content, path, reason = UNREADABLE[name]
        decoded = decode_picture(content, path, image_parameters())
        assert decoded.pixels is None
        assert decoded.status == "left_out"
        assert reason in decoded.reason

    def test_the_reason_is_the_same_each_time(self, image_parameters, name):
        content, path, _ = UNREADABLE[name]
        once, again = (decode_picture(bytes(content), path, image_parameters()) for _ in range(2))
        assert once.reason == again.reason
        assert " at 0x" not in once.reason

    def test_is_refused_where_the_parameter_says_so(self, image_parameters, name):
        content, path, _ = UNREADABLE[name]
        with pytest.raises(UserError, match=f"{path}: .*; image.unreadable is 'refuse'"):
            decode_picture(content, path, image_parameters(unreadable="refuse"))


class TestTiles:
    """A tile is decoded whole, so its size is what memory takes, not the picture's."""

    FORMS = (("<", False), (">", False), ("<", True))  # Pillow reads no big one that starts with MM

    @pytest.mark.parametrize(("order", "big"), FORMS)
    @pytest.mark.parametrize("side", [48, 64, 4096])
    def test_as_programs_write_them_are_decoded(self, image_parameters, order, big, side):
        content = tiled_tiff(GREY, side, order, 16 if big else 4, big)
        decoded = decode_picture(content, PATH, image_parameters())
        np.testing.assert_array_equal(decoded.pixels, GREY[..., None].repeat(3, -1))

    @pytest.mark.parametrize(
        ("order", "big", "side_type"),
        [("<", False, 4), (">", False, 4), ("<", False, 16), (">", False, 16), ("<", True, 16)],
    )
    def test_a_vast_one_is_left_out(self, image_parameters, order, side_type, big):
        content = tiled_tiff(GREY, 20_000, order, side_type, big)
        decoded = decode_picture(content, PATH, image_parameters())
        assert decoded.reason == "can't be decoded: declares tiles of 20000x20000 pixels"

    @pytest.mark.parametrize(("order", "big"), FORMS)
    def test_in_a_form_that_only_the_decoder_reads_are_left_out(self, image_parameters, order, big):
        # Else libtiff takes memory for a tile of which Pillow tells nothing.
        content = tiled_tiff(GREY, 20_000, order, 17, big)
        assert 322 not in Image.open(io.BytesIO(content)).tag_v2
        decoded = decode_picture(content, PATH, image_parameters())
        assert decoded.reason == "can't be decoded: declares tiles in a form that no program writes"


class TestSuffix:
    @pytest.mark.parametrize("suffix", ["jpg", "JPG", "jpeg", "Png", "bmp", "TIF", "tiff"])
    def test_the_content_tells_the_format_whatever_known_suffix_it_has(
        self, image_parameters, suffix
    ):
        decoded = decode_picture(encode(COLOURS), f"trainset/P1/cell.{suffix}", image_parameters())
        np.testing.assert_array_equal(decoded.pixels, COLOURS)

    @pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF"])
    def test_formats_without_loss_give_the_same_pixels(self, image_parameters, file_format):
        decoded = decode_picture(encode(COLOURS, file_format), PATH, image_parameters())
        np.testing.assert_array_equal(decoded.pixels, COLOURS)
        assert decoded.status == "taken"


# By itself decode_picture lets Pillow warn; decode_pictures silences it.
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
class TestAnyBytes:
    """Whatever a file holds, the run goes on: a whole picture, or a reason."""

    FILES = tuple(encode(COLOURS, file_format) for file_format in ("JPEG", "PNG", "BMP", "TIFF"))

    def check(self, content, image):
        decoded = decode_picture(content, PATH, image)
        if decoded.pixels is None:
            assert decoded.status == "left_out"
            assert decoded.reason
        else:
            assert (decoded.pixels.shape, decoded.pixels.dtype) == ((SIZE, SIZE, 3), np.uint8)
            assert bool(decoded.reason) == (decoded.status == "converted")
        return decoded

    @settings(max_examples=300)
    @given(
        st.sampled_from(FILES),
        st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), max_size=6),
        st.integers(0, 5000),
    )
    def test_damage_near_the_start_and_a_cut_never_end_the_run(
        self, image_parameters, whole, edits, length
    ):
        content = bytearray(whole)
        for at, value in edits:
            content[at] = value
        self.check(bytes(content[:length]), image_parameters())

    @given(
        st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"MM\0*"]),
        st.binary(max_size=200),
    )
    def test_random_bytes_after_a_known_beginning_never_end_the_run(
        self, image_parameters, start, rest
    ):
        self.check(start + rest, image_parameters())

    @given(st.sampled_from(FILES), st.floats(0, 1, exclude_max=True))
    def test_a_cut_file_is_left_out_or_gives_the_whole_picture(
        self, image_parameters, whole, share
    ):
        cut = self.check(whole[: int(share * len(whole))], image_parameters())
        if cut.pixels is not None:
            expected = decode_picture(whole, PATH, image_parameters()).pixels
            np.testing.assert_array_equal(cut.pixels, expected)


# Pillow warns of some damage; decode_pictures silences it.
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
class TestJpeg:
    """Another library decodes plain JPEGs: to the very pixels, and the very words, of Pillow."""

    def by_pillow(self, content):
        picture = Image.open(io.BytesIO(content), formats=["JPEG"])
        picture.load()
        return np.asarray(picture.convert("RGB"))

    def smooth(self, height, width, seed):
        """Blocks of colour with a little noise: edges and gradients, as pictures have them."""
        rng = np.random.default_rng(seed)
        blocks = rng.integers(0, 256, (height // 5 + 1, width // 5 + 1, 3))
        pixels = blocks.repeat(5, axis=0).repeat(5, axis=1)[:height, :width]
        return np.clip(pixels + rng.normal(0, 8, pixels.shape), 0, 255).astype(np.uint8)

    def check_equal(self, content, image_parameters):
        expected = self.by_pillow(content)
        side = expected.shape[0]
        image = image_parameters(source_size=side, crop=side, size=side)
        decoded = decode_picture(content, "cell.jpg", image)
        assert decoded.status == "taken"
        np.testing.assert_array_equal(decoded.pixels, expected)

    @given(st.data(), st.integers(33, 80), st.integers(0, 9), st.integers(1, 100))
    def test_every_way_that_pillow_writes(self, image_parameters, data, side, seed, quality):
        options = {
            "subsampling": data.draw(st.sampled_from([0, 1, 2])),
            "progressive": data.draw(st.booleans()),
            "optimize": data.draw(st.booleans()),
            "restart_marker_blocks": data.draw(st.integers(0, 5)),
        }
        content = encode(self.smooth(side, side, seed), "JPEG", quality=quality, **options)
        self.check_equal(content, image_parameters)

    def test_stored_as_rgb(self, image_parameters):
        self.check_equal(
            encode(self.smooth(41, 41, 0), "JPEG", keep_rgb=True, subsampling=0), image_parameters
        )

    @pytest.mark.parametrize("subsampling", ["444", "422", "420", "440", "411"])
    @pytest.mark.parametrize("quality", [5, 50, 90, 100])
    def test_every_subsampling(self, image_parameters, subsampling, quality):
        for side in (40, 41, 47):
            pixels = np.ascontiguousarray(self.smooth(side, side, side))
            content = simplejpeg.encode_jpeg(pixels, quality, colorsubsampling=subsampling)
            self.check_equal(content, image_parameters)

    def test_as_many_scans_as_a_program_may_write_are_decoded(self, image_parameters):
        self.check_equal(jpeg_of_scans(90), image_parameters)

    def test_pillow_is_not_asked_for_the_pixels_of_a_sound_file(
        self, image_parameters, monkeypatch
    ):
        content = encode(COLOURS, "JPEG")
        expected = self.by_pillow(content)
        monkeypatch.delattr("PIL.ImageFile.ImageFile.load")
        decoded = decode_picture(content, PATH, image_parameters())
        np.testing.assert_array_equal(decoded.pixels, expected)

    @pytest.mark.parametrize("mode", ["L", "CMYK"])
    def test_other_modes_are_pillows(self, image_parameters, mode):
        content = encode(self.smooth(SIZE, SIZE, 0), "JPEG")
        file = io.BytesIO()
        Image.open(io.BytesIO(content)).convert(mode).save(file, "JPEG")
        decoded = decode_picture(file.getvalue(), PATH, image_parameters())
        np.testing.assert_array_equal(decoded.pixels, self.by_pillow(file.getvalue()))
        assert decoded.reason == f"mode {mode}, not RGB"

    @settings(max_examples=300)
    @given(st.data(), st.booleans())
    def test_damage_ends_as_with_pillow_alone(self, image_parameters, data, progressive):
        content = bytearray(encode(self.smooth(SIZE, SIZE, 1), "JPEG", progressive=progressive))
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        content = bytes(content[: data.draw(st.sampled_from([len(content), len(content) // 2]))])
        with pytest.MonkeyPatch.context() as patched:
            patched.delattr(simplejpeg, "decode_jpeg")
            slow = decode_picture(content, PATH, image_parameters())
        fast = decode_picture(content, PATH, image_parameters())
        assert (fast.status, fast.reason) == (slow.status, slow.reason)
        np.testing.assert_array_equal(fast.pixels, slow.pixels)

    def test_a_second_size_in_the_file_is_never_decoded(self, image_parameters, monkeypatch):
        # As if the two libraries had found two sizes.
        monkeypatch.setattr(
            simplejpeg, "decode_jpeg_header", lambda _: (65_000, 65_000, "YCbCr", "420")
        )
        monkeypatch.delattr(simplejpeg, "decode_jpeg")
        content = encode(COLOURS, "JPEG")
        decoded = decode_picture(content, PATH, image_parameters())
        np.testing.assert_array_equal(decoded.pixels, self.by_pillow(content))
