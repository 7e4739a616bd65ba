"""Every command on a page is one that the project understands: its options, names and values.

Those of docs/new_patient.md and docs/reading.md are also run, in test_new_patient.py.
"""

import ast
import re
import shlex
import shutil
import tomllib
from importlib.util import find_spec
from pathlib import Path

import click
import pytest
import yaml
from kedro.config import OmegaConfigLoader
from kedro.framework.cli.cli import KedroCLI
from kedro.framework.project import pipelines

from lymphocytosis.hooks.parameters import split_lists
from lymphocytosis.parameters import check_parameters
from lymphocytosis.serve.upload import FIELDS
from lymphocytosis.settings import CONFIG_LOADER_ARGS

PROJECT = Path(__file__).parents[1]
PAGES = [
    *(PROJECT / "docs").glob("*.md"), PROJECT / "README.md", PROJECT / "CONTRIBUTING.md",
    PROJECT / "benchmarks/README.md", PROJECT / "data/README.md",
]  # fmt: skip
# What a line of a block may begin with; whatever else a block holds is no command.
PROGRAMS = {"kedro", "make", "python", "source", "git", "pip", "pytest", "curl", "openssl"}
INLINE = PROGRAMS - {"source", "git"}


def commands_on(page):
    """The commands of a page: lines of its blocks, which `\\` continues, and those in its text."""
    text = page.read_text(encoding="utf-8")
    fenced = re.compile(r"^ *```\w*\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
    blocks = [*fenced.findall(text), *re.findall(r"(?:^ {4,}\S.*\n)+", text, re.MULTILINE)]
    for block in blocks:
        for line in re.sub(r"\\\n\s*", "", block).splitlines():
            line = line.strip().removeprefix(".venv/bin/").removeprefix("srun ")
            if line.partition(" ")[0] in PROGRAMS:
                yield re.split(r"\s{2,}#", line)[0]
        if given := re.search(r"command: (\[.*\])", block):  # of a container
            yield shlex.join(yaml.safe_load(given[1]))
    for said in re.findall(r"`([^`]+)`", fenced.sub("", text)):
        said = " ".join(said.split())
        if said.partition(" ")[0] in INLINE and " " in said:
            yield said


# What docs/extending.md adds to the project; test_extending.py runs it.
ADDED = {"count_cells"}
COMMANDS = sorted({command for page in PAGES for command in commands_on(page)})


def of(program):
    return [command for command in COMMANDS if command.partition(" ")[0] == program]


def parsed(command, arguments, parent=None):
    """The options of the command that is meant at last; Click refuses what it doesn't know."""
    context = command.make_context(command.name, arguments, parent)
    if isinstance(command, click.Group):
        words = [*context._protected_args, *context.args]
        _, chosen, rest = command.resolve_command(context, words)
        return parsed(chosen, rest, context)
    return context.params


@pytest.fixture(scope="module")
def cli():
    return KedroCLI(PROJECT)


@pytest.fixture(scope="module")
def entries():
    return yaml.safe_load((PROJECT / "conf/base/catalog.yml").read_text())


@pytest.mark.parametrize("command", of("kedro"))
def test_kedro_understands(cli, entries, command):
    if command.startswith("kedro mlflow ") and find_spec("kedro_mlflow") is None:
        pytest.skip("the extra tracking is not installed")
    options = parsed(cli, shlex.split(command)[1:])
    if "load_versions" not in options:  # only `kedro run` has it
        return
    loader = OmegaConfigLoader(
        str(PROJECT / "conf"),
        env=options["env"],
        runtime_params=options["params"],
        **CONFIG_LOADER_ARGS,
    )
    split_lists(raw := loader["parameters"])
    check_parameters(raw)
    names = [options["pipeline"]] if options["pipeline"] else options["pipelines"]
    chosen = [pipelines[name] for name in names or ["__default__"] if name not in ADDED]
    known = {node.name for pipeline in chosen for node in pipeline.nodes}
    asked = {*options["node_names"], *options["from_nodes"], *options["to_nodes"]}
    assert asked <= known
    assert set(options["load_versions"]) <= set(entries)


@pytest.mark.parametrize("command", of("make"))
def test_make_has_the_target_and_the_variables(command):
    makefile = (PROJECT / "Makefile").read_text()
    _, target, *settings = shlex.split(command)
    assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    for setting in settings:
        assert f"$({setting.partition('=')[0]})" in makefile


@pytest.mark.parametrize("command", of("python"))
def test_python_has_the_file_and_the_file_its_options(command):
    _, *words = shlex.split(command)
    if words[0] == "-m":
        name, words = words[1], words[2:]
        path = PROJECT / ("src" if name.startswith("lymphocytosis") else "")
        path = path / name.replace(".", "/")
        path = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
    else:
        path, words = PROJECT / words[0], words[1:]
    nodes = ast.walk(ast.parse(path.read_text()))
    texts = {node.value for node in nodes if isinstance(node, ast.Constant)}
    for word in words:
        option = word.partition("=")[0]
        module = PROJECT / f"benchmarks/{option}.py"
        assert option in texts or (module.exists() and "benchmarks" in path.parts), option


@pytest.mark.parametrize("command", of("curl"))
def test_the_service_has_the_path_and_the_fields(command):
    path = re.search(r":8000(/\S*)", command).group(1)
    assert f'"{path}"' in (PROJECT / "src/lymphocytosis/serve/app.py").read_text()
    assert set(re.findall(r"--form (\w+)=", command)) <= set(FIELDS)


def test_openssl_is_asked_for_nothing_that_no_test_runs():
    page = (PROJECT / "docs/new_patient.md").read_text()
    others = [command for command in of("openssl") if command not in page]
    assert others == ["openssl rand -hex 32 > token"]


def test_what_is_tested_or_installed_by_name_is_there():
    extras = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for command in of("pytest"):
        assert (PROJECT / command.split()[1]).exists()
    for command in of("pip"):
        assert re.search(r"\[(\w+)\]", command).group(1) in extras


def test_no_command_is_left_out():
    assert set(of("source")) == {"source .venv/bin/activate"}
    assert len(of("git")) == 1
    assert len(COMMANDS) > 60


YAML = [
    (page.name, block)
    for page in PAGES
    if page.name != "extending.md"
    for block in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)
    if not block.startswith("apiVersion:")
]


@pytest.mark.parametrize(("page", "block"), YAML, ids=[page for page, _ in YAML])
def test_parameters_on_a_page_are_taken(page, block, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/parameters.yml").write_text(block)
    shutil.copytree(PROJECT / "conf/base", tmp_path / "base")
    loader = OmegaConfigLoader(str(tmp_path), env="mine", **CONFIG_LOADER_ARGS)
    check_parameters(loader["parameters"])


def test_jobs_have_the_machines_and_cards_that_their_commands_name():
    page = (PROJECT / "docs/distributed.md").read_text()
    asked = set(re.findall(r"compute\.nodes=(\d+),compute\.processes=(\d+)", page))
    slurm = re.search(r"--nodes=(\d+) .*--gpus-per-node=(\d+)", page).groups()
    job = yaml.safe_load(re.search(r"```yaml\n(apiVersion.*?)```", page, re.DOTALL)[1])
    replicas = job["spec"]["pytorchReplicaSpecs"]
    machines = sum(part["replicas"] for part in replicas.values())
    (container,) = replicas["Worker"]["template"]["spec"]["containers"]
    kubernetes = (str(machines), str(container["resources"]["limits"]["nvidia.com/gpu"]))
    assert asked == {slurm} == {kubernetes}
    # The operator's name for the first machine.
    assert f"compute.rendezvous={job['metadata']['name']}-master-0:" in container["command"][-1]
