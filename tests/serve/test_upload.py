import io
import struct
import zipfile

import pytest

BOUNDARY = "b0undary"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


@pytest.fixture
def refused(client_of):
    """A function that posts, and returns status and reason."""

    def post(limits=None, **request):
        answer = client_of(**(limits or {})).post("/v1/predict", **request)
        assert answer.headers["content-type"] == "application/problem+json", answer.text
        return answer.status_code, answer.json()["detail"]

    return post


def _part(headers, content=b"x"):
    return b"--" + BOUNDARY.encode() + b"\r\n" + headers + b"\r\n\r\n" + content + b"\r\n"


def _file(name, content=b"x"):
    return _part(
        f'Content-Disposition: form-data; name="pictures"; filename="{name}"'.encode(), content
    )


END = f"--{BOUNDARY}--\r\n".encode()


class TestForm:
    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"Content-Type": "application/json"},
            {"Content-Type": "multipart/form-data"},
            {"Content-Type": "multipart/form-data; boundary="},
            {"Content-Type": "application/zip"},
        ],
    )
    def test_another_type(self, refused, headers):
        status, reason = refused(content=b"{}", headers=headers)
        assert (status, "Expected multipart/form-data" in reason) == (415, True)

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            (b"", "stops before its last boundary"),
            (_file("a.png"), "stops before its last boundary"),
            (b"something else", "damaged"),
            (_part(b"Content-Disposition: form-data") + END, "no name"),
            (_part(b"X: y") + END, "no name"),
            (_part(b"Content-Disposition form-data") + END, "damaged"),
            (_part(b"X: " + b"y" * 20_000) + END, "damaged"),
            (_part(b"\r\n".join(b"X%d: y" % n for n in range(20))) + END, "damaged"),
        ],
    )
    def test_damaged_bodies(self, refused, body, words):
        status, reason = refused(content=body, headers=FORM)
        assert status == 400
        assert words in reason

    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            ({"sex": "F"}, "There is no field 'sex'; the fields are pictures, age, count, show."),
            ({"age": ["1", "2"]}, "The field age is there twice"),
            ({"age": "1" * 2000}, "The field age is longer than 1000 bytes"),
        ],
    )
    def test_other_fields(self, refused, pictures, as_files, fields, words):
        status, reason = refused(files=as_files(pictures), data=fields)
        assert status == 422
        assert words in reason

    def test_no_picture(self, refused):
        assert refused(content=END, headers=FORM)[1].startswith("There are no pictures")

    @pytest.mark.parametrize(
        "name", ["../a.png", "/etc/a.png", "..\\a.png", "C:\\a.png", "a/../../b.png", "a\0.png"]
    )
    def test_paths_out_of_the_folder(self, refused, as_zip, picture, name):
        status, reason = refused(content=_file(name) + END, headers=FORM)
        # The form's own parser may cut a path to its last part, as old browsers send one.
        assert (status, "path out of its folder" in reason) == (422, True) or "\\" in name

    def test_two_folders_are_two_patients(self, refused, as_files):
        files = as_files({"P1/a.png": b"x", "P2/a.png": b"x"})
        status, reason = refused(files=files)
        assert status == 422
        assert "in 2 folders (P1, P2)" in reason

    def test_a_name_twice_and_none(self, refused):
        assert "is there twice" in refused(content=_file("a.png") * 2 + END, headers=FORM)[1]
        assert "no name" in refused(content=_file("") + END, headers=FORM)[1]
        assert "no name" in refused(content=_file("a" * 400) + END, headers=FORM)[1]


class TestLimits:
    def test_bytes_that_are_declared(self, refused, pictures, as_files):
        status, reason = refused({"bytes": 1000}, files=as_files(pictures))
        assert status == 413
        assert "Send one patient's pictures" in reason

    def test_bytes_that_are_not_declared_are_counted_as_they_come(self, refused):
        sent = 0

        def endless():
            nonlocal sent
            yield _file("a.png")[:-2]
            for _ in range(1000):
                sent += 10_000
                yield b"x" * 10_000

        status, _ = refused({"bytes": 100_000}, content=endless(), headers=FORM)
        assert status == 413

    @pytest.mark.parametrize("length", ["-1", "1e3", "x", "9" * 30])
    def test_odd_lengths(self, refused, length):
        status, _ = refused(content=b"x", headers=FORM | {"Content-Length": length})
        assert status == 413

    def test_pictures(self, refused, pictures, as_files, as_zip):
        for files in (as_files(pictures), as_files({"a.zip": as_zip(pictures)})):
            status, reason = refused({"pictures": 4}, files=files)
            assert (status, reason.startswith("There are more than 4 pictures")) == (413, True)

    def test_parts_are_counted_as_they_come(self, refused):
        body = b"".join(_file(f"{n}.png") for n in range(20)) + b"no end"
        assert refused({"pictures": 4}, content=body, headers=FORM)[0] == 413


class TestZip:
    @pytest.fixture
    def of_zip(self, refused, as_files):
        def post(content, **limits):
            return refused(limits, files=as_files({"P1.zip": content}))

        return post

    def test_with_pictures_beside_it(self, refused, as_files, as_zip, pictures):
        files = as_files({"a.zip": as_zip(pictures)} | pictures)
        assert "either pictures or one zip" in refused(files=files)[1]

    def test_empty(self, of_zip, as_zip):
        assert of_zip(as_zip({})) == (
            422,
            "There are no pictures. Send those of one patient.",
        )

    def test_damaged(self, of_zip, as_zip, pictures):
        status, reason = of_zip(as_zip(pictures)[:-30])
        assert (status, reason.startswith("The zip is damaged")) == (422, True)

    def test_a_damaged_picture_in_it_is_left_out(self, client, as_files, as_zip, pictures):
        content = bytearray(as_zip(pictures, zipfile.ZIP_STORED))
        content[100] ^= 255  # in the first picture
        cells = client.post("/v1/predict", files=as_files({"a.zip": bytes(content)})).json()[
            "cells"
        ]
        assert cells[0]["status"] == "left_out"
        assert "its part of the zip is damaged: Bad CRC-32" in cells[0]["reason"]
        assert [cell["status"] for cell in cells[1:]] == ["taken"] * 4

    def test_a_bomb_by_its_ratio(self, of_zip, as_zip):
        status, reason = of_zip(as_zip({"a.png": bytes(10_000_000)}))
        assert status == 413
        assert "would unpack to 10000000 bytes" in reason

    def test_a_bomb_by_its_size(self, of_zip, as_zip, pictures):
        status, reason = of_zip(as_zip(pictures), unpacked_bytes=1000)
        assert (status, "would unpack to" in reason) == (413, True)

    def test_a_bomb_that_lies_about_its_size(self, client, as_files, as_zip, pictures):
        content = bytearray(as_zip({"a.png": bytes(3_000_000), **pictures}))
        for at in (14 + 8, content.index(b"PK\x01\x02") + 24):
            struct.pack_into("<I", content, at, 1000)
        cells = client.post("/v1/predict", files=as_files({"a.zip": bytes(content)})).json()[
            "cells"
        ]
        left_out = next(cell for cell in cells if cell["image_id"] == "a.png")
        assert "damaged" in left_out["reason"]

    def test_a_large_picture_in_it_is_left_out(self, client_of, as_files, as_zip, pictures):
        files = as_files({"a.zip": as_zip({"a.png": bytes(10_000), **pictures})})
        cells = client_of(picture_bytes=9_000).post("/v1/predict", files=files).json()["cells"]
        left_out = next(cell for cell in cells if cell["image_id"] == "a.png")
        assert "it has 10000 bytes; at most 9000 are taken" in left_out["reason"]

    def test_very_many_empty_files(self, of_zip):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for number in range(3_000):
                archive.writestr(f"{number}.png", b"")
        status, reason = of_zip(file.getvalue())
        assert (status, "more than 2000 entries" in reason) == (413, True)

    def test_encrypted(self, of_zip, as_zip, pictures):
        content = bytearray(as_zip(pictures))
        content[content.index(b"PK\x01\x02") + 8] |= 1
        assert of_zip(bytes(content))[1] == "The zip is encrypted. Make one without a password."

    def test_another_method(self, client, as_files, as_zip, pictures):
        files = as_files({"a.zip": as_zip(pictures, zipfile.ZIP_LZMA)})
        answer = client.post("/v1/predict", files=files).json()
        assert "another method than deflate" in answer["detail"]

    def test_a_zip_in_it_is_no_picture(self, client, as_files, as_zip, pictures):
        files = as_files({"a.zip": as_zip({"b.zip": as_zip(pictures)})})
        assert "not a picture file" in client.post("/v1/predict", files=files).json()["detail"]

    @pytest.mark.parametrize("name", ["../a.png", "/a.png", "a/../../../b.png", "C:\\a.png"])
    def test_paths_out_of_it(self, of_zip, as_zip, name):
        status, reason = of_zip(as_zip({name: b"x"}))
        assert (status, "is a path out of its folder" in reason) == (422, True)

    def test_a_name_twice(self, of_zip, recwarn):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("a.png", b"x")
            archive.writestr("a.png", b"y")
        assert "is there twice" in of_zip(file.getvalue())[1]
