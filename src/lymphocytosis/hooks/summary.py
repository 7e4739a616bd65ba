"""The end of a run in a few lines: its figures, what it made and where, what to do next."""

import shlex
import textwrap
from importlib import import_module
from pathlib import Path
from typing import Any

from kedro.io import AbstractVersionedDataset, DataCatalog
from kedro.pipeline import Pipeline

from lymphocytosis.display import duration
from lymphocytosis.parameters import leaves

# What a person opens, by entry; the rest is found from there.
_TO_OPEN = (
    "report", "diagnosis_report", "diagnoses_csv", "decisions", "results", "bag_images_results",
    "evaluation_summary", "choice_summary", "all_evaluations", "ingest_report", "bundle",
)  # fmt: skip
_MOST = 3
# What is shown of what a run made, and by what: imported only then, for one of them takes a second.
_DESCRIBED = {
    "results": ("decision.results", "describe"),
    "bag_images_results": ("decision.results", "describe"),
    "evaluation": ("decision.summary", "outline"),
    "choice_evaluation": ("decision.summary", "outline"),
    "diagnoses": ("pipelines.predict.nodes", "describe"),
}
_BEST = ""  # the default pipeline, in an environment of its own
# By what a run made, the last that was made first: the pipelines to run next, and what for.
_NEXT = {
    "diagnoses": {},
    "bundle": {"predict": "diagnose new patients, a folder each, by the bundle"},
    "evaluation": {"bundle": "put the trained system into one folder, for new patients"},
    "results": {
        "evaluate": "what the pictures add to age and count, with intervals",
        "bundle": "put the trained system into one folder, for new patients",
    },
    "large_classifiers": {"ensemble": "predict the test patients, and decide"},
    "embeddings": {"classify,ensemble": "train the classifiers, and decide"},
    "autoencoder": {"embed,classify,ensemble": "everything that is left"},
    "patients": {
        _BEST: "everything by the best recipe, which needs no GPU",
        "ssl_pretrain,embed,classify,ensemble": "everything that is left, by these parameters",
    },
    "cohort_pictures": {"ingest": "read the cohort"},
}


def summarise(
    run_params: dict[str, Any],
    pipeline: Pipeline,
    catalog: DataCatalog,
    workspace: str,
    seconds: float,
) -> str:
    """Say what a finished run made.

    Args:
        run_params: Kedro's.
        pipeline: what ran.
        catalog: its datasets.
        workspace: the run's.
        seconds: how long it took.

    Returns:
        Lines of up to 80 characters, but for paths and commands, which are not broken.
    """
    made = pipeline.all_outputs()
    shown = [entry for entry in _TO_OPEN if entry in made][:_MOST]
    lines = [
        *_figures(made, catalog),
        f"Done in {duration(seconds)}." + " To look at:" * bool(shown),
        *(f"  {_place(catalog, entry)}" for entry in shown),
    ]
    lines.append(f"All it made: under {_short(workspace)}, in folders named {run_params['run_id']}")
    next_ones = next((_NEXT[entry] for entry in _NEXT if entry in made), {})
    if next_ones:
        lines.append("Next:")
    for names, purpose in next_ones.items():
        env, given = run_params["env"], run_params["runtime_params"] or {}
        if names == _BEST:
            if env:
                continue
            env = "best"
        if names == "bundle" and not ("results" in made or catalog.exists("large_classifiers")):
            names = "classify,ensemble,bundle"
        if names == "predict":
            bundle = _place(catalog, "bundle")
            env = None
            given = {"bundle": bundle, "cohort_dir": "new_patients", "workspace": "answers"}
        lines += [f"  {purpose}:", f"    {_command(names, env, given)}"]
    return "\n".join(lines)


def _figures(made: set[str], catalog: DataCatalog) -> list[str]:
    shown = []
    for entry, (module, function) in _DESCRIBED.items():
        if entry in made:
            describe = getattr(import_module(f"lymphocytosis.{module}"), function)
            shown.append(f"\n{describe(catalog.load(entry))}\n\n")
    return [line for text in shown for given in text.splitlines() for line in _fitted(given)]


def _fitted(line: str) -> list[str]:
    # The rest of a table's row is indented further than the next row.
    return textwrap.wrap(line, 80, subsequent_indent=" " * 6 * line.startswith(" ")) or [""]


def _place(catalog: DataCatalog, entry: str) -> str:
    dataset = catalog[entry]
    if isinstance(dataset, AbstractVersionedDataset) and dataset._version:
        return _short(str(dataset._get_load_path()))
    return _short(str(dataset._describe()["filepath"]))


def _short(path: str) -> str:
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def _text(value: Any) -> str:
    # A comma would begin the next parameter.
    return "+".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _command(pipelines: str, env: str | None, given: dict[str, Any]) -> str:
    options = [f"--env={env}"] * bool(env) + [f"--pipelines={pipelines}"] * bool(pipelines)
    if given:
        told = ",".join(f"{name}={_text(value)}" for name, value in leaves(given).items())
        options.append(f"--params={told}")
    return shlex.join(["kedro", "run", *options])
