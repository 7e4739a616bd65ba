import os
import subprocess
import sys
from pathlib import Path

from kedro.framework.cli.utils import KedroCliError

import lymphocytosis.settings  # noqa: F401

PROJECT = Path(__file__).parents[1]


def test_letters_that_python_can_not_read_are_refused_in_one_line():
    ascii_only = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "kedro", "run", "--params=workspace=Pé1".encode()]
    done = subprocess.run(command, cwd=PROJECT, env=ascii_only, capture_output=True, text=True)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "Set PYTHONUTF8=1" in line


def test_an_option_that_kedro_itself_refuses_is_told_in_one_line(capsys):
    KedroCliError("Expected another form of 'load_versions'").show()
    assert capsys.readouterr().err == "Error: Expected another form of 'load_versions'\n"


def test_reading_them_waits_for_no_large_library():
    large = {"pandas", "torch", "scipy", "matplotlib", "mlflow"}
    told = f"import sys, lymphocytosis.settings; print({large} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("set()\n", "")
