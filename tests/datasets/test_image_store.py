import base64
import hashlib
import io
import os
import tempfile
import weakref

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kedro.io import Version
from PIL import Image

from lymphocytosis.cohort.pictures import PictureFile
from lymphocytosis.datasets import image_store
from lymphocytosis.datasets.image_store import ImageStoreDataset
from lymphocytosis.imaging.store import PictureStream, StoredPicture, decode_pictures

SIZE = 40


def png(seed, mode="RGB", side=SIZE):
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "PNG")
    return file.getvalue()


GOOD = tuple(png(seed) for seed in range(3))
# What may lie in a patient's folder, and what becomes of it with the parameters used here.
FILES = {
    **dict.fromkeys(GOOD, "taken"),
    png(3, "L"): "converted",
    png(4, side=50): "left_out",
    GOOD[0][:500]: "left_out",
    b"": "left_out",
    b"not a picture": "left_out",
    None: "left_out",  # can't be read
}


def file_of(number, content):
    def read():
        if content is None:
            raise OSError("not a file")
        return content

    return PictureFile("train", f"P{number // 4}", f"{number}.png", f"trainset/{number}.png", read)


def stream_of(contents, image):
    files = [file_of(number, content) for number, content in enumerate(contents)]
    return PictureStream(image, decode_pictures(files, image))


def empty_pictures(image, n=1000):
    """Pictures made one by one when they are asked for."""
    for number in range(n):
        pixels = np.full((image.size, image.size, 3), number % 256, dtype=np.uint8)
        record = {"patient_id": "P1", "image_id": str(number), "subset": "train"}
        record |= {"path": f"trainset/P1/{number}", "sha256": "", "status": "taken", "reason": ""}
        yield StoredPicture(record, pixels)


@pytest.fixture
def dataset(tmp_path):
    return ImageStoreDataset(filepath=str(tmp_path / "store"))


class TestRoundTrip:
    @settings(max_examples=30)
    @given(st.lists(st.sampled_from(list(FILES)), min_size=1, max_size=12))
    def test_rows_are_the_taken_files_in_order_and_records_are_complete(
        self, image_parameters, contents
    ):
        image = image_parameters(other_size="leave_out")
        with tempfile.TemporaryDirectory() as folder:
            dataset = ImageStoreDataset(filepath=f"{folder}/store")
            dataset.save(stream_of(contents, image))
            store = dataset.load()
            kept = [content for content in contents if FILES[content] != "left_out"]
            expected = [np.asarray(Image.open(io.BytesIO(c)).convert("RGB")) for c in kept]
            assert store.shape == (len(kept), SIZE, SIZE, 3)
            assert [bytes(row) for row in np.array(store)] == [bytes(row) for row in expected]
            records = store.records
            del store
        assert records["image_id"].tolist() == [f"{n}.png" for n in range(len(contents))]
        assert records["patient_id"].tolist() == [f"P{n // 4}" for n in range(len(contents))]
        assert records["status"].tolist() == [FILES[content] for content in contents]
        assert records["row"].dropna().tolist() == list(range(len(kept)))
        assert (records["row"].isna() == (records["status"] == "left_out")).all()
        assert (records["reason"].eq("") == records["status"].eq("taken")).all()
        assert records["sha256"].tolist() == [
            "" if content is None else hashlib.sha256(content).hexdigest() for content in contents
        ]

    def test_the_parameters_are_kept_with_the_pictures(self, dataset, image_parameters):
        image = image_parameters(crop=20, size=50, other_mode="leave_out")
        dataset.save(stream_of(GOOD, image))
        assert dataset.load().image == image

    def test_the_pixels_are_a_plain_numpy_file(self, dataset, image_parameters, tmp_path):
        dataset.save(stream_of(GOOD, image_parameters()))
        plain = np.load(tmp_path / "store" / "pixels-00000.npy")
        assert (plain.dtype, plain.shape) == (np.uint8, (3, SIZE, SIZE, 3))
        np.testing.assert_array_equal(plain, dataset.load())

    def test_shards_hold_what_one_file_would(
        self, dataset, image_parameters, tmp_path, monkeypatch
    ):
        image = image_parameters()
        monkeypatch.setattr(image_store, "SHARD_BYTES", 300 * SIZE * SIZE * 3)
        monkeypatch.setattr(image_store, "_ROWS_PER_GROUP", 128)
        dataset.save(PictureStream(image, empty_pictures(image)))
        files = sorted((tmp_path / "store").glob("*.npy"))
        assert [len(np.load(file)) for file in files] == [300, 300, 300, 100]
        store, whole = dataset.load(), np.concatenate([np.load(file) for file in files])
        assert store.shape == whole.shape
        np.testing.assert_array_equal(store, whole)
        rows = np.random.default_rng(0).permutation(1000)
        for index in (rows, slice(290, 610), 999, -1, rows[:0], rows > 500):
            np.testing.assert_array_equal(store[index], whole[index])
        with pytest.raises(IndexError):
            store[np.array([1000])]
        assert store.records["image_id"].tolist() == [str(number) for number in range(1000)]
        assert store.records["row"].tolist() == list(range(1000))

    def test_a_store_from_before_there_were_shards_is_read(
        self, dataset, image_parameters, tmp_path
    ):
        dataset.save(stream_of(GOOD, image_parameters()))
        now = np.array(dataset.load())
        (tmp_path / "store/pixels-00000.npy").rename(tmp_path / "store/pixels.npy")
        np.testing.assert_array_equal(dataset.load(), now)

    def test_versions_are_kept_apart(self, tmp_path, image_parameters):
        for name, n in (("2021-01-01T00.00.00.000Z", 1), ("2021-01-02T00.00.00.000Z", 2)):
            version = Version(None, name)
            versioned = ImageStoreDataset(filepath=str(tmp_path / "store"), version=version)
            versioned.save(stream_of(GOOD[:n], image_parameters()))
        path = str(tmp_path / "store")
        latest = ImageStoreDataset(filepath=path, version=Version(None, None))
        first = ImageStoreDataset(filepath=path, version=Version("2021-01-01T00.00.00.000Z", None))
        assert (len(latest.load()), len(first.load())) == (2, 1)


class TestStreaming:
    def test_a_picture_is_let_go_once_it_is_written(self, dataset, image_parameters):
        made = []
        alive = []

        def pictures():
            for picture in empty_pictures(image_parameters()):
                made.append(weakref.ref(picture))
                alive.append(sum(ref() is not None for ref in made[-20:]))
                yield picture

        dataset.save(PictureStream(image_parameters(), pictures()))
        assert len(dataset.load()) == len(alive) == 1000
        assert max(alive) <= 3


class TestInterruption:
    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
    def test_leaves_nothing_under_the_final_name(self, dataset, image_parameters, tmp_path, error):
        def pictures():
            yield from empty_pictures(image_parameters(), 50)
            raise error("in the middle")

        with pytest.raises(Exception if error is RuntimeError else error, match="in the middle"):
            dataset.save(PictureStream(image_parameters(), pictures()))
        assert list(tmp_path.iterdir()) == []

    def test_leaves_the_earlier_version_the_latest(self, tmp_path, image_parameters):
        path = str(tmp_path / "store")
        good = ImageStoreDataset(filepath=path, version=Version(None, "2021-01-01T00.00.00.000Z"))
        good.save(stream_of(GOOD, image_parameters()))
        broken = ImageStoreDataset(filepath=path, version=Version(None, "2021-01-02T00.00.00.000Z"))
        refusing = stream_of([*GOOD, b"?"], image_parameters(unreadable="refuse"))
        with pytest.raises(Exception, match=r"trainset/3.png: .*image.unreadable is 'refuse'"):
            broken.save(refusing)
        assert len(ImageStoreDataset(filepath=path, version=Version(None, None)).load()) == 3


class TestDamage:
    @pytest.mark.parametrize("name", ["pixels-00000.npy", "records.parquet", "image.json"])
    @pytest.mark.parametrize("damage", ["cut", "emptied", "gone"])
    def test_a_damaged_store_is_refused(
        self, dataset, image_parameters, tmp_path, refused, name, damage
    ):
        dataset.save(stream_of(GOOD, image_parameters()))
        path = tmp_path / "store" / name
        if damage == "gone":
            path.unlink()
        else:
            os.truncate(path, path.stat().st_size // 2 if damage == "cut" else 0)
        with refused(rf"The image store {tmp_path}/store is damaged; run `ingest` again"):
            dataset.load()

    def test_a_missing_shard_is_refused(
        self, dataset, image_parameters, tmp_path, refused, monkeypatch
    ):
        monkeypatch.setattr(image_store, "SHARD_BYTES", SIZE * SIZE * 3)
        dataset.save(stream_of(GOOD, image_parameters()))
        (tmp_path / "store/pixels-00001.npy").unlink()
        with refused("does not name the 2 pictures in their order"):
            dataset.load()

    def test_pickled_pixels_are_not_unpickled(self, dataset, image_parameters, tmp_path, refused):
        dataset.save(stream_of(GOOD, image_parameters()))

        class Evil:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "owned"),)

        np.save(tmp_path / "store" / "pixels-00000.npy", np.array([Evil()], dtype=object))
        with refused("is damaged"):
            dataset.load()
        assert not (tmp_path / "owned").exists()

    @pytest.mark.parametrize(
        ("column", "value", "told"),
        [
            ("status", "lost", "row 2, column status: is 'lost', expected isin"),
            ("sha256", "abc", "row 2, column sha256: is 'abc'"),
            ("row", 0, "row 2: expected a row of the store for one cell only"),
            ("row", 7, "does not name the 3 pictures in their order"),
            ("path", "trainset/0.png", "path 'trainset/0.png' is also in another row"),
        ],
    )
    def test_edited_records_are_refused(
        self, dataset, image_parameters, tmp_path, refused, column, value, told
    ):
        dataset.save(stream_of(GOOD, image_parameters()))
        path = tmp_path / "store/records.parquet"
        records = pd.read_parquet(path)
        records.loc[1, column] = value
        records.to_parquet(path)
        with refused(rf"(?s)The image store .* is damaged.*records.parquet.*{told}"):
            dataset.load()

    @pytest.mark.parametrize(
        ("shape", "kind", "told"),
        [
            ((3, 41, 41, 3), "u1", r"the pixels are \(3, 41, 41, 3\), not \(n, 40, 40, 3\)"),
            ((3, 40, 40, 3), "u2", "pixels-00000.npy holds uint16, not uint8"),
        ],
    )
    def test_other_pixels_are_refused(
        self, dataset, image_parameters, tmp_path, refused, shape, kind, told
    ):
        dataset.save(stream_of(GOOD, image_parameters()))
        np.save(tmp_path / "store/pixels-00000.npy", np.zeros(shape, dtype=kind))
        with refused(told):
            dataset.load()


class TestPreview:
    def test_kedro_viz_gets_pictures_from_first_to_last_in_one(self, dataset, image_parameters):
        image = image_parameters()
        dataset.save(PictureStream(image, empty_pictures(image, n=100)))
        with Image.open(io.BytesIO(base64.b64decode(dataset.preview()))) as sheet:
            assert sheet.size == (6 * SIZE, 3 * SIZE)
            middle = range(SIZE // 2, 6 * SIZE, SIZE), range(SIZE // 2, 3 * SIZE, SIZE)
            shown = [sheet.getpixel((x, y))[0] for y in middle[1] for x in middle[0]]
        assert shown[0] == 0
        assert shown[-1] == 99
        assert shown == sorted(set(shown))
