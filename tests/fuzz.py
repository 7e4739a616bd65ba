"""Feed `kedro run` with damaged pictures and tables; each must end in a right result or a refusal.

Every run is a process of its own that executes `kedro run`, forked from this one, which has
imported the libraries. A run may not show a traceback, outlive its time, or take memory without
bound. What it takes as good is compared with what a few plain lines here read from the same file.

    python tests/fuzz.py --pictures=10000 --tables=1000 --seed=0

ends with 0 only if there was no fault. A faulty input is kept in `--folder` for a look.
"""

import argparse
import contextlib
import csv
import io
import json
import os
import random
import re
import shutil
import signal
import struct
import tempfile
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import yaml
from kedro.framework.project import LOGGING
from PIL import Image
from torture import PLAIN_LOG, PROJECT, Run, import_all

SIDE = 40
SIZES = f"image.source_size={SIDE},image.crop={SIDE},image.size={SIDE},image.unreadable=leave_out"
MOST_SECONDS = 120
MOST_MEMORY = 2 * 1024**3
PROJECT_LOG = yaml.safe_load((PROJECT / "conf/logging.yml").read_text())
LONGEST_MESSAGE = 20_000
A_BATCH = 250  # pictures of one cohort
HEADER = ["", "ID", "LABEL", "GENDER", "DOB", "LYMPH_COUNT"]
# A message of ours begins so, after Kedro's log.
REFUSAL = re.compile(r"^Error: (.+)", re.MULTILINE | re.DOTALL)


class FaultError(Exception):
    """A run that ended in neither a right result nor a refusal."""


def kedro_run(folder: Path, parameters: str, what: list[str]) -> tuple[bool, str]:
    """Execute `kedro run`; whether it ended well, and what it showed."""
    run = Run(folder, parameters, what)
    start = time.monotonic()
    while True:
        done, status, usage = os.wait4(run.process, os.WNOHANG)
        if done:
            break
        if time.monotonic() - start > MOST_SECONDS:
            run.kill()
            raise FaultError(f"still at work after {MOST_SECONDS} s")
        time.sleep(0.005)
    shown = run.log.read_text(errors="replace")
    if "\x1b" in shown:
        raise FaultError("a command to the terminal")
    if "Traceback" in shown:
        raise FaultError("a traceback: " + shown.strip().splitlines()[-1])
    if os.WIFSIGNALED(status):
        raise FaultError(f"ended by {signal.Signals(os.WTERMSIG(status)).name}")
    if usage.ru_maxrss * 1024 > MOST_MEMORY:
        raise FaultError(f"took {usage.ru_maxrss // 1024} MB")
    refusal = REFUSAL.search(shown)
    if status and not refusal:
        raise FaultError("ended without a message: " + shown[-300:])
    if refusal and len(refusal[1]) > LONGEST_MESSAGE:
        raise FaultError(f"a message of {len(refusal[1])} letters")
    return not status, shown


def newest(folder: Path, name: str) -> Path:
    (found,) = (folder / "out").glob(f"0*/{name}/*/{name}")
    return found


# --- pictures ----------------------------------------------------------------------------------


def colours(draw: random.Random, height: int = SIDE, width: int = SIDE) -> Image.Image:
    """Blocks of colour with a little noise."""
    rng = np.random.default_rng(draw.getrandbits(32))
    blocks = rng.integers(0, 256, (height // 5 + 1, width // 5 + 1, 3))
    pixels = blocks.repeat(5, axis=0).repeat(5, axis=1)[:height, :width]
    return Image.fromarray(np.clip(pixels + rng.normal(0, 6, pixels.shape), 0, 255).astype("u1"))


def encoded(picture: Image.Image, file_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, file_format, **options)
    return file.getvalue()


def png(width: int, height: int, depth: int, kind: int, rows: bytes) -> bytes:
    """A PNG by the specification: Pillow writes no 16-bit colour and no false sizes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def tiff(
    width: int, height: int, bits: int, samples: int, tile: int, rows: bytes, packed: bool
) -> bytes:
    """A TIFF by the specification: of one tile, or of one strip where `tile` is 0."""
    data = zlib.compress(rows) if packed else rows
    tags = {
        256: width, 257: height, 258: bits, 259: 8 if packed else 1,
        262: 2 if samples == 3 else 1, 277: samples,
    }  # fmt: skip
    place, size = (324, 325) if tile else (273, 279)
    tags |= {322: tile, 323: tile} if tile else {278: height}
    tags = dict(sorted((tags | {place: 0, size: len(data)}).items()))
    table = 8 + 2 + 12 * len(tags) + 4
    # Each channel's bits stand apart, for they don't fit into four bytes.
    tags[place] = table + 2 * samples
    entries = b"".join(
        struct.pack("<HHII", tag, 3, samples, table if samples > 2 else value)
        if tag == 258
        else struct.pack("<HHII", tag, 4, 1, value)
        for tag, value in tags.items()
    )
    head = struct.pack("<4sIH", b"II*\0", 8, len(tags)) + entries + bytes(4)
    return head + struct.pack("<H", bits) * samples + data


def sized(content: bytes, at: int, form: str, *size: int) -> bytes:
    """The file, with another size declared."""
    field = struct.pack(form, *size)
    return content[:at] + field + content[at + len(field) :]


def sized_jpeg(draw: random.Random, side: int) -> bytes:
    content = encoded(colours(draw), "JPEG")
    return sized(content, content.index(b"\xff\xc0") + 5, ">HH", side, side)


# Name: how it is made, its suffix, and what becomes of it as it is.
PICTURES: dict[str, tuple[Callable[[random.Random], bytes], str, str]] = {
    "jpeg": (lambda d: encoded(colours(d), "JPEG", quality=d.randint(1, 100)), "jpg", "taken"),
    "progressive jpeg": (
        lambda d: encoded(colours(d), "JPEG", progressive=True, subsampling=d.randint(0, 2)),
        "jpeg", "taken",
    ),
    "jpeg with exif": (
        lambda d: encoded(colours(d), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0", comment=b"x"),
        "jpg", "taken",
    ),
    "grey jpeg": (lambda d: encoded(colours(d).convert("L"), "JPEG"), "jpg", "converted"),
    "cmyk jpeg": (lambda d: encoded(colours(d).convert("CMYK"), "JPEG"), "jpg", "converted"),
    "png": (lambda d: encoded(colours(d), "PNG"), "png", "taken"),
    "png with alpha": (lambda d: encoded(colours(d).convert("RGBA"), "PNG"), "png", "converted"),
    "palette png": (lambda d: encoded(colours(d).quantize(16), "PNG"), "png", "converted"),
    "bilevel png": (lambda d: encoded(colours(d).convert("1"), "PNG"), "png", "converted"),
    "16-bit png": (
        lambda d: png(SIDE, SIDE, 16, 2, (b"\0" + d.randbytes(6 * SIDE)) * SIDE),
        "png", "converted",
    ),
    "16-bit grey png": (
        lambda d: png(SIDE, SIDE, 16, 0, (b"\0" + d.randbytes(2 * SIDE)) * SIDE),
        "png", "left_out",
    ),
    "png of 4000 million pixels": (lambda d: png(65_000, 65_000, 8, 2, b""), "png", "left_out"),
    "png of 17 million pixels": (lambda d: png(4200, 4200, 8, 2, b""), "png", "left_out"),
    "moving png": (
        lambda d: encoded(colours(d), "PNG", save_all=True, append_images=[colours(d)]),
        "png", "left_out",
    ),
    "bmp": (lambda d: encoded(colours(d), "BMP"), "bmp", "taken"),
    "palette bmp": (lambda d: encoded(colours(d).quantize(16), "BMP"), "bmp", "converted"),
    "tiff": (lambda d: encoded(colours(d), "TIFF"), "tif", "taken"),
    "packed tiff": (
        lambda d: encoded(
            colours(d), "TIFF",
            compression=d.choice(["tiff_lzw", "tiff_deflate", "packbits", "jpeg"]),
        ),
        "tiff", "taken",
    ),
    "cmyk tiff": (lambda d: encoded(colours(d).convert("CMYK"), "TIFF"), "tif", "converted"),
    "tiff of floats": (lambda d: encoded(colours(d).convert("F"), "TIFF"), "tif", "left_out"),
    "two pages": (
        lambda d: encoded(colours(d), "TIFF", save_all=True, append_images=[colours(d)]),
        "tif", "left_out",
    ),
    "16-bit grey tiff": (
        lambda d: encoded(Image.fromarray(np.asarray(colours(d).convert("L")) * np.uint16(9)),
                          "TIFF"),
        "tif", "left_out",
    ),
    "16-bit tiff": (
        lambda d: tiff(SIDE, SIDE, 16, 3, 0, d.randbytes(6 * SIDE * SIDE), False),
        "tif", "converted",
    ),
    "12-bit tiff": (
        lambda d: tiff(
            SIDE, SIDE, 16, 3, 0,
            np.array([d.randrange(4096) for _ in range(3 * SIDE**2)], "<u2").tobytes(), True,
        ),
        "tif", "converted",
    ),
    "palette tiff": (lambda d: encoded(colours(d).quantize(16), "TIFF"), "tif", "converted"),
    "one colour": (lambda d: encoded(Image.new("RGB", (SIDE, SIDE)), "PNG"), "png", "left_out"),
    "tiled tiff": (
        lambda d: tiff(SIDE, SIDE, 8, 3, 48, d.randbytes(3 * 48 * 48), d.random() < 0.5),
        "tif", "taken",
    ),
    "tiff of a vast tile": (
        lambda d: tiff(SIDE, SIDE, 8, 1, 26_000, bytes(10**6), True), "tif", "left_out",
    ),
    "tiff of 4000 million pixels": (
        lambda d: tiff(65_000, 65_000, 8, 1, 0, bytes(99), True), "tif", "left_out",
    ),
    "tiff of 17 million pixels": (
        lambda d: tiff(4200, 4200, 8, 3, 0, bytes(99), True), "tif", "left_out",
    ),
    "jpeg of 4000 million pixels": (lambda d: sized_jpeg(d, 65_000), "jpg", "left_out"),
    "jpeg of 17 million pixels": (lambda d: sized_jpeg(d, 4200), "jpg", "left_out"),
    "bmp of 4000 million pixels": (
        lambda d: sized(encoded(colours(d), "BMP"), 18, "<II", 65_000, 65_000), "bmp", "left_out",
    ),
    "bmp of 17 million pixels": (
        lambda d: sized(encoded(colours(d), "BMP"), 18, "<II", 4200, 4200), "bmp", "left_out",
    ),
    "gif": (lambda d: encoded(colours(d), "GIF"), "png", "left_out"),
    "webp": (lambda d: encoded(colours(d), "WEBP"), "jpg", "left_out"),
    "another suffix": (lambda d: encoded(colours(d), "PNG"), "txt", "left_out"),
    "another size": (
        lambda d: encoded(colours(d, d.randint(1, 90), d.randint(41, 90)), "PNG"),
        "png", "converted",
    ),
    "text": (lambda d: b"dear colleague", "jpg", "left_out"),
    "nothing": (lambda d: b"", "png", "left_out"),
}  # fmt: skip
ODD_NAMES = [
    "a b", "Ä", "😀", "a;b", "'q'", '"q"', "100%", "[bold]", "-rf", "{size}", "$HOME", "a\nb",
    "a\tb", "\\", "e\u0301", "\u202egpj", "CON", "x" * 200, ",", "=1+1",
    "P[", "b]1", "[red]x", "\x1b[2J\x1b[31mx", "\x1b]0;title\x07",
]  # fmt: skip


def damaged(content: bytes, draw: random.Random) -> bytes:
    """Cut, flip, overwrite, repeat, remove, insert: mostly once."""
    data = bytearray(content)
    for _ in range(draw.choice([1, 1, 1, 2, 4])):
        # Headers are short: half of the damage falls there.
        at = draw.randrange(min(len(data), 64) if draw.random() < 0.5 else len(data)) if data else 0
        length = draw.choice([1, 2, 4, 16, 200])
        match draw.randrange(8):
            case 0:
                del data[at:]
            case 1 if data:
                data[at] ^= 1 << draw.randrange(8)
            case 2:
                data[at : at + length] = draw.randbytes(length)
            case 3:
                number = draw.choice([0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**32 - 1])
                form = draw.choice("<>") + ("I" if number > 0xFFFF or draw.random() < 0.5 else "H")
                field = struct.pack(form, number)
                data[at : at + len(field)] = field
            case 4:
                data[at:at] = data[at : at + length] * draw.choice([1, 50, 500])
            case 5:
                del data[at : at + length]
            case 6:
                data[at:at] = draw.randbytes(length)
            case 7:
                data[at : at + length] = bytes(length)
    return bytes(data)


def as_pillow_reads(content: bytes) -> np.ndarray:
    """The picture that should have been stored."""
    picture = Image.open(io.BytesIO(content))
    if picture.format == "TIFF" and picture.mode == "P" and 0 < max(picture.tag_v2[320]) < 256:
        picture.load()
        picture.putpalette(bytes(np.array(picture.tag_v2[320]).reshape(3, -1).T.flat))
    picture = picture.convert("RGB")
    side, (width, height) = min(picture.size), picture.size
    left, top = (width - side) // 2, (height - side) // 2
    square = np.asarray(picture)[top : top + side, left : left + side]
    if side == SIDE:
        return square
    return np.asarray(Image.fromarray(square).resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def odd_patient(draw: random.Random) -> str:
    parts = [draw.choice(ODD_NAMES), str(draw.randrange(10))]
    draw.shuffle(parts)
    return " ".join(parts)


def write_pictures(folder: Path, count: int, draw: random.Random) -> dict[str, tuple[str, str]]:
    """A cohort of damaged pictures; for each its kind and what must become of it, or "any"."""
    expected, secret = {}, folder / "secret.png"
    secret.write_bytes(encoded(colours(draw), "PNG"))
    patients = {f"P{n}" for n in range(4)} | {odd_patient(draw)}
    rows = []
    for patient in sorted(patients):
        place = folder / "cohort" / draw.choice(["trainset", "testset"]) / patient
        place.mkdir(parents=True)
        good = place / "good.png"
        good.write_bytes(encoded(colours(draw), "PNG"))
        expected[str(good)] = ("png", "taken")
        rows.append([patient, str(draw.randrange(2)), "F", f"1/{len(rows) + 1}/1950", "5.5"])
        for number in range(count // len(patients)):
            kind = draw.choice(list(PICTURES))
            make, suffix, status = PICTURES[kind]
            name = draw.choice(ODD_NAMES) if draw.random() < 0.1 else "cell"
            path = place / f"{name[:180]}-{number}.{suffix}"
            what = draw.random()
            if what < 0.03:
                path.symlink_to(draw.choice([secret, "/etc/passwd", "/dev/zero", "nowhere", path]))
                kind, status = "a link out of the folder", "left_out"
            elif what < 0.04:
                path.symlink_to("good.png")
                kind, status = "a link within the folder", "taken" if suffix != "txt" else status
            elif what < 0.05:
                draw.choice([path.mkdir, lambda path=path: os.mkfifo(path)])()
                kind, status = "no file", "left_out"
            elif what < 0.06:
                path.touch()
                os.truncate(path, draw.choice([2**26 + 1, 2**33]))
                kind, status = "a file beyond any picture", "left_out"
            elif what < 0.15:
                path.write_bytes(make(draw))
            else:
                path.write_bytes(damaged(make(draw), draw))
                status = "any"
            expected[str(path)] = (kind, status)
    write_table(folder / "cohort/clinical_annotation.csv", [HEADER[1:], *rows])
    return expected


def fuzz_pictures(folder: Path, count: int, draw: random.Random, seen: Counter[str]) -> None:
    expected = write_pictures(folder, count, draw)
    done, shown = kedro_run(folder, SIZES, ["--pipelines=ingest"])
    if not done:
        raise FaultError(f"a cohort was refused: {shown[-500:]}")
    store = newest(folder, "cell_images")
    pixels = np.load(store / "pixels-00000.npy")
    records = pd.read_parquet(store / "records.parquet")
    paths = {str(folder / "cohort" / path) for path in records["path"]}
    if paths != set(expected) or len(records) != len(expected):
        raise FaultError(f"listed otherwise: {sorted(paths ^ set(expected))[:3]}")
    taken = records[records["row"].notna()]
    counts = pd.read_parquet(newest(folder, "patients.parquet")).set_index("patient_id")
    if counts["cell_count"].to_dict() != taken.groupby("patient_id").size().to_dict():
        raise FaultError("patients.parquet counts other cells than the store holds")
    report = json.loads(newest(folder, "ingest_report.json").read_text())
    if sum(report["pictures"].values()) != len(expected):
        raise FaultError("the report leaves files out")
    for record in records.to_dict("records"):
        path = folder / "cohort" / record["path"]
        kind, status = expected[str(path)]
        seen[record["status"]] += 1
        if status not in ("any", record["status"]):
            raise FaultError(f"{path} ({kind}): {record['status']}, {record['reason']}")
        faint = "almost none of its range" in record["reason"]
        if bool(record["reason"]) == (record["status"] == "taken") and not faint:
            raise FaultError(
                f"{path} ({kind}): {record['status']} with the reason {record['reason']!r}"
            )
        if record["status"] != "left_out":
            whole, stored = as_pillow_reads(path.read_bytes()), pixels[record["row"]]
            depth = re.search(r"read as (\d+)-bit values", record["reason"])
            if depth and "pixels, not" not in record["reason"]:
                stored = stored >> (16 - int(depth[1]))  # Pillow takes the upper 8 bits of 16
            elif depth and depth[1] != "16":
                continue
            if not np.array_equal(stored, whole):
                raise FaultError(f"{path} ({kind}): other pixels than the file's")


# --- tables ------------------------------------------------------------------------------------

IDS = [f"P{n}" for n in range(8)]


def write_table(path: Path, rows: list[list[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def some_rows(draw: random.Random) -> list[list[str]]:
    def birth() -> str:
        day, month, year = draw.randint(1, 28), draw.randint(1, 12), draw.randint(1921, 2020)
        return draw.choice([f"{month}/{day}/{year}", f"{day:02}-{month:02}-{year}"])

    return [
        [str(n), patient, str(n % 2), draw.choice("FM"), birth(), f"{draw.uniform(2, 200):.2f}"]
        for n, patient in enumerate(IDS)
    ]


def put(column: int, *values: str) -> Callable[[list[list[str]], random.Random], list[list[str]]]:
    """Put one of the values into a column of one row."""

    def change(rows: list[list[str]], draw: random.Random) -> list[list[str]]:
        rows[draw.randrange(len(rows))][column] = draw.choice(values)
        return rows

    return change


ID, LABEL, GENDER, DOB, COUNT = range(1, 6)
# Changes of one value, after which the table can't be taken.
WRONG = {
    "a date of another kind": put(
        DOB, "1950.05.01", "1950-13-01", "50-05-01", "01.05.1950",
        "1/5/50", "May 1 1950", "1950", "", "NaN", "18264",
        "1/5/1950 00:00", "13/13/1950", "31-02-1950", "1/5-1950", "00-00-0000", "1/5/19500",
    ),
    "a date out of bounds": put(DOB, "1/1/1700", "1/1/2199", "01-01-0001", "31-12-9999"),
    "a count that is none": put(
        COUNT, "", "NaN", "nan", "inf", "-inf", "-3", "0", "-0.0", "many", "5,5", "5.5 G/l",
        "1e400", "1_000", "0x10", "5..5", "--", "None", "#REF!", "=1+1", "1e-400", "5 5",
        "1e39", "1e-46", "1e308", "0.0009", "100001",
    ),
    "a label that is none": put(LABEL, "", "2", "-2", "yes", "0.5", "NaN", "1e0", "01", "True"),
    "a patient without pictures": put(ID, "P99", "", " ", "p1", "P1\0", "../P1", "P1.", "\uff301"),
    "a patient twice": lambda rows, draw: [*rows, draw.choice(rows)],
    "a patient without a row": lambda rows, draw: draw.sample(rows, len(rows) - 1),
    "no rows": lambda rows, draw: [],
}  # fmt: skip
# Changes that a spreadsheet makes; the patients stay what they are.
HARMLESS = {
    "spaces": lambda rows, draw: [[f" {cell}\t" for cell in row] for row in rows],
    "another order": lambda rows, draw: draw.sample(rows, len(rows)),
    "labels as decimals": lambda rows, draw: [
        [n, i, f"{label}.0", *rest] for n, i, label, *rest in rows
    ],
    "small letters": lambda rows, draw: [
        [*row[:GENDER], row[GENDER].lower(), *row[DOB:]] for row in rows
    ],
    "ISO dates": lambda rows, draw: [
        [*row[:DOB], f"{born(row[DOB]):%Y-%m-%d}", row[COUNT]] for row in rows
    ],
    "nothing": lambda rows, draw: rows,
}


def born(text: str) -> datetime:
    """The date, by `strptime`; a ValueError where it is none."""
    text = text.strip()
    form = "%m/%d/%Y" if "/" in text else "%d-%m-%Y" if text[2:3] == "-" else "%Y-%m-%d"
    return datetime.strptime(text.removesuffix(" 00:00:00"), form)


def as_written(
    rows: list[list[str]], header: list[str], draw: random.Random, plain: bool = False
) -> bytes:
    """A file as one of many programs writes it; all of these can be read. Plain: commas, UTF-8."""
    columns = list(range(len(header)))
    if draw.random() < 0.3:
        draw.shuffle(columns)
    if draw.random() < 0.3:
        header, rows = (
            [*header, "NOTE"],
            [[*row, draw.choice(["", "x", "é", "a,b", "a;b"])] for row in rows],
        )
        columns.insert(draw.randrange(len(columns) + 1), len(header) - 1)
    separator = "," if plain else draw.choice(",;\t")
    places = [place for place, name in enumerate(header) if name == "LYMPH_COUNT"]
    if not plain and draw.random() < 0.3 and not any("," in row[p] for row in rows for p in places):
        rows = [
            [cell.replace(".", ",") if at in places else cell for at, cell in enumerate(row)]
            for row in rows
        ]
    elif (
        not plain
        and draw.random() < 0.2
        and all(cell.isprintable() for row in rows for cell in row)
    ):
        return workbook([[row[c] for c in columns] for row in [header, *rows]], draw)
    if draw.random() < 0.2:
        header = [f" {name} " for name in header]
    file = io.StringIO()
    line_end = draw.choice(["\n", "\r\n", "\r"])
    writer = csv.writer(
        file,
        delimiter=separator,
        lineterminator=line_end,
        quoting=draw.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    )
    writer.writerows([[row[c] for c in columns] for row in [header, *rows]])
    text = file.getvalue() + draw.choice(["", "\n", "\n\n", separator * 2 + "\n"])
    if not plain and draw.random() < 0.3:
        text = f"sep={separator}{line_end}{text}"
    if not plain and draw.random() < 0.3 and text.encode("latin-1", "replace").count(b"?") == 0:
        return text.encode("latin-1")
    return (draw.choice(["", "\ufeff"]) + text).encode()


def workbook(rows: list[list[str]], draw: random.Random) -> bytes:
    """The table as .xlsx, some of its dates and numbers as such and not as text."""
    book = openpyxl.Workbook()
    for row in rows:
        cells: list[object] = list(row)
        for at, cell in enumerate(row):
            if re.fullmatch(r"\d+\.\d+", cell) and draw.random() < 0.7:
                cells[at] = float(cell)
            elif re.fullmatch(r"[\d/-]{8,10}", cell) and draw.random() < 0.5:
                with contextlib.suppress(ValueError):
                    cells[at] = day if (day := born(cell)).year >= 1901 else cell
        book.active.append(cells)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def misread(content: bytes, draw: random.Random) -> bytes:
    """A form of the whole file that is no table of these columns and patients."""
    text = content.decode("utf-8-sig")
    return draw.choice(
        [
            ("é" + text).encode("utf-16"),
            text.replace("P", "é").encode("latin-1"),
            text.replace(",", "|").encode(),
            text.replace(",", ";", 9).encode(),
            b"PK\x03\x04" + content,
            b"\xd0\xcf\x11\xe0" + content,
            text.replace("LYMPH_COUNT", draw.choice(["LYMPHOCYTES", "", "lymph_count"])).encode(),
            text.replace("ID", "LABEL", 1).encode(),
            b"",
            b"\n\n",
            b"\x89PNG\r\n\x1a\n" + content,
            text.encode() + b'\n"open',
            text.encode() + b"\n" + b"x," * 20,
            text.encode() + b"\n" + b"x" * 200_000,
            text.encode() * 2,
            # A few megabytes that became gigabytes of memory, or a message of megabytes.
            b"a," * 4_000_000 + b"\n" + content,
            content + b"\n" + b"a," * 4_000_000,
            content + b"\na" * 4_000_000,
            ",".join(f"c{n}" for n in range(300_000)).encode() + b"\n" + content,
            ",".join(f"c{n}" for n in range(1_000)).encode() + b"\n",
            text.replace("P1", "P" + "x" * 100_000).encode(),
        ]
    )


def lines_of(content: bytes, wanted: list[str]) -> list[list[str]]:
    """Header and rows, by pandas or by Python's csv; a ValueError where there is no such table."""
    if content.startswith(b"PK\x03\x04"):
        sheet = pd.read_excel(io.BytesIO(content), header=None, dtype=object, na_filter=False)
        tables = [[list(map(str, row)) for row in sheet.itertuples(index=False, name=None)]]
    else:
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = content.decode("cp1252")
        mark = re.match(r"sep=(.)(\r\n|\r|\n)", text)
        tables = []
        for separator in mark[1] if mark else ",;\t":
            file = io.StringIO(text[mark.end() :] if mark else text, newline="")
            with contextlib.suppress(csv.Error):
                tables.append(list(csv.reader(file, delimiter=separator, strict=True)))
    for table in tables:
        lines = [[cell.strip() for cell in line] for line in table if any(map(str.strip, line))]
        if lines and set(wanted) <= set(lines[0]) and len({len(line) for line in lines}) == 1:
            return lines
    raise ValueError("no such table")


def as_read_plainly(content: bytes) -> dict[str, tuple[object, ...]] | None:
    """The patients of a file, by Python's csv, strptime and float; None where it has a fault."""
    try:
        header, *rows = lines_of(content, HEADER[1:])
        table = [dict(zip(header, row, strict=True)) for row in rows]
        found = {}
        for row in table:
            at = born(row["DOB"])
            birthday = (at.month, at.day) > (3, 1)
            label = {"0": 0, "1": 1, "-1": None}[row["LABEL"].removesuffix(".0")]
            sex = {"F": "F", "M": "M"}.get(row["GENDER"].upper())
            age, count = 2021 - at.year - birthday, float(row["LYMPH_COUNT"].replace(",", "."))
            found[row["ID"]] = (label, age, sex, count)
    except (ValueError, KeyError, csv.Error):
        return None
    return found


def fuzz_clinical(folder: Path, draw: random.Random, seen: Counter[str]) -> None:
    """One clinical table; the cohort's pictures stay."""
    rows = some_rows(draw)
    kind = draw.choice(["harmless", "wrong", "misread", "damaged"])
    if kind == "wrong":
        name = draw.choice(list(WRONG))
        rows = WRONG[name](rows, draw)
    else:
        name = draw.choice(list(HARMLESS))
        rows = HARMLESS[name](rows, draw)
    content = as_written(rows, HEADER, draw, plain=kind == "misread")
    if kind == "misread":
        content = misread(content, draw)
    if kind == "damaged":
        content = damaged(content, draw)
    (folder / "cohort/clinical_annotation.csv").write_bytes(content)
    done, shown = kedro_run(folder, SIZES, ["--pipelines=ingest"])
    seen[f"clinical table, {kind}, {'taken' if done else 'refused'}"] += 1
    if done and kind in ("wrong", "misread"):
        raise FaultError(f"taken in spite of: {name if kind == 'wrong' else kind}")
    if not done and kind == "harmless":
        raise FaultError(f"refused ({name}): {shown[-500:]}")
    if not done:
        message = REFUSAL.search(shown)[1]
        if not re.search(r"clinical_annotation\.csv|patient|line \d", message):
            raise FaultError(f"the refusal names no place: {message}")
        return
    table = pd.read_parquet(newest(folder, "patients.parquet"))
    values = table[["label", "age_years", "sex", "lymphocyte_count"]].astype(object)
    values = values.where(values.notna(), None)
    found = dict(zip(table["patient_id"], values.itertuples(index=False, name=None), strict=True))
    if found != as_read_plainly(content):
        raise FaultError(f"read otherwise: {found}")


def fuzz_supplied(folder: Path, draw: random.Random, seen: Counter[str]) -> None:
    """A table of splits, or of outer folds, that the user supplies."""
    write_table(folder / "cohort/clinical_annotation.csv", [HEADER, *some_rows(draw)])
    if draw.random() < 0.5:
        entry, source, pipeline = "splits", "splits.source=supplied", "classify"
        header, roles = ["split", "patient_id", "role"], ["train", "validation"]
        rows = [[str(s), p, roles[n // 2 % 2]] for s in (1, 2) for n, p in enumerate(IDS)]
    else:
        entry, source, pipeline = "evaluation_folds", "evaluation.source=supplied", "evaluate"
        header = ["repeat", "fold", "patient_id"]
        rows = [[str(r), str(1 + n // 2 % 2), p] for r in (1, 2) for n, p in enumerate(IDS)]
    file = folder / "cohort" / f"{entry.removeprefix('evaluation_')}.csv"
    kind = draw.choice(["good", "wrong", "damaged"])
    wrong = put(draw.randrange(3), "", "P99", "0", "-1", "1.5", "nan", "one", "1e3", "٣", "9999999")
    content = as_written(wrong(rows, draw) if kind == "wrong" else rows, header, draw)
    if kind == "damaged":
        content = damaged(content, draw)
    file.write_bytes(content)
    what = [f"--pipelines=ingest,{pipeline}", f"--to-outputs={entry}"]
    done, shown = kedro_run(folder, f"{SIZES},{source}", what)
    file.unlink()
    seen[f"{file.name}, {kind}, {'taken' if done else 'refused'}"] += 1
    if done != (kind == "good") and kind != "damaged":
        raise FaultError(f"{kind}, and {'taken' if done else 'refused'}: {shown[-500:]}")
    if not done:
        if file.name not in (message := REFUSAL.search(shown)[1]):
            raise FaultError(f"the refusal does not name {file.name}: {message}")
        return
    table = pd.read_parquet(newest(folder, f"{entry}.parquet"))
    names, *given = lines_of(content, header)
    places = [names.index(name) for name in header]
    expected = sorted([line[place] for place in places] for line in given)
    if sorted(table[header].astype(str).to_numpy().tolist()) != expected:
        raise FaultError("read otherwise")


def fuzz_million(folder: Path, draw: random.Random, seen: Counter[str]) -> None:
    """A table of a million rows: refused, for nobody has pictures of so many."""
    more = [[str(n), f"Q{n}", "0", "F", "1/1/1950", "5"] for n in range(10**6)]
    write_table(folder / "cohort/clinical_annotation.csv", [HEADER, *some_rows(draw), *more])
    done, shown = kedro_run(folder, SIZES, ["--pipelines=ingest"])
    seen[f"a million rows, {'taken' if done else 'refused'}"] += 1
    if done or "1000000 fault(s)" not in shown:
        raise FaultError(f"a million rows: {shown[-500:]}")


def write_small_cohort(folder: Path, draw: random.Random) -> None:
    for patient in IDS:
        place = folder / "cohort/trainset" / patient
        place.mkdir(parents=True)
        (place / "a.png").write_bytes(encoded(colours(draw), "PNG"))


# --- the run -----------------------------------------------------------------------------------


def fuzz(pictures: int, tables: int, seed: int, folder: Path) -> list[str]:
    """Print what was found; return the faults."""
    start, faults = time.monotonic(), []
    seen: dict[str, Counter[str]] = {"pictures": Counter(), "tables": Counter()}
    slowest = 0.0

    def attempt(name: str, task: Callable[[Path, random.Random, Counter[str]], None]) -> None:
        nonlocal slowest
        began = time.monotonic()
        place = folder / name.replace(" ", "-")
        draw = random.Random(f"{seed} {name}")  # noqa: S311
        place.mkdir()
        # The project's own log treats names in its own way; the plain one tells of each step.
        LOGGING.configure(draw.choice([PLAIN_LOG, PROJECT_LOG]))
        try:
            if not name.startswith("pictures"):
                write_small_cohort(place, draw)
            task(place, draw, seen[name.split()[0]])
        except FaultError as fault:
            faults.append(f"{name}: {fault}")
            print(f"  {faults[-1]}", flush=True)
        else:
            shutil.rmtree(place)
            place.with_suffix(".log").unlink()
        slowest = max(slowest, time.monotonic() - began)

    for batch, first in enumerate(range(0, pictures, A_BATCH)):
        size = min(A_BATCH, pictures - first)
        attempt(f"pictures {batch}", lambda p, d, s, size=size: fuzz_pictures(p, size, d, s))
    for number in range(tables):
        task = fuzz_supplied if number % 4 == 3 else fuzz_clinical
        # It takes as long as fifty others.
        attempt(f"tables {number}", fuzz_million if number % 1000 == 999 else task)
    for what, counts in seen.items():
        print(f"{sum(counts.values())} {what}")
        for outcome, count in sorted(counts.items()):
            print(f"  {count:6} {outcome}")
    print(
        f"faults: {len(faults)}, in {time.monotonic() - start:.0f} s; longest run {slowest:.1f} s"
    )
    return faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--tables", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="faulty inputs are kept here; else nowhere")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (asked.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        warnings.filterwarnings("ignore", module=r"PIL\b")  # of odd files, read here once more
        import_all()
        raise SystemExit(bool(fuzz(asked.pictures, asked.tables, asked.seed, folder)))


if __name__ == "__main__":
    main()
