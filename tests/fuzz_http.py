"""Feed the service thousands of damaged requests; every answer must be one of its own.

`python tests/fuzz_http.py --requests=10000 --bundle=FOLDER` starts the service on this machine, and
sends damaged multipart bodies, zips, headers and values, pictures of odd names and forms, half
requests and dropped connections. No answer may be a 5xx, none may take long, every refusal must be
a problem document, and afterwards a whole patient must get the same answer as before.
"""

import argparse
import io
import json
import random
import socket
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from PIL import Image

SLOWEST = 60.0  # seconds that a request may take while others are worked on
CLIENTS = 16
BOUNDARY = b"----fuzz"
NAMES = ("a.png", "é.png", "a b.png", "P1/a.png", "..", "../a.png", "", "a" * 500, "a\\b.png",
         "x.zip", ".hidden", "a.txt",
         "\u202e.png", "a%00.png", "CON", "a\r\nb.png", '"a".png')  # fmt: skip
VALUES = ("", "71", "12,5", "1,000", "-1", "nan", "1e400", "٣", "x", "9" * 900, "\0", "0x1F", " 5 ")


class FaultError(Exception):
    """The service did what it must not."""


@contextmanager
def served(bundle: Path, log: Path) -> Iterator[tuple[int, int]]:
    """The service, until the body ends: its port on this machine, and its process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "lymphocytosis.serve", f"--bundle={bundle}", f"--port={port}"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            for _ in range(3000):
                if process.poll() is not None:
                    raise SystemExit(log.read_text())
                try:
                    if ask(port, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")[0] == 200:
                        break
                except OSError:
                    time.sleep(0.1)
            yield port, process.pid
        finally:
            process.terminate()
            process.wait(timeout=30)


def ask(port: int, request: bytes, wait: float = SLOWEST) -> tuple[int, dict[str, str], bytes]:
    """Send bytes; status, headers and body of the answer; status 0 where there is none."""
    with socket.create_connection(("127.0.0.1", port), timeout=wait) as connection:
        # Refused before it was read; the answer may be there all the same.
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(request)
        answer = b""
        try:
            while b"\r\n\r\n" not in answer and (piece := connection.recv(65_536)):
                answer += piece
                if answer.startswith(b"HTTP/1.1 100"):
                    _, _, answer = answer.partition(b"\r\n\r\n")
            head, _, body = answer.partition(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            pairs = (line.partition(": ") for line in lines)
            headers = {name.lower(): value for name, _, value in pairs}
            length = 0 if request.startswith(b"HEAD") else int(headers.get("content-length", 0))
            while len(body) < length and (piece := connection.recv(65_536)):
                body += piece
        except ConnectionResetError:
            return 0, {}, b""
    return (int(first.split()[1]) if first else 0), headers, body[:length]


def picture(draw: random.Random, side: int = 224) -> bytes:
    """A picture of random colours in one of the formats."""
    pixels = np.random.default_rng(draw.randrange(2**32)).integers(0, 256, (side, side, 3))
    file = io.BytesIO()
    made = Image.fromarray(pixels.astype(np.uint8))
    made.save(file, draw.choice(["JPEG", "PNG", "TIFF", "BMP"]))
    return file.getvalue()


def damaged(content: bytes, draw: random.Random) -> bytes:
    """Cut, repeat or change some bytes."""
    data = bytearray(content)
    for _ in range(draw.randint(1, 8)):
        at = draw.randrange(len(data) + 1)
        kind = draw.choice(["flip", "cut", "insert", "repeat", "end"])
        if kind == "flip" and at < len(data):
            data[at] ^= 1 << draw.randrange(8)
        elif kind == "cut":
            del data[at : at + draw.randint(1, 50)]
        elif kind == "insert":
            data[at:at] = draw.randbytes(draw.randint(1, 20))
        elif kind == "repeat":
            data[at:at] = data[at : at + draw.randint(1, 200)]
        elif draw.random() < 0.3:
            del data[at:]
    return bytes(data)


def form(parts: list[tuple[str, str | None, bytes]]) -> bytes:
    """A multipart body of fields and files."""
    body = b""
    for name, file, content in parts:
        named = "" if file is None else f'; filename="{file}"'
        head = f'Content-Disposition: form-data; name="{name}"{named}'
        body += b"--" + BOUNDARY + b"\r\n" + head.encode() + b"\r\n\r\n" + content + b"\r\n"
    return body + b"--" + BOUNDARY + b"--\r\n"


def post(body: bytes, *more: bytes, length: int | None = None) -> bytes:
    """A whole request."""
    headers = [
        b"POST /v1/predict HTTP/1.1",
        b"Host: localhost",
        b"Content-Type: multipart/form-data; boundary=" + BOUNDARY,
        b"Content-Length: %d" % (len(body) if length is None else length),
        *more,
    ]
    return b"\r\n".join(headers) + b"\r\n\r\n" + body


def zipped(draw: random.Random) -> bytes:
    """A zip of a few entries, some of them odd."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for _ in range(draw.randint(0, 3)):
            entry = zipfile.ZipInfo(draw.choice(NAMES) or "x")
            entry.compress_type = draw.choice([0, 8, 8, 12, 14])
            archive.writestr(entry, draw.choice([b"", picture(draw, 40), bytes(200_000)]))
    return file.getvalue()


# --- kinds of requests -------------------------------------------------------------------------


def fuzz_form(draw: random.Random) -> bytes:
    files = [
        ("pictures", draw.choice(NAMES), draw.choice([b"", b"x", picture(draw, 40)]))
        for _ in range(draw.randint(0, 3))
    ]
    fields = [
        (draw.choice(["age", "count", "show", "sex", "é"]), None, draw.choice(VALUES).encode())
        for _ in range(draw.randint(0, 3))
    ]
    return post(form(files + fields))


def fuzz_damaged_form(draw: random.Random) -> bytes:
    return post(
        damaged(form([("pictures", "a.png", picture(draw, 40)), ("age", None, b"7")]), draw)
    )


def fuzz_zip(draw: random.Random) -> bytes:
    content = zipped(draw)
    content = damaged(content, draw) if draw.random() < 0.7 else content
    return post(form([("pictures", "a.zip", content)]))


def fuzz_picture(draw: random.Random) -> bytes:
    name = draw.choice(["a.png", "a.jpg", "a.tif", "a.bmp"])
    content = damaged(picture(draw), draw)
    return post(form([("pictures", name, content), ("show", None, b"true")]))


def fuzz_headers(draw: random.Random) -> bytes:
    odd = [
        b"Content-Length: 5",
        b"Content-Length: -1",
        b"Content-Length: 99999999999999999999",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: gzip",
        b"Content-Encoding: gzip",
        b"Content-Type: application/json",
        b"Content-Type: multipart/form-data; boundary=" + b"x" * draw.choice([1, 71, 5000]),
        b"Content-Type: multipart/form-data; boundary=\xff",
        b"Host: evil.example",
        b"Origin: http://evil.example",
        b"Authorization: Bearer " + draw.randbytes(9).hex().encode(),
        b"Expect: 100-continue",
        b"Upgrade: websocket\r\nConnection: upgrade",
        b"X: " + b"y" * draw.choice([10, 70_000]),
        b"Connection: close",
        draw.randbytes(20),
    ]
    return post(form([("pictures", "a.png", b"x")]), *draw.sample(odd, draw.randint(1, 3)))


def fuzz_target(draw: random.Random) -> bytes:
    method = draw.choice([b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"TRACE", b"X"])
    path = draw.choice(
        [b"/", b"/v1/predict", b"/v1/model", b"/docs", b"/openapi.json", b"/page/",
         b"/page/page.js", b"/page/../app.py", b"/page/%2e%2e/app.py",
         b"//etc/passwd", b"/%00", b"/%ff", b"*",
         b"http://evil.example/", b"/" + b"a" * 9000, draw.randbytes(8)]
    )  # fmt: skip
    return damaged(method + b" " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", draw)


KINDS: dict[str, Callable[[random.Random], bytes]] = {
    "form": fuzz_form,
    "damaged form": fuzz_damaged_form,
    "zip": fuzz_zip,
    "picture": fuzz_picture,
    "headers": fuzz_headers,
    "target": fuzz_target,
}


def send_one(port: int, number: int, seed: int) -> str:
    """One damaged request; what came of it."""
    draw = random.Random(f"{seed} {number}")  # noqa: S311
    kind = draw.choice(list(KINDS))
    request = KINDS[kind](draw)
    if draw.random() < 0.1:
        # Dropped somewhere, perhaps after a pause; the service may not mind.
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(request[: draw.randrange(len(request) + 1)])
            time.sleep(draw.choice([0, 0, 0.1]))
        return f"{kind}, dropped"
    if draw.random() < 0.02:
        # Never finished: the service must end it by itself, with an answer or without.
        request = request[:-1] if kind in ("form", "zip", "picture") else request
    start = time.monotonic()
    try:
        status, headers, body = ask(port, request)
    except TimeoutError:
        raise FaultError(f"{kind}: no answer within {SLOWEST:g} s") from None
    if status >= 500:
        raise FaultError(f"{kind}: status {status}: {body[:300]!r}")
    if time.monotonic() - start > SLOWEST:
        raise FaultError(f"{kind}: took {time.monotonic() - start:.0f} s")
    problem = headers.get("content-type") == "application/problem+json"
    if status >= 400 and not problem:
        raise FaultError(f"{kind}: status {status} without a problem document: {body[:300]!r}")
    if problem and body:
        document = json.loads(body)
        if document["status"] != status or not document["detail"]:
            raise FaultError(f"{kind}: odd problem document {document}")
    return f"{kind}, {status or 'closed'}"


def memory_of(process: int) -> float:
    """Resident megabytes of a process."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1000
    return float("nan")


def fuzz(port: int, process: int, requests: int, seed: int) -> list[str]:
    """Print what was found; return the faults."""
    draw = random.Random(f"{seed} patient")  # noqa: S311
    whole = post(form([("pictures", f"{n}.png", picture(draw)) for n in range(5)]))
    warnings.filterwarnings("ignore", message="Duplicate name")  # of files in a zip
    before = ask(port, whole)
    if before[0] != 200:
        return [f"a whole patient was refused: {before}"]
    start, seen, faults = time.monotonic(), Counter[str](), []

    def attempt(number: int) -> None:
        try:
            seen[send_one(port, number, seed)] += 1
        except (FaultError, OSError) as fault:
            faults.append(f"request {number}: {fault or type(fault).__name__}")
            print(f"  {faults[-1]}", flush=True)

    memory = [memory_of(process)]
    with ThreadPoolExecutor(CLIENTS) as clients:
        for first in range(0, requests, 1000):
            list(clients.map(attempt, range(first, min(first + 1000, requests))))
            memory.append(memory_of(process))
    # Raises where the service died.
    if ask(port, whole)[2] != before[2]:
        faults.append("the whole patient gets another answer than before")
    for outcome, count in sorted(seen.items()):
        print(f"  {count:6} {outcome}")
    print(f"memory in MB after each thousand: {', '.join(f'{m:.0f}' for m in memory)}")
    print(f"{requests} requests, faults: {len(faults)}, in {time.monotonic() - start:.0f} s")
    return faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with served(asked.bundle, log) as (port, process):
            faults = fuzz(port, process, asked.requests, asked.seed)
        if "Traceback" in log.read_text():
            faults.append("the log has a traceback")
            print(log.read_text()[-3000:])
    raise SystemExit(bool(faults))


if __name__ == "__main__":
    main()
