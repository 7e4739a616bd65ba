import base64
import io
import json
import logging
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lymphocytosis.cohort.pictures import PictureFile
from lymphocytosis.imaging.decode import decode_picture


def _asked(system, contents, age=None, count=None):
    files = [
        PictureFile("test", "patient", name, name, lambda content=content: content)
        for name, content in sorted(contents.items())
    ]
    return system.diagnose(files, age, count, system.image)


def _is_problem(answer, status, words):
    problem = answer.json()
    assert answer.status_code == status, problem
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(problem) == {"type", "title", "status", "detail"}
    assert problem["type"] == "about:blank"
    assert problem["status"] == status
    assert words in problem["detail"]


class TestPredict:
    def test_equals_the_system_to_the_bit(self, client, stand_in, pictures, as_files):
        given = client.post(
            "/v1/predict", files=as_files(pictures), data={"age": "71", "count": "12.5"}
        )
        assert given.status_code == 200
        expected = _asked(stand_in, pictures, 71.0, 12.5)
        answer = given.json()
        for name, value in expected.row.items():
            missing = isinstance(value, float) and np.isnan(value)
            assert answer["row"][name] == (None if missing else value), name
        cells = pd.DataFrame(answer["cells"]).astype({"odd": "boolean"})
        pd.testing.assert_frame_equal(cells, expected.cells, check_exact=True)
        assert answer["shown"] is None

    def test_a_zip_a_folder_and_another_order_are_the_same_patient(
        self, client, pictures, as_files, as_zip
    ):
        backwards = dict(reversed(pictures.items()))
        in_folder = {f"P7/{name}": content for name, content in pictures.items()}
        ways = [
            as_files(pictures),
            as_files(backwards),
            as_files(in_folder),
            as_files({"P7.zip": as_zip(in_folder)}),
            as_files({"P7.zip": as_zip(backwards, zipfile.ZIP_STORED)}),
        ]
        answers = [client.post("/v1/predict", files=files).json() for files in ways]
        assert "row" in answers[0]
        assert all(answer == answers[0] for answer in answers[1:])

    def test_systems_own_files_are_passed_over(self, client, pictures, as_files):
        more = {".DS_Store": b"x", "Thumbs.db": b"x", "__MACOSX/._0.png": b"x"}
        answer = client.post("/v1/predict", files=as_files(pictures | more)).json()
        assert [cell["image_id"] for cell in answer["cells"]] == sorted(pictures)

    def test_one_cell_is_enough(self, client, picture, as_files):
        answer = client.post("/v1/predict", files=as_files({"a.png": picture()}))
        assert answer.json()["row"]["cell_count"] == 1

    def test_an_unreadable_picture_is_named_and_has_no_share(self, client, pictures, as_files):
        files = as_files(pictures | {"notes.txt": b"a", "broken.png": b"\x89PNG"})
        cells = {c["image_id"]: c for c in client.post("/v1/predict", files=files).json()["cells"]}
        assert cells["notes.txt"]["status"] == cells["broken.png"]["status"] == "left_out"
        assert "not a picture file" in cells["notes.txt"]["reason"]
        assert cells["broken.png"]["contribution"] is None

    def test_no_readable_picture_is_a_problem(self, client, as_files):
        answer = client.post("/v1/predict", files=as_files({"a.png": b"no picture"}))
        _is_problem(
            answer,
            422,
            "No picture could be taken of 1 file(s); the first, a.png, can't be decoded",
        )

    @pytest.mark.parametrize(
        ("data", "age", "count"),
        [
            ({}, None, None),
            ({"age": "", "count": " "}, None, None),
            ({"age": "71"}, 71, None),
            ({"count": "6,4"}, None, 6.4),
            ({"age": "0", "count": "1e1"}, 0, 10),
            ({"age": " 120 ", "count": "0.001"}, 120, 0.001),
        ],
    )
    def test_values_as_people_type_them(self, client, pictures, as_files, data, age, count):
        row = client.post("/v1/predict", files=as_files(pictures), data=data).json()["row"]
        assert (row["age_years"], row["lymphocyte_count"]) == (age, count)

    @pytest.mark.parametrize("text", ["x", "-1", "121", "nan", "inf", "1_0", "7 1", "0x10"])
    def test_an_age_that_cannot_be(self, client, pictures, as_files, text):
        answer = client.post("/v1/predict", files=as_files(pictures), data={"age": text})
        _is_problem(answer, 422, f"age is {text!r}; expected a number in years, from 0 to 120")

    @pytest.mark.parametrize("text", ["0", "12500", "-5", "nan", "1.2,3", "1,,2"])
    def test_a_count_that_cannot_be(self, client, pictures, as_files, text):
        answer = client.post("/v1/predict", files=as_files(pictures), data={"count": text})
        _is_problem(answer, 422, "expected a number in 10^9 per litre, from 0.001 to 1000")

    def test_a_comma_that_may_stand_for_thousands(self, client, pictures, as_files):
        answer = client.post("/v1/predict", files=as_files(pictures), data={"count": "1,000"})
        _is_problem(answer, 422, "the comma may stand for decimals or for thousands")

    def test_an_error_of_the_service_tells_nothing(
        self, client_of, stand_in, pictures, as_files, caplog
    ):
        class Broken(type(stand_in)):
            def diagnose(self, pictures, age, count, image):
                raise RuntimeError(f"{pictures[0].path} is broken")

        files = as_files({"Miller.png": pictures["0.png"]})
        answer = client_of(Broken()).post("/v1/predict", files=files)
        _is_problem(answer, 500, "its log says where")
        assert "RuntimeError" in caplog.text
        assert "Miller" not in caplog.text


class TestShown:
    def test_cells_that_matter_come_with_their_picture(self, client, stand_in, pictures, as_files):
        answer = client.post("/v1/predict", files=as_files(pictures), data={"show": "true"}).json()
        shares = {cell["image_id"]: cell["contribution"] for cell in answer["cells"]}
        positive = sorted((s for s in shares.values() if s > 0), reverse=True)
        negative = sorted(s for s in shares.values() if s < 0)
        shown = answer["shown"]
        assert [cell["contribution"] for cell in shown["toward_tumoral"]] == positive[:6]
        assert [cell["contribution"] for cell in shown["toward_reactive"]] == negative[:6]
        distances = {cell["distance"]: cell["image_id"] for cell in answer["cells"]}
        first = shown["typical"][0]
        assert first["image_id"] == distances[min(distances)]
        kind, _, data = first["picture"].partition(",")
        assert kind == "data:image/jpeg;base64"
        drawn = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))), dtype=float)
        name = first["image_id"]
        stored = decode_picture(pictures[name], name, stand_in.image).pixels
        # A JPEG of noise loses much, but not its mean.
        assert drawn.shape == stored.shape
        assert abs(drawn.mean() - stored.mean()) < 3

    def test_a_tiff_is_shown_too(self, client, picture, as_files):
        files = as_files({"a.tif": picture(file_format="TIFF")})
        shown = client.post("/v1/predict", files=files, data={"show": "true"}).json()["shown"]
        assert shown["typical"][0]["picture"].startswith("data:image/jpeg;base64,")


class TestModel:
    def test_card_facts_and_limits(self, client):
        model = client.get("/v1/model").json()
        assert model["fingerprint"].startswith("0123")
        assert model["card"].startswith("# A model")
        assert model["facts"] == {"encoder": "none", "scores": {"auc": 0.5, "none": None}}
        assert model["limits"]["pictures"] == 500

    def test_health(self, client):
        assert client.get("/health").json() == {"status": "ok"}


class TestDocs:
    def test_the_openapi_document_names_fields_and_refusals(self, client):
        document = client.get("/openapi.json").json()
        predict = document["paths"]["/v1/predict"]["post"]
        fields = predict["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
        assert set(fields) == {"pictures", "age", "count", "show"}
        assert {"200", "413", "415", "422", "429"} <= set(predict["responses"])

    def test_the_page_needs_nothing_from_outside(self, client):
        page = client.get("/docs").text
        for word in (
            "POST /v1/predict",
            "GET /v1/model",
            "GET /health",
            "Retry-After",
            "contribution",
        ):
            assert word in page
        assert "<script" not in page
        assert "https://" not in page


class TestNothingIsKept:
    def test_no_file_is_written_and_no_name_logged(self, client, picture, as_files, caplog):
        caplog.set_level(logging.DEBUG)
        written = []
        watching = True

        def watch(event, arguments):
            if watching and event == "open":
                _, mode, flags = arguments
                if (flags or 0) & 3 or set(str(mode)) & set("wax+"):
                    written.append(arguments)

        sys.addaudithook(watch)
        large = picture(size=(1024, 1024))  # above the 1 MB from which forms are spooled to disk
        assert len(large) > 2e6
        files = as_files({"Miller-1.png": large, "Miller-2.png": picture(1)})
        try:
            answer = client.post(
                "/v1/predict?name=Miller", files=files, data={"age": "71", "show": "true"}
            )
            client.get("/Miller")
        finally:
            watching = False
        assert answer.status_code == 200
        assert written == []
        ours = [r for r in caplog.records if r.name.startswith("lymphocytosis")]
        assert "Miller" not in "".join(record.getMessage() for record in ours)
        assert ours[0].getMessage().startswith("POST /v1/predict 200 ")
        assert ours[1].getMessage().startswith("GET (another path) 404 ")


def test_paths_and_methods_that_are_not_there_are_problems(client):
    _is_problem(client.get("/nothing"), 404, "/docs lists")
    _is_problem(client.get("/v1/predict"), 405, "Another method")
    assert json.loads(client.get("/page/../app.py").text)["status"] == 404
