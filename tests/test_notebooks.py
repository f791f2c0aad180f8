"""The tutorials: valid, stored with outputs, and executed."""

import ast
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))
# All notebooks together, in bytes.
MAX_SIZE = 650_000


def code_of(path):
    """The sources of the cells with code."""
    return [
        "".join(cell["source"])
        for cell in json.loads(path.read_text("utf-8"))["cells"]
        if cell["cell_type"] == "code"
    ]


def test_they_are_few_and_small():
    assert len(NOTEBOOKS) == 4
    assert sum(path.stat().st_size for path in NOTEBOOKS) < MAX_SIZE


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_they_are_stored_as_executed(path):
    notebook = json.loads(path.read_text("utf-8"))
    assert notebook["nbformat"] == 4 and notebook["nbformat_minor"] >= 5
    cells = notebook["cells"]
    assert cells[0]["cell_type"] == "markdown"
    assert "".join(cells[0]["source"]).startswith(f"# {path.stem[0]}. ")
    assert len({cell["id"] for cell in cells}) == len(cells)
    counts, kinds = [], set()
    for cell in cells:
        if cell["cell_type"] == "code":
            counts.append(cell["execution_count"])
            for output in cell["outputs"]:
                # No errors, and no warnings.
                assert output["output_type"] != "error"
                assert output.get("name") != "stderr"
                kinds |= set(output.get("data", ()))
    # Once, from top to bottom.
    assert counts == list(range(1, len(counts) + 1))
    assert "image/png" in kinds
    text = path.read_text("utf-8")
    assert not re.search(r"/(home|root|work|tmp|Users)/", text)
    assert not re.search(r"0x[0-9a-f]{8}", text)
    # Questions to go on with.
    assert "## Questions" in "".join(cells[-1]["source"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_first_cell_installs_where_nothing_is_installed(path):
    first, *rest = code_of(path)
    assert 'find_spec("keras_robust") is None' in first
    for code in (first, *rest):
        ast.parse(code)
    assert not any("pip" in code for code in rest)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_of_notebooks_lead_somewhere(path):
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        if cell["cell_type"] == "markdown":
            text = "".join(cell["source"])
            for link in re.findall(r"\]\(\s*(?!https?:)([^)#]+)", text):
                assert (path.parent / link).exists(), link


def test_they_are_pages_of_the_site(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    import notebook_pages

    pages = notebook_pages.pages()
    assert set(pages.values()) == {
        path.relative_to(ROOT).as_posix() for path in NOTEBOOKS
    }
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8").split("\nnav:")[1]
    for page, path in pages.items():
        assert re.search(rf": {re.escape(page)}$", navigation, re.M)
        text = notebook_pages.as_markdown(path)
        assert text.startswith("# ") and "colab.research" not in text
        assert text.count("```python") == len(code_of(ROOT / path))
        assert 'src="data:image/png;base64,' in text
        button = notebook_pages.as_markdown(path, "https://github.com/a/b")
        assert f"/github/a/b/blob/HEAD/{path}" in button


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_they_run(path, tmp_path, monkeypatch):
    import matplotlib

    matplotlib.use("agg")
    monkeypatch.chdir(tmp_path)
    names = {}
    for code in code_of(path):
        exec(code, names)
    for check in CHECKS[path.stem]:
        assert eval(check, dict(names)), check


# What the texts of the notebooks claim, as expressions of their names.
CHECKS = {
    "1_adversarial_examples": [
        "(answers(model, x_test) == y_test).mean() > 0.6",
        "(predicted == y_test).mean() < 0.3",
        "(answers(model, noisy) == y_test).mean() > 0.5",
        "(answers(model, x_bag) == bags).mean() > 0.5",
        "curve.accuracy[-1] < 0.1 < curve.accuracy[0]",
        "matrix.untargeted[0, 1] > 0.3",
    ],
    "2_adversarial_training": [
        "curve_of(hardened).accuracy[3] > curve_of(standard).accuracy[3] + 0.2",
        "clean < standard.evaluate(x_test, y_test, verbose=0)[1]",
        "attacked > curve_of(standard).accuracy[4] + 0.2",
    ],
    "3_robust_features": [
        "accuracy(robust) > 0.8 and accuracy(standard) > 0.8",
        "(y_rand == y).mean() < 0.2",
        "accuracy(on_rand) > 0.4",
        "accuracy(on_rand) > accuracy(on_fixed) + 0.2 > 0.3",
        # Of D_det's control, the last one of the loop.
        "shifted > 0.5 > accuracy(network)",
    ],
    "4_evaluation_to_trust": [
        "not report.flags",
        "'zero gradient' in [flag.name for flag in defended_report.flags]",
        "objections(defended_report)",
        "square.accuracy['worst case'] < defended_report.accuracy['pgd'] - 0.1",
        "broken.accuracy['BPDA'] < defended_report.accuracy['pgd'] - 0.3",
    ],
}
