"""Notebooks as Markdown pages of the site, with their stored outputs."""

import json
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
FOLDER = "examples/notebooks"
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"


def pages() -> dict[str, str]:
    """The notebooks' paths in the repository, by the paths of their pages."""
    found = sorted((ROOT / FOLDER).glob("*.ipynb"))
    return {f"tutorials/{p.stem}.md": f"{FOLDER}/{p.name}" for p in found}


def as_markdown(path: str, repo_url: str | None = None) -> str:
    """A notebook as Markdown.

    Args:
        path: Of the notebook, in the repository.
        repo_url: Of the repository on GitHub, for a button that opens the
            notebook in Colab; `None` for no button.
    """
    notebook = json.loads((ROOT / path).read_text("utf-8"))
    title, *rest = (_cell(cell) for cell in notebook["cells"])
    return "\n\n".join([title, *_button(path, repo_url), *rest]) + "\n"


def _button(path: str, repo_url: str | None) -> Iterator[str]:
    """The button of a repository that is on GitHub."""
    host = "https://github.com/"
    if repo_url and repo_url.startswith(host):
        name = repo_url.removeprefix(host).strip("/")
        colab = f"https://colab.research.google.com/github/{name}"
        yield (
            f'<a href="{colab}/blob/HEAD/{path}">'
            f'<img alt="Open in Colab" src="{BADGE}"></a>'
        )


def _cell(cell: dict[str, Any]) -> str:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return source
    parts = [f"```python\n{source}\n```"]
    parts += [_output(output) for output in cell["outputs"]]
    return "\n\n".join(parts)


def _output(output: dict[str, Any]) -> str:
    """The richest form of an output that a page can show."""
    if "text" in output:
        return _text(output["text"])
    data = output["data"]
    if "text/html" in data:
        # One line, or Markdown would end the block at an empty one.
        lines = "".join(data["text/html"]).splitlines()
        return f"<div>{''.join(line.strip() for line in lines)}</div>"
    if "image/png" in data:
        content = "".join(data["image/png"]).replace("\n", "")
        text = escape("".join(data.get("text/plain", "")), quote=True)
        return f'<img alt="{text}" src="data:image/png;base64,{content}">'
    return _text(data["text/plain"])


def _text(lines: list[str]) -> str:
    return f"```text\n{''.join(lines).rstrip()}\n```"
