"""`make bench`: run every benchmark, each in its own process; print one table of ratios."""

import argparse
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.side_by_side import Row

MODULES = (
    "embedding",
    "pretraining",
    "classifiers",
    "decoding",
    "embeddings_file",
    "memory",
    "kedro_share",
    "cold_start",
    "backends",
    "diagnosis",
    "serve",
)
PEERS = (
    "torch",
    "kedro",
    "onnxruntime",
    "openvino",
    "torchmil",
    "fastapi",
    "uvicorn",
    "pillow",
    "simplejpeg",
    "pyarrow",
    "safetensors",
    "h5py",
    "pandas",
    "polars",
    "duckdb",
)


def main() -> None:
    """Print the table in Markdown, with the machine and all versions above it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", help=f"some of: {', '.join(MODULES)}; default: all")
    chosen = parser.parse_args().modules or MODULES
    print(
        f"{_processor()}, {os.cpu_count()} cores; Python {platform.python_version()}, {_versions()}"
    )
    print("\n| path | measured against | ratio: median (middle half) | goal | note |")
    print("|---|---|---|---|---|", flush=True)
    for module in chosen:
        # A process each: threads, caches and memory of one leave the next alone.
        command = [sys.executable, "-c", _PRINT_ROWS.format(module=module)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603
        if done.returncode:
            print(f"| {module} | did not run: see above | | | |", flush=True)
            continue
        for row in json.loads(done.stdout.splitlines()[-1]):
            print(Row(**row).line(), flush=True)


_PRINT_ROWS = """
import dataclasses, json
from benchmarks import {module}
print(json.dumps([dataclasses.asdict(row) for row in {module}.measure()]))
"""


def _versions() -> str:
    found = []
    for name in PEERS:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} not installed")
    return ", ".join(found)


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
