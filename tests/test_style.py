import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("keras_robust", "tests", "benchmarks", "examples")


def splats(source):
    """Lines with calls such as `f(*(a, b))`, whose arguments have no names."""
    return [
        argument.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        for argument in node.args
        if isinstance(argument, ast.Starred)
        and isinstance(argument.value, (ast.Tuple, ast.List))
    ]


@pytest.mark.parametrize("folder", FOLDERS)
def test_arguments_are_written_out(folder):
    found = {
        path.relative_to(ROOT).as_posix(): lines
        for path in sorted((ROOT / folder).rglob("*.py"))
        if (lines := splats(path.read_text("utf-8")))
    }
    assert found == {}


def test_splats_are_found():
    assert splats("f(*(a, b))\nf(a, *pair)\nf(\n*[a],\nb)") == [1, 4]
