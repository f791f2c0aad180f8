import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from keras_robust import cli

pytestmark = pytest.mark.xdist_group("smoke")

ROOT = Path(__file__).parent.parent


def run(*arguments):
    return subprocess.run(
        arguments, capture_output=True, text=True, env={**os.environ}
    )


def test_replicate_as_a_process(smoke_run):
    folder, printed = smoke_run
    assert "D_NR" in printed and "pgd-l2-0.5" in printed
    results = json.loads((folder / "results.json").read_text())
    assert results["seeds"] == [3]
    # The example runs the same study and finds its stages there.
    example = run(
        *(sys.executable, str(ROOT / "examples" / "cifar_replication.py")),
        *("--dataset", "digits", "--preset", "smoke"),
        *("--output", str(folder), "--seed", "3"),
    )
    assert example.returncode == 0, example.stderr
    assert "training" not in example.stdout
    again = json.loads((folder / "results.json").read_text())
    assert again["summary"] == results["summary"]


def test_mistakes_are_said_without_a_traceback(tmp_path, capsys):
    status = cli.main(
        ["replicate", "--preset", "paper", "--output", str(tmp_path)]
    )
    assert status == 2
    assert "digits/paper" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["replicate", "--dataset", "imagenet"])


def test_console_script_is_installed():
    done = run("keras-robust", "replicate", "--help")
    assert done.returncode == 0 and "--dataset" in done.stdout
