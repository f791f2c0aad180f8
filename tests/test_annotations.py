"""Signatures say what they take and return."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "keras_robust"
# Packages, and modules beside them, of which private functions are annotated
# as well; of the others the public ones are.
FULLY_ANNOTATED = (
    "backend",
    "certify",
    "classifier",
    "cli",
    "environment.py",
    "layers",
    "messages.py",
    "models",
    "plain_arrays.py",
    "progress.py",
    "theory",
    "training",
)


def functions(node, inside_class=False):
    """Every function below a node, and whether it is a method."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef):
            yield child, inside_class
        yield from functions(child, isinstance(child, ast.ClassDef))


def public_functions(body, inside_class=False):
    """Functions and methods by what users and subclasses may call."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from public_functions(node.body, True)
        elif isinstance(node, ast.FunctionDef):
            special = node.name in ("__init__", "__call__")
            if special or not node.name.startswith("_"):
                yield node, inside_class


def without_annotation(node, is_method):
    arguments = node.args
    named = [*arguments.posonlyargs, *arguments.args]
    decorators = [ast.unparse(one) for one in node.decorator_list]
    if is_method and "staticmethod" not in decorators:
        named = named[1:]
    named += [*arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    found = [one.arg for one in named if one and one.annotation is None]
    return found + (["return"] if node.returns is None else [])


@pytest.mark.parametrize(
    "path",
    sorted(PACKAGE.rglob("*.py")),
    ids=lambda path: path.relative_to(PACKAGE).as_posix(),
)
def test_signatures_are_annotated(path):
    tree = ast.parse(path.read_text("utf-8"))
    part = path.relative_to(PACKAGE).parts[0]
    all_of_them = part in FULLY_ANNOTATED
    found = {
        f"{node.name}, line {node.lineno}": missing
        for node, is_method in (
            functions(tree) if all_of_them else public_functions(tree.body)
        )
        if (missing := without_annotation(node, is_method))
    }
    assert found == {}


def test_what_is_not_annotated_is_found():
    tree = ast.parse(
        "def f(a, *b, c: int = 1) -> None: ...\n"
        "class A:\n def g(self):\n  def _h(x): ..."
    )
    (f, _), (g, is_method) = public_functions(tree.body)
    assert without_annotation(f, False) == ["a", "b"]
    assert without_annotation(g, is_method) == ["return"]
    names = [(node.name, is_method) for node, is_method in functions(tree)]
    assert names == [("f", False), ("g", True), ("_h", False)]
