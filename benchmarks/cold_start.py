"""How long Kedro takes to list pipelines, and to come to a run's first node.

Both are measured against a blank project: what `kedro new` makes, and two nodes that pass a number.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from benchmarks.side_by_side import Row, divide, time_in_turn

PROJECT = Path(__file__).parents[1]
TURNS = 7
GOAL = "at most 1.3"
BLANK_REGISTRY = """
from kedro.pipeline import Pipeline, node

def first():
    return 1

def second(one):
    return one + 1

def register_pipelines():
    return {"__default__": Pipeline([node(first, None, "one"), node(second, "one", "two")])}
"""
# Kedro's command line; the process ends where the runner would begin with the first node.
TO_FIRST_NODE = """
import os
from kedro.framework.cli import main
from kedro.runner import task
task.Task.execute = lambda self: os._exit(0)
main()
"""


def places(folder: Path) -> str:
    """Make a cohort of which there is only what is checked before the first node.

    Args:
        folder: where to make it.

    Returns:
        The option that names it and a workspace.
    """
    cohort = folder / "cohort"
    (cohort / "trainset/P1").mkdir(parents=True)
    (cohort / "clinical_annotation.csv").write_text("ID,LABEL\n")
    return f"--params=workspace={folder}/out,cohort_dir={cohort}"


def measure() -> list[Row]:
    """Start both projects, each time in a process of its own.

    Returns:
        A row for the list of pipelines, one for a run without and two for runs with GPU nodes.
    """
    with tempfile.TemporaryDirectory() as folder:
        # Bytecode is kept between starts, as it is for users, whatever this machine's settings.
        quiet = {"KEDRO_DISABLE_TELEMETRY": "1", "PYTHONPYCACHEPREFIX": f"{folder}/bytecode"}
        environment = {
            k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"
        } | quiet

        def start(project: Path | str, *command: str) -> Callable[[], object]:
            return lambda: subprocess.run(  # noqa: S603
                [sys.executable, *command],
                cwd=project,
                env=environment,
                check=True,
                capture_output=True,
            )

        start(
            folder, "-m", "kedro", "new", "--name=blank", "--tools=none", "--example=no",
            "--telemetry=no",
        )()  # fmt: skip
        blank = Path(folder, "blank")
        (blank / "src/blank/pipeline_registry.py").write_text(BLANK_REGISTRY)
        own = places(Path(folder))
        seconds = time_in_turn(
            {
                "blank list": start(blank, "-m", "kedro", "registry", "list"),
                "list": start(PROJECT, "-m", "kedro", "registry", "list"),
                "blank run": start(blank, "-c", TO_FIRST_NODE, "run"),
                "ingest": start(PROJECT, "-c", TO_FIRST_NODE, "run", "--pipelines=ingest", own),
                "demo": start(PROJECT, "-c", TO_FIRST_NODE, "run", "--env=demo", f"{own}_drawn"),
                "best": start(PROJECT, "-c", TO_FIRST_NODE, "run", "--env=best", own),
            },
            TURNS,
        )
    against = f"a blank project of Kedro {version('kedro')}"
    return [
        Row(
            "cold start: `kedro registry list`",
            against,
            GOAL,
            divide(seconds["list"], seconds["blank list"]),
        ),
        Row(
            "cold start: `kedro run --pipelines=ingest` to its first node",
            against,
            GOAL,
            divide(seconds["ingest"], seconds["blank run"]),
        ),
        Row(
            "cold start: `kedro run --env=demo` to its first node",
            against,
            GOAL,
            divide(seconds["demo"], seconds["blank run"]),
            "names and weights checked; no torch imported",
        ),
        Row(
            "cold start: `kedro run --env=best` to its first node",
            against,
            GOAL,
            divide(seconds["best"], seconds["blank run"]),
            "likewise; weights from a package",
        ),
    ]
