import hashlib
import io
import mmap
import re
import struct
import warnings
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lymphocytosis.cohort.pictures import PictureFile
from lymphocytosis.errors import UserError
from lymphocytosis.imaging.store import (
    decode_pictures,
    map_pixels,
    picture_traces,
    warn_of_pictures,
)

SIZE = 40


def numbered(number):
    """A PNG that says its number in its first pixels."""
    pixels = np.zeros((SIZE, SIZE, 3), dtype=np.uint8)
    pixels[0, 0, :2] = divmod(number, 256)
    pixels[-1] = 255
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=0)
    return file.getvalue()


def deep(pixels):
    """A PNG of 16 bits a channel, which Pillow can't write."""

    def chunk(name, data):
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in pixels.astype(">u2")))
    header = struct.pack(">IIBBBBB", SIZE, SIZE, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def file_of(name, content, patient="P1", subset="train"):
    def read():
        if isinstance(content, Exception):
            raise content
        return content

    return PictureFile(subset, patient, name, f"{subset}set/{patient}/{name}", read)


class TestDecodePictures:
    def test_pictures_come_in_the_order_of_the_files_whoever_decodes_them(self, image_parameters):
        files = [file_of(f"{n}.png", numbered(n)) for n in range(600)]
        decoded = list(decode_pictures(files, image_parameters()))
        numbers = [256 * int(item.pixels[0, 0, 0]) + int(item.pixels[0, 0, 1]) for item in decoded]
        assert numbers == list(range(600))
        assert [item.record["image_id"] for item in decoded] == [f"{n}.png" for n in range(600)]

    def test_each_file_is_read_once(self, image_parameters):
        reads = Counter()

        def reader(name):
            def read():
                reads[name] += 1
                return numbered(0)

            return read

        names = [f"{n}.png" for n in range(300)]
        files = [PictureFile("train", "P1", name, name, reader(name)) for name in names]
        assert len(list(decode_pictures(files, image_parameters()))) == 300
        assert reads == Counter(names)

    def test_a_record_names_the_file_and_its_status(self, image_parameters):
        content = numbered(1)
        files = [
            file_of("a.png", content, "007", "test"),
            file_of("b.png", b"?"),
            file_of("c.png", OSError("not a file")),
        ]
        records = [item.record for item in decode_pictures(files, image_parameters())]
        assert records[0] == {
            "patient_id": "007",
            "image_id": "a.png",
            "subset": "test",
            "path": "testset/007/a.png",
            "sha256": hashlib.sha256(content).hexdigest(),
            "status": "taken",
            "reason": "",
        }
        assert records[1]["sha256"] == hashlib.sha256(b"?").hexdigest()
        assert records[1]["reason"].startswith("can't be decoded: ")
        assert (records[2]["status"], records[2]["sha256"]) == ("left_out", "")
        assert records[2]["reason"] == "can't be read: not a file"

    @pytest.mark.parametrize("content", [b"?", OSError("no permission")])
    def test_a_file_is_refused_where_the_parameter_says_so(self, image_parameters, content):
        files = [file_of(f"{n}.png", numbered(n)) for n in range(20)] + [
            file_of("bad.png", content)
        ]
        with pytest.raises(UserError, match=r"trainset/P1/bad.png: .*image.unreadable is 'refuse'"):
            list(decode_pictures(files, image_parameters(unreadable="refuse")))

    def test_pictures_of_a_patient_are_scaled_by_the_greatest_value_among_them(
        self, image_parameters
    ):
        bright = np.full((SIZE, SIZE, 3), 4000)
        bright[0] = 0
        contents = [deep(pixels) for pixels in (bright // 8, bright, bright // 4)]
        files = [file_of(f"{n}.png", content, "P1") for n, content in enumerate(contents)]
        files += [file_of("0.png", contents[0], "P2"), file_of("1.jpg", b"?", "P2")]
        decoded = list(decode_pictures(files, image_parameters()))
        greatest = [item.pixels.max() for item in decoded if item.pixels is not None]
        assert greatest == [500 // 16, 4000 // 16, 1000 // 16, 500 // 4]
        said = warn_of_pictures(pd.DataFrame([item.record for item in decoded]))
        assert len(said) == 3
        assert "1 picture(s) with 16 bits a channel were read as 10-bit values" in said[0]
        assert "3 picture(s) with 16 bits a channel were read as 12-bit values" in said[1]
        assert "Patients: P1." in said[1]
        assert "can't be compared" in said[2]

    def test_a_faint_picture_is_taken_with_a_warning(self, image_parameters):
        file = io.BytesIO()
        noise = np.random.default_rng(0).integers(0, 14, (SIZE, SIZE, 3), dtype=np.uint8)
        Image.fromarray(noise).save(file, "PNG")
        files = [file_of("a.png", numbered(1)), file_of("b.png", file.getvalue())]
        records = [item.record for item in decode_pictures(files, image_parameters())]
        assert [record["status"] for record in records] == ["taken", "taken"]
        (said,) = warn_of_pictures(pd.DataFrame(records))
        assert said.startswith("1 picture(s) use fewer than 16 of the 256 values")
        assert said.endswith(": trainset/P1/b.png.")

    def test_no_files_give_no_pictures(self, image_parameters):
        assert list(decode_pictures([], image_parameters())) == []


def picture_file(form, size, mode="RGB"):
    noise = np.random.default_rng(0).integers(0, 255, (size, size, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(file, form)
    return file.getvalue()


class TestTraces:
    def test_format_size_and_conversions_of_each_patients_pictures(
        self, image_parameters, store_of
    ):
        files = [
            file_of("a.png", picture_file("PNG", SIZE), "P1"),
            file_of("b.JPG", picture_file("JPEG", SIZE), "P1"),
            file_of("c.jpeg", picture_file("JPEG", 2 * SIZE), "P2"),
            file_of("d.png", picture_file("PNG", SIZE, "L"), "P2"),
            file_of("e.bmp", b"no picture", "P2"),
        ]
        image = image_parameters()
        rows = [
            {**item.record, "row": None if item.pixels is None else row}
            for row, item in enumerate(decode_pictures(files, image))
        ]
        pixels = np.zeros((4, SIZE, SIZE, 3), dtype=np.uint8)
        images = store_of(pixels, pd.DataFrame(rows), image)
        traces = picture_traces(images).set_index("patient_id")
        assert list(traces["format_png"]) == [0.5, 0.5]
        assert list(traces["format_jpeg"]) == [0.5, 0.5]
        assert "format_bmp" not in traces
        assert list(traces["picture_pixels"]) == [SIZE**2, (4 * SIZE**2 + SIZE**2) / 2]
        assert list(traces["converted_share"]) == [0, 1]


class TestWarnings:
    def test_those_of_pillow_are_silent_and_all_others_stay_as_they_were(
        self, image_parameters, monkeypatch
    ):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", SIZE * SIZE - 1)
        content = numbered(0)
        with pytest.warns(Image.DecompressionBombWarning):
            Image.open(io.BytesIO(content))
        files = [file_of(f"{n}.png", content) for n in range(300)]
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            filters = list(warnings.filters)
            stream = decode_pictures(files, image_parameters())
            next(stream)
            warnings.warn("of the caller", stacklevel=1)
            assert {item.record["status"] for item in stream} == {"taken"}
            assert list(warnings.filters) == filters
        assert [str(warning.message) for warning in seen] == ["of the caller"]


class TestCellImages:
    N = 3000  # pictures, 14 MB in all

    @pytest.fixture
    def pixels(self):
        return np.random.default_rng(0).integers(0, 256, (self.N, SIZE, SIZE, 3), dtype=np.uint8)

    @pytest.fixture
    def images(self, pixels, tmp_path):
        np.save(tmp_path / "pixels-00000.npy", pixels[:2000])
        np.save(tmp_path / "pixels-00001.npy", pixels[2000:])
        return map_pixels(tmp_path)

    def resident(self, images):
        """Bytes of the files that are in this process's memory, as the kernel tells."""
        maps = Path("/proc/self/smaps").read_text()
        found = re.findall(rf"{images.folder}/\S+\n.*?Rss: +(\d+) kB", maps, re.DOTALL)
        assert len(found) == 2
        return 1024 * sum(map(int, found))

    def test_pictures_are_the_same_however_they_are_taken(self, images, pixels):
        rng = np.random.default_rng(1)
        for index in (
            rng.permutation(self.N)[:50],
            pixels[:, 0, 0, 0] > 200,
            np.array([], dtype=np.int64),
            slice(5, 90, 7),
            17,
        ):
            np.testing.assert_array_equal(images[index], pixels[index])

    @pytest.mark.skipif(
        not (hasattr(mmap, "MADV_DONTNEED") and Path("/proc/self/smaps").exists()),
        reason="this system tells no resident pages",
    )
    def test_memory_does_not_grow_with_the_pictures_that_were_copied(self, images, pixels):
        most = 0
        for batch in np.split(np.random.default_rng(2).permutation(self.N), 60):
            images[batch]
            most = max(most, self.resident(images))
        assert most < 1024 * 1024 < pixels.nbytes
        np.testing.assert_array_equal(images[np.arange(self.N)], pixels)
