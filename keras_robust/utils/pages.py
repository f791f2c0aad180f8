"""HTML pages of one file, complete without a network."""

import base64
import io
from collections.abc import Callable
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Dots per inch of figures that are no drawings.
_DPI = 110


def render(
    package: str,
    template: str,
    filters: Mapping[str, Callable[..., Any]] | None = None,
    **values: Any,
) -> str:
    """Fill in a template.

    Args:
        package: The package that has the template in its folder `templates`;
            those of this package, such as `style.css`, can be included.
        template: File name.
        filters: Jinja filters by name, besides Jinja's own.
        **values: What the template asks for; text is escaped.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [
                jinja2.PackageLoader(package),
                jinja2.PackageLoader("keras_robust.utils"),
            ]
        ),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters or {})
    return environment.get_template(template).render(**values)


def embedded(figure: "Figure | Path", kind: str) -> str:
    """A figure, or the file of one, as the `src` of an image.

    Args:
        figure: A figure, or a file of this kind.
        kind: `"svg"` for drawings, `"png"` for what has images in it.
    """
    if isinstance(figure, Path):
        content = figure.read_bytes()
    else:
        file = io.BytesIO()
        figure.savefig(file, format=kind, dpi=_DPI)
        content = file.getvalue()
    mime = {"png": "image/png", "svg": "image/svg+xml"}[kind]
    return f"data:{mime};base64,{base64.b64encode(content).decode('ascii')}"
