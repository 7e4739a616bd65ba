"""A small system in place of a trained one: it reads and decodes pictures, and gives numbers."""

import io
import socket
import threading
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
import uvicorn
from starlette.testclient import TestClient

from lymphocytosis.imaging.store import decode_pictures
from lymphocytosis.parameters import ImageParameters
from lymphocytosis.serve.app import create_app
from lymphocytosis.serve.guard import LOCAL_NAMES, Doors
from lymphocytosis.serve.limits import Limits
from lymphocytosis.serve.protocol import protocol_of

CARD = "# A model\n\nThis is **not a medical device**.\n"
FACTS = {"encoder": "none", "scores": {"auc": np.float64(0.5), "none": np.nan}}
LOCAL = Doors(frozenset(LOCAL_NAMES), None)


@dataclass(frozen=True)
class StandInDiagnosis:
    row: dict[str, Any]
    cells: pd.DataFrame


class StandIn:
    """As `ReadySystem`, without a model."""

    card = CARD
    facts = FACTS
    fingerprint = "0123456789abcdef" * 4
    image = ImageParameters(
        source_size=40,
        crop=40,
        size=40,
        unreadable="leave_out",
        other_size="convert",
        other_mode="convert",
    )

    def diagnose(self, pictures, age, count, image):
        stored = list(decode_pictures(pictures, image))
        taken = [each for each in stored if each.pixels is not None]
        if not taken:
            cells = pd.DataFrame([each.record for each in stored])
            return StandInDiagnosis({"cell_count": 0}, cells)
        cells = pd.DataFrame(
            [
                {
                    "image_id": each.record["image_id"],
                    "status": each.record["status"],
                    "reason": each.record["reason"],
                    "contribution": np.nan
                    if each.pixels is None
                    else (each.pixels.mean() - 127.5) / len(taken) / 3,
                    "distance": np.nan if each.pixels is None else each.pixels.std(),
                    "odd": pd.NA if each.pixels is None else bool(each.pixels.std() > 73.8),
                }
                for each in stored
            ]
        ).astype({"odd": "boolean"})
        clinical = age is not None and count is not None
        probability = float(1 / (1 + np.exp(-cells["contribution"].sum())))
        row = {
            "patient_id": pictures[0].patient_id,
            "cell_count": np.int32(len(taken)),
            "age_years": age,
            "lymphocyte_count": count,
            "inputs": "pictures and clinical values" if clinical else "pictures",
            "probability": probability,
            "probability_pictures": probability,
            "referral": "refer",
            "set": "both",
            "advice": "look again",
            "unlike": True,
            "flags": ["The pictures are darker than those of 99 of 100 training patients."],
            "reasons": ["Both answers are within the error rate."],
            "warnings": [],
            "large_mean": np.float32(0.1),
            "large_std": np.nan,
        }
        return StandInDiagnosis(row, cells)


@pytest.fixture(scope="session")
def stand_in():
    return StandIn()


@pytest.fixture
def client_of():
    """A function that returns a client of a service, with a system and limits of one's choice."""

    def make(system=None, doors=LOCAL, host="127.0.0.1:8000", **limits):
        app = create_app(system or StandIn(), Limits(**limits), doors)
        return TestClient(app, base_url=f"http://{host}", raise_server_exceptions=False)

    return make


@pytest.fixture
def client(client_of):
    return client_of()


@pytest.fixture(scope="session")
def pictures(picture):
    """Five pictures' bytes, by name."""
    return {f"{seed}.png": picture(seed) for seed in range(5)}


@pytest.fixture(scope="session")
def as_files():
    """A function from bytes by name to the files that a client sends."""

    def make(contents):
        return [("pictures", (name, content)) for name, content in contents.items()]

    return make


@pytest.fixture(scope="session")
def as_zip():
    """A function from bytes by name to a zip of them."""

    def make(contents, method=zipfile.ZIP_DEFLATED):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", method) as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
        return file.getvalue()

    return make


@pytest.fixture
def token_doors():
    return Doors(None, "0123456789abcdef")


@pytest.fixture
def serving():
    """A function that serves a system on a free port, and returns the port."""
    servers = []

    def start(system, doors=LOCAL, **limits):
        app = create_app(system, made := Limits(**limits), doors)
        config = uvicorn.Config(
            app,
            http=protocol_of(made.header_seconds),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        listening = socket.create_server(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        servers.append((server, thread, listening))
        return listening.getsockname()[1]

    yield start
    for server, thread, listening in servers:
        server.should_exit = True
        thread.join(timeout=10)
        assert not thread.is_alive()
        listening.close()
