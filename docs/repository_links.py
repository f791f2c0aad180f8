"""Hook of MkDocs: links from docs/ to other files of the repository.

On GitHub a page may link to `../results/digits`. The site has pages of docs/
alone, so here images and HTML reports that pages link to are copied into it,
the changelog and the notebooks become pages, and other links lead to the
repository on GitHub (`repo_url` of mkdocs.yml), or are plain text where it has
no address.
"""

import posixpath
import re
from pathlib import Path

import notebook_pages
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
# Files outside docs/ that are pages of the site.
PAGES = {"changelog.md": "CHANGELOG.md", **notebook_pages.pages()}
COPIED = (".png", ".svg", ".html")
LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<to>[^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that do not lie in docs/."""
    for name, source in PAGES.items():
        if source.endswith(".ipynb"):
            text = notebook_pages.as_markdown(source, config.repo_url)
        else:
            text = (ROOT / source).read_text("utf-8")
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(
    markdown: str, page: Page, config: MkDocsConfig, files: Files
) -> str:
    """Rewrite the links of a page that leave docs/."""
    here = page.file.src_uri
    source = PAGES.get(here, f"docs/{here}")

    def rewrite(link: re.Match[str]) -> str:
        to, mark, anchor = link["to"].partition("#")
        if not to or "://" in to or to.startswith("mailto:"):
            return link[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), to))
        if not (ROOT / path).exists():
            raise PluginError(f"{source} links to {to}, which is not there.")
        return _link(link, path, mark + anchor, page, config, files)

    return LINK.sub(rewrite, markdown)


def _link(
    link: re.Match[str],
    path: str,
    anchor: str,
    page: Page,
    config: MkDocsConfig,
    files: Files,
) -> str:
    """The link to `path` of the repository as the site has it."""
    names = {source: name for name, source in PAGES.items()}
    target = names.get(path, path.removeprefix("docs/"))
    if target == path and path.endswith(COPIED):
        # Under its own path, from the root of the site.
        if files.get_file_from_path(path) is None:
            files.append(
                File.generated(config, path, abs_src_path=str(ROOT / path))
            )
    elif target == path:
        if config.repo_url:
            address = f"{config.repo_url.rstrip('/')}/blob/HEAD/{path}"
            return f"[{link['text']}]({address}{anchor})"
        return link["text"]
    folder = posixpath.dirname(page.file.src_uri)
    relative = posixpath.relpath(target, folder or ".")
    return f"{link['image']}[{link['text']}]({relative}{anchor})"
