from types import SimpleNamespace

import pytest

from lymphocytosis.serve import __main__ as command
from lymphocytosis.serve.guard import TOKEN_VARIABLE


@pytest.fixture
def refused(capsys, monkeypatch):
    """A function that runs the command, which must end with a message."""
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)

    def run(*arguments):
        with pytest.raises(SystemExit) as stopped:
            command.main(arguments)
        return str(stopped.value.code)

    return run


def test_no_bundle(refused, tmp_path):
    said = refused(f"--bundle={tmp_path / 'none'}")
    assert said.startswith("Error: There is no bundle")
    assert "\n" not in said


def test_another_address_without_a_token(refused, tmp_path):
    # Told before anything is loaded.
    assert "there is no token" in refused(f"--bundle={tmp_path}", "--host=0.0.0.0")


def test_a_missing_key(refused, tmp_path):
    said = refused(f"--bundle={tmp_path}", f"--trusted-key={tmp_path / 'key'}")
    assert "the trusted key, can't be read" in said


@pytest.mark.parametrize("option", ["--port=99999", "--port=x", "--most-requests=0"])
def test_numbers_that_cannot_be(refused, capsys, option):
    assert refused("--bundle=.", option) == "2"
    assert "is no number from 1 to" in capsys.readouterr().err


def test_what_is_served_and_how(monkeypatch, tmp_path):
    served = {}
    monkeypatch.setattr(command, "read_bundle", lambda folder, key: SimpleNamespace(compute=0))
    monkeypatch.setattr(command, "ReadySystem", lambda bundle, compute: "system")
    monkeypatch.setattr(command, "create_app", lambda *given: given)
    monkeypatch.setattr(command.uvicorn, "run", lambda app, **how: served.update(how, app=app))
    command.main([f"--bundle={tmp_path}", "--most-megabytes=7", "--most-requests=3"])
    system, limits, doors = served["app"]
    assert system == "system"
    assert (limits.bytes, limits.requests) == (7_000_000, 3)
    assert doors.token is None
    assert served["host"] == "127.0.0.1"
    assert not served["access_log"]
    assert not served["proxy_headers"]
