"""One patient's pictures and values, from the body of a request; all of it in memory.

Starlette's own parser of forms writes files over 1 MB to disk, so this one is used instead.
"""

import asyncio
import io
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath, PureWindowsPath

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from lymphocytosis.cohort.pictures import PictureFile
from lymphocytosis.cohort.values import number
from lymphocytosis.errors import some
from lymphocytosis.serve.limits import MEGABYTE, Limits
from lymphocytosis.serve.problems import ProblemError

FIELDS = ("pictures", "age", "count", "show")
PATIENT = "patient"
OLDEST = 120
LOWEST_COUNT, HIGHEST_COUNT = 0.001, 1_000
_MOST_FIELD = 1_000  # bytes of a field that is no file; the parser bounds a part's headers
_MOST_NAME = 300
_ZIP, _EMPTY_ZIP, _ENTRY = b"PK\x03\x04", b"PK\x05\x06", b"PK\x01\x02"
_READABLE_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 1


@dataclass(frozen=True)
class Upload:
    """What a request brought.

    Attributes:
        files: by its path, the function that reads each picture.
        age: in years, or None.
        count: lymphocytes in 10^9 per litre, or None.
        show: whether pictures of the cells that matter most are wanted.
    """

    files: dict[str, Callable[[], bytes]]
    age: float | None
    count: float | None
    show: bool

    def pictures(self, check: Callable[[], None]) -> list[PictureFile]:
        """List the patient's pictures.

        Args:
            check: called before a file is read; may raise to stop the work.

        Returns:
            The files, sorted by name.
        """

        def read(content: Callable[[], bytes]) -> bytes:
            check()
            return content()

        return [
            PictureFile("test", PATIENT, PurePosixPath(path).name, path, partial(read, content))
            for path, content in sorted(self.files.items())
        ]


@dataclass
class _Part:
    headers: dict[bytes, bytes] = field(default_factory=dict)
    name: str = ""
    path: str | None = None  # of a file
    content: bytearray = field(default_factory=bytearray)


class _Form:
    """The parts of a multipart body, gathered while it arrives."""

    def __init__(self, boundary: bytes, limits: Limits) -> None:
        self.parts: list[_Part] = []
        self._limits = limits
        self._header, self._value = bytearray(), bytearray()
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._data,
                "on_end": self._end,
            },
        )

    def write(self, piece: bytes) -> None:
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise ProblemError(400, f"The multipart body is damaged: {error}") from None

    def finish(self) -> None:
        if not self._ended:
            raise ProblemError(
                400, "The multipart body stops before its last boundary. Send the request again."
            )

    def _begin(self) -> None:
        if len(self.parts) >= self._limits.pictures + len(FIELDS):
            raise _too_many_pictures(self._limits)
        self.parts.append(_Part())

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self.parts[-1].headers[bytes(self._header).lower()] = bytes(self._value)
        self._header, self._value = bytearray(), bytearray()

    def _headers_finished(self) -> None:
        part = self.parts[-1]
        _, options = parse_options_header(part.headers.get(b"content-disposition", b""))
        if b"name" not in options:
            raise ProblemError(400, "A part has no name in its Content-Disposition.")
        part.name = options[b"name"].decode("utf-8", "replace")
        if part.name not in FIELDS:
            raise ProblemError(
                422,
                f"There is no field {part.name[:40]!r}; the fields are {', '.join(FIELDS)}.",
            )
        if part.name == "pictures":
            part.path = options.get(b"filename", b"").decode("utf-8", "replace")

    def _data(self, data: bytes, start: int, end: int) -> None:
        part = self.parts[-1]
        part.content += data[start:end]
        if part.path is None and len(part.content) > _MOST_FIELD:
            raise ProblemError(
                422, f"The field {part.name} is longer than {_MOST_FIELD} bytes; expected a number."
            )

    def _end(self) -> None:
        self._ended = True


async def read_upload(request: Request, limits: Limits) -> Upload:
    """Receive a request's body, and find one patient's pictures in it.

    Args:
        request: of the type multipart/form-data, with the fields in `FIELDS`.
        limits: what is received; more is refused while it arrives.

    Returns:
        The pictures and values. Files are read when they are decoded.

    Raises:
        ProblemError: the body is too large, too slow, damaged, or not one patient's.
        starlette.requests.ClientDisconnect: the client went away.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise ProblemError(
            415,
            "Expected multipart/form-data with the files of one patient in the field 'pictures', "
            "or one zip of them there.",
        )
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or len(length) > 18 or int(length) > limits.bytes:
        raise _too_large(limits)
    form = _Form(options[b"boundary"], limits)
    received = 0
    pieces = request.stream()
    try:
        async with asyncio.timeout(limits.upload_seconds):
            while True:
                async with asyncio.timeout(limits.pause_seconds):
                    piece = await anext(pieces, None)
                if piece is None:
                    break
                received += len(piece)
                if received > limits.bytes:
                    raise _too_large(limits)
                form.write(piece)
    except TimeoutError:
        raise ProblemError(
            408,
            f"The pictures arrived too slowly: more than {limits.pause_seconds:g} s without a "
            f"byte, or {limits.upload_seconds:g} s in all. Send fewer, or over a faster network.",
        ) from None
    form.finish()
    return _upload(form.parts, limits)


def _upload(parts: list[_Part], limits: Limits) -> Upload:
    files = [part for part in parts if part.path is not None]
    values: dict[str, str] = {}
    for part in parts:
        if part.path is None:
            if part.name in values:
                raise ProblemError(422, f"The field {part.name} is there twice.")
            values[part.name] = part.content.decode("utf-8", "replace").strip()
    zips = [part for part in files if part.content[:4] in (_ZIP, _EMPTY_ZIP)]
    if zips and len(files) > 1:
        raise ProblemError(422, "Send either pictures or one zip of them, for one patient.")
    contents: list[tuple[str, Callable[[], bytes]]] = (
        _unzipped(bytes(zips[0].content), limits)
        if zips
        else [(part.path or "", partial(bytes, part.content)) for part in files]
    )
    return Upload(
        _of_one_patient(contents, limits),
        _value(values.get("age", ""), "age", "years", 0, OLDEST),
        _value(values.get("count", ""), "count", "10^9 per litre", LOWEST_COUNT, HIGHEST_COUNT),
        values.get("show", "") in ("1", "true"),
    )


def _of_one_patient(
    contents: list[tuple[str, Callable[[], bytes]]], limits: Limits
) -> dict[str, Callable[[], bytes]]:
    """The files that are no system's own, by path; all of one folder, each name once."""
    files: dict[str, Callable[[], bytes]] = {}
    for given, read in contents:
        # Windows' rules hold for the other systems' paths, too.
        path = PureWindowsPath(given)
        if ".." in path.parts or path.anchor or "\0" in given:
            raise ProblemError(
                422, f"{given[:80]!r} is a path out of its folder. Give names of files alone."
            )
        # As macOS and Windows add them.
        if any(part.startswith((".", "__MACOSX")) for part in path.parts) or (
            path.name.lower() in ("thumbs.db", "desktop.ini")
        ):
            continue
        if not path.name or len(given) > _MOST_NAME:
            raise ProblemError(
                422, f"A file has no name, or one of more than {_MOST_NAME} letters. Rename it."
            )
        if path.as_posix() in files:
            raise ProblemError(422, f"{path.name[:80]!r} is there twice. Send each picture once.")
        files[path.as_posix()] = read
    folders = sorted({str(PurePosixPath(path).parent) for path in files})
    if len(folders) > 1:
        raise ProblemError(
            422,
            f"The pictures lie in {len(folders)} folders ({some(folders)}). Send those of one "
            "patient, in one folder.",
        )
    if not files:
        raise ProblemError(422, "There are no pictures. Send those of one patient.")
    if len(files) > limits.pictures:
        raise _too_many_pictures(limits)
    return files


def _unzipped(content: bytes, limits: Limits) -> list[tuple[str, Callable[[], bytes]]]:
    """The files in a zip. Nothing is unpacked yet."""
    # `ZipFile` makes an object of each entry, and believes no count but these marks.
    if content.count(_ENTRY) > limits.zip_entries:
        raise ProblemError(
            413, f"The zip has more than {limits.zip_entries} entries. Send one patient's pictures."
        )
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
        raise ProblemError(422, f"The zip is damaged: {error}. Make it again.") from None
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    if any(entry.flag_bits & _ENCRYPTED for entry in entries):
        raise ProblemError(422, "The zip is encrypted. Make one without a password.")
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > limits.unpacked_bytes or unpacked > limits.zip_ratio * len(content):
        raise ProblemError(
            413,
            f"The zip would unpack to {unpacked} bytes; at most "
            f"{limits.unpacked_bytes // MEGABYTE} MB, and {limits.zip_ratio} times its own size, "
            "are taken.",
        )
    return [
        (entry.filename, partial(_unpacked, archive, entry, limits.picture_bytes))
        for entry in entries
    ]


def _unpacked(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, most: int) -> bytes:
    """An entry's content; an OSError with the reason where there is none."""
    if entry.compress_type not in _READABLE_METHODS:
        # LZMA may ask for gigabytes.
        raise OSError("it is compressed by another method than deflate")
    if entry.file_size > most:
        raise OSError(f"it has {entry.file_size} bytes; at most {most} are taken")
    try:
        with archive.open(entry) as file:
            # No more than the size that it declares, which was checked.
            return file.read()
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
        raise OSError(f"its part of the zip is damaged: {error}") from None


def _value(text: str, name: str, unit: str, least: float, most: float) -> float | None:
    """A number as people type it, with a point or a comma."""
    if not text:
        return None
    value = number(text, "," if "," in text else ".")
    if "," in text and len(text.partition(",")[2]) == 3:
        raise ProblemError(
            422,
            f"{name} is {text[:40]!r}: the comma may stand for decimals or for thousands. Write "
            "decimals with a point.",
        )
    if not least <= value <= most:
        hint = " 15,000 per microlitre are 15." if name == "count" else ""
        raise ProblemError(
            422,
            f"{name} is {text[:40]!r}; expected a number in {unit}, from {least} to {most}, or "
            f"nothing.{hint}",
        )
    return value


def _too_large(limits: Limits) -> ProblemError:
    return ProblemError(
        413,
        f"The request is larger than {limits.bytes // MEGABYTE} MB. Send one patient's pictures, "
        "or start the service with a larger --most-megabytes.",
    )


def _too_many_pictures(limits: Limits) -> ProblemError:
    return ProblemError(
        413, f"There are more than {limits.pictures} pictures. Send those of one patient."
    )
