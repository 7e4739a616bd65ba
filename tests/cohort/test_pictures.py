import pytest

from lymphocytosis.cohort.pictures import PatientFolder, PictureFiles


def test_files_are_a_sequence_over_all_folders():
    def reader(patient):
        return lambda name: f"{patient}/{name}".encode()

    names = {"P1": ["a.png", "b.png"], "P2": ["a.png"], "P3": ["c.png"]}
    folders = [
        PatientFolder("train", patient, f"trainset/{patient}", files, reader(patient))
        for patient, files in names.items()
    ]
    files = PictureFiles(folders)
    expected = [(patient, name) for patient in names for name in names[patient]]
    assert [(file.patient_id, file.image_id) for file in files] == expected
    assert len(files) == 4
    for index in (0, 2, 3, -1):
        assert (files[index].patient_id, files[index].image_id) == expected[index]
    assert [file.image_id for file in files[1:4:2]] == ["b.png", "c.png"]
    assert [file.read() for file in files] == [f"{p}/{name}".encode() for p, name in expected]
    assert files[1].path == "trainset/P1/b.png"
    with pytest.raises(IndexError):
        files[4]


def test_nothing_at_all_is_empty():
    assert not PictureFiles([])
