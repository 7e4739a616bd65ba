"""The commands of docs/new_patient.md and the code of docs/reading.md run, on a smaller demo."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pandas as pd
import pytest
import yaml

PROJECT = Path(__file__).parents[1]
PAGE = (PROJECT / "docs/new_patient.md").read_text()
READING = (PROJECT / "docs/reading.md").read_text()
COMMANDS = re.findall(r"^    ((?:kedro|openssl|make) .*)$", PAGE, re.MULTILINE)
TINY = {
    "simulation": {
        "train_reactive": 12, "train_tumoral": 12, "test": 4, "min_cells": 2, "max_cells": 4,
        "picture_size": 64, "test_labels": "hidden",
    },
    "image": {"source_size": 64, "crop": 48, "size": 40},
    "encoder": {"name": "test_efficientnet", "weights": "random", "small_dim": 8},
    "pretext": {"epochs": 1, "early_epoch": 1},
    "mil": {"embedding_width": 8, "hidden_widths": [8, 4], "epochs": 2, "batch_size": 8},
    "splits": {"validation_share": 0.25, "count": 2},
    "compute": {"embed_backend": "torch"},
}  # fmt: skip


def newest(folder, name):
    (path,) = folder.glob(f"*/{name}/*/{name}")
    return path


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project with a smaller demo, where all commands but the last have run."""
    project = tmp_path_factory.mktemp("new_patient") / "project"
    for part in ("src", "conf"):
        shutil.copytree(
            PROJECT / part, project / part, ignore=shutil.ignore_patterns("*.egg-info", "local")
        )
    for name in ("pyproject.toml", "Makefile", ".telemetry"):
        shutil.copy(PROJECT / name, project)
    (project / "conf/local").mkdir()
    (project / "conf/demo/parameters.yml").write_text(yaml.safe_dump(TINY))
    for command in COMMANDS[:-1]:
        if "pipelines=predict" in command:
            write_new_patients(project)
        done = subprocess.run(
            ["bash", "-c", command], cwd=project, env=environment(project),
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        with (project / "told.txt").open("a") as told:
            told.write(done.stdout + done.stderr)
    return project


def environment(project):
    binaries = str(Path(sys.executable).parent)
    return os.environ | {
        "PATH": f"{binaries}:{os.environ['PATH']}",
        "PYTHONPATH": str(project / "src"),
    }


def write_new_patients(project):
    """The layout of the page: two simulated patients, one without clinical values."""
    folder = project / "new_patients"
    tests = sorted((project / "data/demo/01_raw/cohort/testset").iterdir())
    for name, source in zip(("anna", "bert"), tests, strict=False):
        shutil.copytree(source, folder / name)
    (folder / "clinical_annotation.csv").write_text("ID,AGE,LYMPH_COUNT\nanna,61,12.5\nbert,,\n")


def test_the_page_goes_from_the_demo_to_the_browser():
    asked = [re.search(r"--pipelines=(\w+)", command) for command in COMMANDS]
    names = [found.group(1) if found else "" for found in asked]
    assert names == ["", "bundle", "", "", "predict", ""]
    assert COMMANDS[-1].startswith("make serve")


def test_no_library_warns_on_the_way(project):
    told = (project / "told.txt").read_text()
    assert told.count("Done in ") == 3
    assert "Warning" not in told


def test_the_answers_are_there(project):
    answers = pd.read_csv(newest(project / "answers", "diagnoses.csv")).set_index("patient_id")
    assert list(answers.index) == ["anna", "bert"]
    assert set(answers["advice"]) <= {"refer", "do not refer", "look again"}
    assert answers["probability"].between(0, 1).all()
    assert answers.loc["bert", "inputs"] == "pictures"
    columns = re.findall(r"`(\w+)`", PAGE[PAGE.index("| column |") : PAGE.index("Advice is")])
    assert set(columns) - {"ensemble"} <= set(answers.columns)


def test_the_service_gives_the_same_row(project):
    # The Makefile would install first, and serve at the usual port.
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = f"{COMMANDS[-1]} PORT={port} BIN={Path(sys.executable).parent} -o .venv/installed"
    with subprocess.Popen(
        ["bash", "-c", f"exec {command}"], cwd=project, env=environment(project),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    ) as service:  # fmt: skip
        try:
            row = ask(f"http://127.0.0.1:{port}", project / "new_patients/anna")
        finally:
            os.killpg(service.pid, 15)
    answers = json.loads(newest(project / "answers", "diagnoses.json").read_text())
    anna = next(answer for answer in answers if answer["patient_id"] == "anna")
    for name in ("probability", "probability_pictures", "advice", "large_mean", "flags"):
        assert row[name] == anna[name]


def ask(address, folder):
    """Post a patient's pictures, age and count, once the service is there."""
    pictures = [("pictures", (path.name, path.read_bytes())) for path in sorted(folder.iterdir())]
    with httpx2.Client(base_url=address, timeout=60) as client:
        for _ in range(120):
            try:
                client.get("/health")
                break
            except httpx2.ConnectError:
                time.sleep(0.5)
        values = {"age": "61", "count": "12.5"}
        answer = client.post("/v1/predict", data=values, files=pictures)
        assert answer.status_code == 200, answer.text
        return answer.json()["row"]


def test_the_code_that_reads_the_files_runs(project):
    (project / "my_run").symlink_to("data/demo")
    (project / "my_cohort").symlink_to("data/demo/01_raw/cohort")
    code = re.findall(r"```python\n(.*?)```", READING, re.DOTALL)
    patient = min((project / "my_cohort/trainset").iterdir()).name
    version = next((project / "my_run/02_intermediate/patients.parquet").iterdir()).name
    cells = [block.replace("A01", patient) for block in code]
    cells = [block.replace("2026-01-31T09.15.00.000Z", version) for block in cells]
    assert len(cells) == 9
    script = f"""
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
for cell in {cells!r}:
    shell.run_cell(cell).raise_error()
seen = shell.user_ns
assert len(seen["images"]) == len(seen["large"]) // 3 == seen["cells"]["len"].sum()
assert set(seen["table"].column_names) == {{"image_id", "view", "small"}} and len(seen["table"]) > 0
assert "small AVG" in set(seen["results"]["method"])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=project, env=environment(project),
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
