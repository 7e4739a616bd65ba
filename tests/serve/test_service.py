"""The service as a process of its own would run it: turns, slow clients, dropped connections."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2

from .conftest import StandIn


class Held(StandIn):
    """Diagnoses when told to, reading a picture before and after."""

    def __init__(self):
        self.started, self.go = threading.Semaphore(0), threading.Semaphore(0)
        self.ended = []

    def diagnose(self, pictures, age, count, image):
        self.started.release()
        assert self.go.acquire(timeout=10)
        try:
            diagnosis = super().diagnose(pictures, age, count, image)
        except BaseException as error:
            self.ended.append(type(error).__name__)
            raise
        self.ended.append("diagnosed")
        return diagnosis


def _post(port, files):
    with httpx2.Client(trust_env=False, timeout=20) as client:
        return client.post(f"http://127.0.0.1:{port}/v1/predict", files=files)


def _request(port, body, length=None):
    """A connection with a request sent on it, of which more may be announced."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.sendall(
        b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n"
        b"Content-Length: %d\r\n\r\n" % (length or len(body)) + body
    )
    return connection


def _body(content):
    head = b'--b\r\nContent-Disposition: form-data; name="pictures"; filename="a.png"\r\n\r\n'
    return head + content + b"\r\n--b--\r\n"


def _until(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


class TestTurns:
    def test_one_at_a_time_and_the_next_too_many_is_told_to_come_back(
        self, serving, pictures, as_files
    ):
        system = Held()
        port = serving(system, requests=3)
        with ThreadPoolExecutor(3) as clients:
            answers = [clients.submit(_post, port, as_files(pictures)) for _ in range(3)]
            assert system.started.acquire(timeout=10)
            assert not system.started.acquire(timeout=0.2)  # a second one waits

            def told():
                answer = _post(port, as_files(pictures))
                return answer.status_code == 429 and int(answer.headers["retry-after"]) >= 1

            _until(told)
            health = httpx2.get(f"http://127.0.0.1:{port}/health", trust_env=False)
            assert health.status_code == 200  # the event loop is free
            system.go.release(3)
            assert [answer.result().status_code for answer in answers] == [200] * 3
        system.go.release()
        assert _post(port, as_files(pictures)).status_code == 200

    def test_a_dropped_connection_leaves_the_line(self, serving, picture, pictures, as_files):
        system = Held()
        port = serving(system, requests=2)
        working = _request(port, _body(picture()))
        assert system.started.acquire(timeout=10)
        waiting = _request(port, _body(picture()))
        _until(lambda: _post(port, as_files(pictures)).status_code == 429)
        waiting.close()
        working.close()
        with ThreadPoolExecutor(1) as clients:
            answer = clients.submit(_post, port, as_files(pictures))
            time.sleep(0.2)
            system.go.release()  # the first sees at its next picture that nobody waits
            assert system.started.acquire(timeout=10)  # not by the one that left the line
            system.go.release()
            assert answer.result().status_code in (200, 429)
        assert system.ended[0] == "StoppedError"

    def test_a_diagnosis_that_takes_too_long(self, serving, pictures, as_files, caplog):
        system = Held()
        port = serving(system, work_seconds=0.3)
        answer = _post(port, as_files(pictures))
        assert answer.status_code == 503
        assert "took longer than 0.3 s" in answer.json()["detail"]
        system.go.release(2)
        _until(lambda: system.ended == ["StoppedError"])
        assert _post(port, as_files(pictures)).status_code == 200
        assert "never retrieved" not in caplog.text


class TestSlowClients:
    def test_a_body_that_pauses(self, serving, picture):
        port = serving(StandIn(), pause_seconds=0.3, drain_seconds=0.1)
        body = _body(picture())
        connection = _request(port, body[:100], len(body))
        assert b"408 Request Timeout" in connection.recv(10_000)

    def test_a_body_that_drips(self, serving, picture):
        port = serving(StandIn(), upload_seconds=0.5, drain_seconds=0.1)
        body = _body(picture())
        connection = _request(port, body[:100], len(body))
        start = time.monotonic()
        for at in range(100, 1000):
            if time.monotonic() - start > 0.45:
                break
            connection.sendall(body[at : at + 1])
            time.sleep(0.05)
        assert b"408 Request Timeout" in connection.recv(10_000)

    def test_headers_that_never_end(self, serving):
        port = serving(StandIn(), header_seconds=0.3)
        connection = socket.create_connection(("127.0.0.1", port), timeout=10)
        connection.sendall(b"POST /v1/predict HTTP/1.1\r\nX-A: ")
        start = time.monotonic()
        assert connection.recv(100) == b""
        assert time.monotonic() - start < 5

    def test_what_is_no_http_gets_a_problem_document(self, serving):
        port = serving(StandIn())
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(b"hello\r\n\r\n")
            answer = b"".join(iter(lambda: connection.recv(10_000), b""))
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"application/problem+json" in answer
        assert b"nosniff" in answer

    def test_the_deadline_is_for_headers_alone(self, serving, picture, pictures, as_files):
        system = Held()
        port = serving(system, header_seconds=0.2)
        with ThreadPoolExecutor(1) as clients:
            answer = clients.submit(_post, port, as_files(pictures))
            time.sleep(0.5)
            system.go.release()
            assert answer.result().status_code == 200


def test_a_body_that_is_too_large_gets_its_answer_all_the_same(serving):
    port = serving(StandIn(), bytes=1000)
    answer = _post(port, [("pictures", ("a.png", bytes(5_000_000)))])
    assert answer.status_code == 413
    assert answer.headers["connection"] == "close"
