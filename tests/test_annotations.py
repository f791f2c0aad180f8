import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "keras_robust"


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
def test_public_signatures_are_annotated(path):
    tree = ast.parse(path.read_text("utf-8"))
    found = {
        f"{node.name}, line {node.lineno}": missing
        for node, is_method in public_functions(tree.body)
        if (missing := without_annotation(node, is_method))
    }
    assert found == {}


def test_what_is_not_annotated_is_found():
    source = (
        "def f(a, *b, c: int = 1) -> None: ...\nclass A:\n def g(self): ..."
    )
    (f, _), (g, is_method) = public_functions(ast.parse(source).body)
    assert without_annotation(f, False) == ["a", "b"]
    assert without_annotation(g, is_method) == ["return"]
