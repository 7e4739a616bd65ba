"""The pipelines that `kedro run --pipelines=...` knows: the packages in `pipelines/`."""

from importlib import import_module
from pkgutil import iter_modules

from kedro.pipeline import Pipeline

from lymphocytosis import pipelines
from lymphocytosis.pipelines.report import create_pipeline as create_report

METHOD = ("ingest", "ssl_pretrain", "embed", "classify", "ensemble")


def register_pipelines() -> dict[str, Pipeline]:
    """Register every pipeline; no torch is imported.

    Returns:
        The pipelines by name, those of the method first. `__default__` is all of these, and the
        report: it takes a cohort from its pictures to the results table and a page about it;
        hooks/demo.py runs `simulate` before it in the demo environment. `demo` is both as one, for
        kedro-viz.
    """
    packages = [module.name for module in iter_modules(pipelines.__path__) if module.ispkg]
    made = {
        name: import_module(f"{pipelines.__name__}.{name}").create_pipeline()
        for name in dict.fromkeys([*METHOD, *packages])
    }
    method = sum((made[name] for name in METHOD), start=create_report(at_the_end=True))
    # Last: the first that makes an entry is recommended where this is missing.
    return {"__default__": method, **made, "demo": made["simulate"] + method}
