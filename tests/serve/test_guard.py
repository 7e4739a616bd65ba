import pytest

from lymphocytosis.errors import UserError
from lymphocytosis.serve.guard import LOCAL_NAMES, TOKEN_VARIABLE, Doors, is_loopback, open_doors

TOKEN = "0123456789abcdef"  # noqa: S105


@pytest.mark.parametrize("path", ["/", "/docs", "/v1/model", "/nothing", "/page/page.js"])
def test_every_answer_has_the_headers(client, path):
    headers = client.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in headers


class TestHost:
    @pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "LOCALHOST:1", "[::1]:8000"])
    def test_this_machines_names(self, client_of, host):
        assert client_of(host="127.0.0.1").get("/health", headers={"Host": host}).status_code == 200

    @pytest.mark.parametrize(
        "host", ["evil.example", "localhost.evil.example", "", "[", "10.0.0.1"]
    )
    def test_another_name_may_be_rebound_dns(self, client, host):
        answer = client.get("/health", headers={"Host": host})
        assert answer.status_code == 421
        assert "--allow-host" in answer.json()["detail"]

    def test_any_name_where_a_token_is_asked(self, client_of):
        client = client_of(doors=Doors(None, TOKEN), host="cells.example")
        assert client.get("/health").status_code == 200


class TestOtherSites:
    @pytest.mark.parametrize(
        "headers",
        [
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},  # another port of this machine
        ],
    )
    def test_may_not_post(self, client, pictures, as_files, headers):
        answer = client.post("/v1/predict", files=as_files(pictures), headers=headers)
        assert answer.status_code == 403

    def test_may_link_to_the_page(self, client):
        assert client.get("/", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200

    def test_the_page_may(self, client, pictures, as_files):
        headers = {"Origin": "http://127.0.0.1:8000", "Sec-Fetch-Site": "same-origin"}
        answer = client.post("/v1/predict", files=as_files(pictures), headers=headers)
        assert answer.status_code == 200


class TestToken:
    @pytest.fixture
    def guarded(self, client_of):
        return client_of(doors=Doors(None, TOKEN))

    @pytest.mark.parametrize(
        "given", [None, "", "Bearer", f"Basic {TOKEN}", "Bearer 0123456789abcdeF", "Bearer é"]
    )
    @pytest.mark.parametrize("path", ["/v1/model", "/v1/predict", "/v1/nothing"])
    def test_missing_or_wrong(self, guarded, path, given):
        headers = {} if given is None else {"Authorization": given.encode()}
        answer = guarded.post(path, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.headers["content-type"] == "application/problem+json"

    def test_right(self, guarded, pictures, as_files):
        headers = {"Authorization": f"bearer {TOKEN}"}
        answer = guarded.post("/v1/predict", files=as_files(pictures), headers=headers)
        assert answer.status_code == 200

    @pytest.mark.parametrize("path", ["/", "/health", "/page/page.css", "/docs", "/openapi.json"])
    def test_what_tells_nothing_needs_none(self, guarded, path):
        assert guarded.get(path).status_code == 200


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),  # noqa: S104
        ("::", False),
        ("10.1.2.3", False),
        ("cells.example", False),
        ("", False),
    ],
)
def test_loopback(host, local):
    assert is_loopback(host) is local


@pytest.fixture(autouse=True)
def _no_token(monkeypatch):
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)


class TestDoors:
    def test_this_machine_needs_no_token(self):
        doors = open_doors("127.0.0.1", None, ["Cells.example"])
        assert doors.token is None
        assert doors.hosts == {*LOCAL_NAMES, "cells.example"}

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "cells.example"])  # noqa: S104
    def test_other_machines_need_one(self, host):
        with pytest.raises(UserError, match="there is no token"):
            open_doors(host, None, [])

    def test_of_a_file(self, tmp_path):
        (tmp_path / "token").write_text(f"{TOKEN}\n")
        doors = open_doors("0.0.0.0", tmp_path / "token", [])  # noqa: S104
        assert (doors.token, doors.hosts) == (TOKEN, None)

    def test_of_the_environment(self, monkeypatch):
        monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
        assert open_doors("::", None, []).token == TOKEN
        assert open_doors("::1", None, []).token == TOKEN

    @pytest.mark.parametrize("token", ["", "short", "é" * 20, "a b\x01c" * 5])
    def test_a_bad_one(self, tmp_path, token):
        (tmp_path / "token").write_text(token)
        with pytest.raises(UserError, match="no word of 16 or more"):
            open_doors("127.0.0.1", tmp_path / "token", [])

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(UserError, match="the token, can't be read"):
            open_doors("127.0.0.1", tmp_path / "token", [])
