"""What a request may take of this machine."""

from dataclasses import dataclass

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Limits:
    """Limits of the service; memory is bounded by `bytes` times `requests`.

    Attributes:
        bytes: of a request's body.
        pictures: files of one patient.
        picture_bytes: of one file.
        unpacked_bytes: of all files in a zip.
        zip_ratio: unpacked bytes for each byte of a zip.
        zip_entries: entries of a zip, folders and hidden files included.
        requests: that are received, wait or are worked on; the next one is told to come back.
        connections: open at once.
        header_seconds: that a client may take to send a request's headers.
        pause_seconds: between two pieces of a body, or of an answer that the client reads.
        upload_seconds: for a whole body.
        drain_seconds: in which the rest of a refused body is thrown away; a client that still sends
            would not see an earlier answer.
        work_seconds: for one diagnosis, without the wait for its turn.
    """

    bytes: int = 100 * MEGABYTE
    pictures: int = 500
    picture_bytes: int = 64 * MEGABYTE
    unpacked_bytes: int = 400 * MEGABYTE
    zip_ratio: int = 100
    zip_entries: int = 2_000
    requests: int = 16
    connections: int = 200
    header_seconds: float = 10
    pause_seconds: float = 15
    upload_seconds: float = 120
    drain_seconds: float = 5
    work_seconds: float = 120
