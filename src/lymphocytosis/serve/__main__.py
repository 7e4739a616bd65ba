"""`python -m lymphocytosis.serve --bundle=FOLDER`: serve a trained system over HTTP."""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import uvicorn

from lymphocytosis.errors import UserError
from lymphocytosis.serve.app import create_app
from lymphocytosis.serve.guard import open_doors, read_file
from lymphocytosis.serve.limits import MEGABYTE, Limits
from lymphocytosis.serve.protocol import protocol_of
from lymphocytosis.system.bundle import read_bundle
from lymphocytosis.system.diagnosis import ReadySystem
from lymphocytosis.terminal import harmless, make_log_harmless


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, load the bundle, and serve until stopped.

    Args:
        arguments: of the command line; by default, the process's.
    """
    asked = _parser().parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
    make_log_harmless()
    limits = replace(Limits(), bytes=asked.most_megabytes * MEGABYTE, requests=asked.most_requests)
    try:
        doors = open_doors(asked.host, asked.token_file, asked.allow_host)
        trusted = asked.trusted_key and read_file(asked.trusted_key, "the trusted key")
        bundle = read_bundle(asked.bundle, trusted)
        system = ReadySystem(bundle, bundle.compute)
    except UserError as error:
        sys.exit(f"Error: {harmless(str(error))}")
    print(
        f"Open http://{_in_url(asked.host)}:{asked.port}/ in a browser. Ctrl+C stops.", flush=True
    )
    uvicorn.run(
        create_app(system, limits, doors),
        host=asked.host,
        port=asked.port,
        http=protocol_of(limits.header_seconds),
        ws="none",
        lifespan="off",
        log_config=None,
        log_level=logging.WARNING,
        access_log=False,  # it would name files in paths and queries; ours doesn't
        proxy_headers=False,
        server_header=False,
        limit_concurrency=limits.connections,
        timeout_graceful_shutdown=10,
    )


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _up_to(most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to {most}")
        return int(text)

    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lymphocytosis.serve", description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True, help="a trained system's folder")
    parser.add_argument("--host", default="127.0.0.1", help="default: this machine alone")
    parser.add_argument("--port", type=_up_to(65_535), default=8000)
    parser.add_argument("--token-file", type=Path, help="what callers must send as bearer token")
    parser.add_argument("--trusted-key", type=Path, help="public key that the bundle is signed by")
    parser.add_argument(
        "--allow-host", action="append", default=[], help="a name by which a proxy calls it"
    )
    parser.add_argument("--most-megabytes", type=_up_to(10_000), default=100, help="of one request")
    parser.add_argument(
        "--most-requests", type=_up_to(1_000), default=16, help="received or waiting"
    )
    return parser


if __name__ == "__main__":
    main()
