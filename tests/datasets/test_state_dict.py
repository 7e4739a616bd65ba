import os
import pickle
import zipfile

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kedro.io import DatasetError

from lymphocytosis import model_files
from lymphocytosis.datasets.state_dict import StateDictDataset
from lymphocytosis.errors import UserError

REFUSAL = "can't be loaded as a model: it is damaged, or holds more than tensors and plain values"


def content():
    """A state dict and plain values, made anew by each call."""
    generator = torch.Generator().manual_seed(0)
    return {
        "parameters": {"name": "b7", "widths": [512, 256], "rate": 0.1, "log": False, "none": None},
        "state": {
            "weight": torch.randn(4, 3, generator=generator),
            "steps": torch.tensor(7),
            "half": torch.ones(2, dtype=torch.bfloat16),
        },
        "models": [{"bias": torch.zeros(2)}, {"bias": torch.ones(2)}],
    }


def equal(one, other):
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return type(one) is type(other) and one == other


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.pt"


@pytest.fixture
def dataset(path):
    return StateDictDataset(filepath=str(path))


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


class TestRoundTrip:
    def test_values_come_back_as_they_were(self, dataset):
        dataset.save(content())
        assert equal(dataset.load(), content())

    def test_the_same_values_give_the_same_bytes_whatever_the_name(self, dataset, path, tmp_path):
        dataset.save(content())
        other = tmp_path / "deeper" / "another-name.pt"
        StateDictDataset(filepath=str(other)).save(content())
        assert other.read_bytes() == path.read_bytes()

    def test_values_that_come_from_a_file_give_the_bytes_of_those_that_made_it(
        self, dataset, path, tmp_path
    ):
        # A killed run takes some models from a file: two names that are one object here are two
        # objects there, or the other way round, which pickle would write down.
        name = "".join(["we", "ight"])
        split = {name: torch.zeros(2), "".join(["we", "ight", "2"]): "".join(["me", "an"])}
        dataset.save({1: split, 2: {name: torch.ones(2), "mean": ("mean", 1.5)}})
        other = tmp_path / "again.pt"
        loaded = torch.load(path, weights_only=True)
        first = torch.load(path, weights_only=True)
        StateDictDataset(filepath=str(other)).save({1: first[1], 2: loaded[2]})
        assert other.read_bytes() == path.read_bytes()

    def test_torch_reads_the_file_as_it_is(self, dataset, path):
        dataset.save(content())
        assert equal(torch.load(path, weights_only=True), content())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_not_saved(dataset, path, refused, value):
    spoiled = content()
    spoiled["models"][1]["bias"][1] = value
    with refused(rf"{path} is not saved: the weight bias has values that are not finite"):
        dataset.save(spoiled)
    assert not path.exists()


class TestInterruption:
    def test_leaves_the_earlier_model_as_it_was(self, dataset, path):
        dataset.save(content())
        earlier = path.read_bytes()
        with pytest.raises(Exception, match="pickle"):
            dataset.save({"tensor": torch.zeros(1000), "function": lambda: None})
        assert path.read_bytes() == earlier
        assert list(path.parent.iterdir()) == [path]


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
class TestUntrustedFiles:
    @pytest.mark.parametrize("as_archive", [True, False])
    def test_code_in_a_file_is_refused_and_never_run(
        self, dataset, path, tmp_path, refused, as_archive
    ):
        evil = {"state": Evil(tmp_path / "owned")}
        if as_archive:
            torch.save(evil, path)
        else:
            path.write_bytes(pickle.dumps(evil))
        with refused(REFUSAL):
            dataset.load()
        assert not (tmp_path / "owned").exists()

    def test_the_same_file_does_run_code_where_it_is_trusted(self, path, tmp_path):
        # Else the test above would hold of a file that is harmless.
        torch.save({"state": Evil(tmp_path / "owned")}, path)
        torch.load(path, weights_only=False)
        assert (tmp_path / "owned").is_dir()

    @pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9, 0.999])
    def test_a_cut_file_is_refused(self, dataset, path, refused, share):
        dataset.save(content())
        os.truncate(path, int(share * path.stat().st_size))
        with refused(rf"{path} {REFUSAL}"):
            dataset.load()

    @settings(max_examples=150)
    @given(junk=st.binary(max_size=60))
    def test_any_other_bytes_are_refused(self, tmp_path_factory, refused, junk):
        path = tmp_path_factory.getbasetemp() / "junk.pt"
        path.write_bytes(junk)
        with refused(f"{path} "):
            StateDictDataset(filepath=str(path)).load()

    @pytest.mark.parametrize("junk", [b"", b"hello", b"q\x01.", b"\x80\x02K\x01.", b"PK\x03\x04ab"])
    def test_bytes_that_once_broke_the_reader_are_refused(self, dataset, path, refused, junk):
        path.write_bytes(junk)
        with refused(rf"{path} {REFUSAL}"):
            dataset.load()

    @pytest.mark.parametrize("value", [[torch.zeros(2)], torch.zeros(2), 3])
    def test_what_is_no_dict_is_refused(self, dataset, path, refused, value):
        torch.save(value, path)
        with refused(rf"{path} holds a {type(value).__name__}, not a model's state dict"):
            dataset.load()

    @pytest.mark.parametrize("bit", [0, 7])
    def test_a_flipped_bit_is_refused_or_changes_no_value(self, dataset, path, bit):
        dataset.save(content())
        saved = path.read_bytes()
        refusals = 0
        for place in range(bit, len(saved), 11):
            flipped = bytearray(saved)
            flipped[place] ^= 1 << bit
            path.write_bytes(flipped)
            try:
                assert equal(dataset.load(), content()), place
            except DatasetError as error:
                assert isinstance(error.__cause__, UserError), place
                refusals += 1
        # Padding and dates may change; torch alone refuses far fewer.
        assert refusals > len(saved) / 11 / 3

    def test_a_compressed_archive_is_refused_before_it_takes_memory(
        self, dataset, path, tmp_path, refused
    ):
        dataset.save({"weight": torch.zeros(16 * 1024**2)})
        packed = tmp_path / "packed.pt"
        with (
            zipfile.ZipFile(path) as plain,
            zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive,
        ):
            for entry in plain.namelist():
                archive.writestr(entry, plain.read(entry))
        assert packed.stat().st_size < path.stat().st_size / 500
        assert torch.load(packed, weights_only=True)["weight"].nbytes == 64 * 1024**2
        with refused(rf"{packed} {REFUSAL}.*is compressed"):
            StateDictDataset(filepath=str(packed)).load()

    def test_entries_that_share_their_bytes_are_refused(self, dataset, path, refused):
        dataset.save({"weight": torch.zeros(10_000)})
        with zipfile.ZipFile(path, "a") as archive:
            # The directory names the largest entry once more.
            archive.filelist.append(max(archive.filelist, key=lambda entry: entry.file_size))
            archive.comment = b"rewrites the directory"
        with refused(rf"{path} {REFUSAL}.*more bytes than the file has"):
            dataset.load()

    def test_a_tensor_larger_than_what_is_stored_is_refused(self, dataset, path, refused):
        # 4 GB of memory, once anything is done with it.
        torch.save({"states": [{"weight": torch.zeros(1).expand(10**9)}]}, path)
        with refused(rf"{path} {REFUSAL}.*the tensor weight claims more values"):
            dataset.load()

    @pytest.mark.parametrize("circle", [True, False])
    def test_values_that_are_shared_at_every_level_or_in_a_circle_are_soon_read(
        self, dataset, path, circle
    ):
        values = []
        if circle:
            values.append(values)
        for _ in range(100):
            values = [values, values]
        torch.save({"values": values}, path)
        assert list(dataset.load()) == ["values"]

    def test_the_form_of_torch_before_1_6_is_refused(self, dataset, path, refused):
        # It has no checksums. Encoder weights may have it; see tests/encoders/test_weights.py.
        torch.save(content(), path, _use_new_zipfile_serialization=False)
        with refused(rf"{path} {REFUSAL}.*not a zip file"):
            dataset.load()

    def test_a_file_beyond_any_model_is_refused_unread(self, dataset, path, refused, monkeypatch):
        dataset.save(content())
        monkeypatch.setattr(model_files, "MOST_BYTES", 100)
        with refused(f"{path} has more than 100 bytes"):
            dataset.load()
