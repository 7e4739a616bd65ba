"""The real cohort beside the repository: facts known of it, none of its pictures or rows."""

import io
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from lymphocytosis.cohort.clinical import read_patients
from lymphocytosis.datasets.picture_folder import PictureFolderDataset
from lymphocytosis.datasets.text_table import TextTableDataset
from lymphocytosis.imaging.decode import decode_picture
from lymphocytosis.parameters import ClinicalParameters, ImageParameters

FOLDER = Path(__file__).parents[3] / "shared" / "cohort"

pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"the real cohort is not on this machine ({FOLDER})"
)


@pytest.fixture(scope="module")
def pictures():
    return PictureFolderDataset(filepath=str(FOLDER)).load()


@pytest.fixture(scope="module")
def read(pictures):
    table = TextTableDataset(filepath=str(FOLDER / "clinical_annotation.csv")).load()
    base = yaml.safe_load((Path(__file__).parents[2] / "conf/base/parameters.yml").read_text())
    patients, warnings, _ = read_patients(table, pictures, ClinicalParameters(**base["clinical"]))
    return patients, warnings


class TestTable:
    def test_classes(self, read):
        patients, _ = read
        assert len(patients) == 152
        train = patients.loc[patients["subset"] == "train", "label"]
        assert train.value_counts(dropna=False).to_dict() == {0: 34, 1: 76}
        test = patients.loc[patients["subset"] == "test", "label"]
        assert len(test) == 42
        assert test.isna().all()

    def test_ages_and_counts_are_plausible_and_every_sex_is_known(self, read):
        patients, _ = read
        assert patients["sex"].notna().all()
        assert patients["age_years"].between(18, 105).all()
        assert patients["lymphocyte_count"].between(2.28, 295).all()

    def test_the_only_warnings_are_of_the_pairs_that_share_birth_date_and_sex(self, read):
        _, warnings = read
        assert len(warnings) == 2
        assert warnings[0].startswith("3 pairs of patients share a birth date and sex, each")
        assert warnings[0].count(" and ") == 1 + 3
        assert "and their labels differ: taken for" in warnings[1]

    def test_those_pairs_are_one_person_each_but_the_one_of_two_labels(self, read):
        patients, _ = read
        assert patients["person"].nunique() == 149
        assert patients["person"].value_counts().max() == 2


class TestPictures:
    def test_every_file_is_a_square_rgb_jpeg_of_224(self, pictures):
        seen = set()
        for file in pictures:
            with Image.open(io.BytesIO(file.read())) as header:
                seen.add((header.format, header.mode, header.size))
        assert seen == {("JPEG", "RGB", (224, 224))}

    def test_bags_have_12_pictures_in_the_test_set_and_16_to_48_in_the_training_set(self, pictures):
        counts = {"train": {}, "test": {}}
        for file in pictures:
            bag = counts[file.subset]
            bag[file.patient_id] = bag.get(file.patient_id, 0) + 1
        assert set(counts["test"].values()) == {12}
        assert min(counts["train"].values()) >= 16
        assert max(counts["train"].values()) == 48

    def test_a_crop_is_the_middle_of_the_picture(self, pictures):
        image = ImageParameters(
            source_size=224, crop=112, size=112, unreadable="refuse", other_size="refuse",
            other_mode="refuse",
        )  # fmt: skip
        for file in pictures[::200]:
            content = file.read()
            decoded = decode_picture(content, file.path, image)
            whole = np.asarray(Image.open(io.BytesIO(content)))
            assert decoded.status == "taken"
            np.testing.assert_array_equal(decoded.pixels, whole[56:168, 56:168])

    def test_they_are_decoded_as_pillow_decodes_them(self, pictures):
        image = ImageParameters(
            source_size=224, crop=224, size=224, unreadable="refuse", other_size="refuse",
            other_mode="refuse",
        )  # fmt: skip
        for file in pictures[::10]:
            content = file.read()
            decoded = decode_picture(content, file.path, image)
            np.testing.assert_array_equal(
                decoded.pixels, np.asarray(Image.open(io.BytesIO(content)))
            )
