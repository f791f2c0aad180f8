"""Names that TFDS can read."""

import re
from typing import Any

from keras_robust.utils.messages import shown


def check_names(name: str, config: str, split: str) -> None:
    """Raise unless TFDS can load `name/config` and its split.

    Args:
        name: Name of the data set.
        config: Name of its configuration.
        split: Name of its split.

    Raises:
        ValueError: If one of them breaks TFDS's rules.
    """
    from tensorflow_datasets.core import naming

    # TFDS turns CamelCase into snake_case and then looks for that folder.
    if not (
        _is_text(name)
        and re.fullmatch(r"[a-zA-Z]\w*", name)
        and naming.camelcase_to_snakecase(name) == name
    ):
        raise ValueError(
            "Argument `name` must be a TFDS data set name: lower-case letters, "
            "digits and underscores, a letter first. "
            f"Received: name={shown(name)}"
        )
    if not _is_text(config) or not _is_config(naming, name, config):
        raise ValueError(
            "Argument `config` must be a TFDS configuration name: letters, "
            "digits and the signs _ - + and dot. "
            f"Received: config={shown(config)}"
        )
    # "all" stands for every split of a data set.
    known = _is_text(split) and re.fullmatch(r"[\w-]+", split)
    if not known or split == "all":
        raise ValueError(
            "Argument `split` must be the name of a whole split, such as "
            "'train' (`examples` takes the first so many). "
            f"Received: split={shown(split)}"
        )


def _is_text(value: Any) -> bool:
    # A line break at the end is part of a match for `$`.
    return isinstance(value, str) and value == value.strip()


def _is_config(naming: Any, name: str, config: str) -> bool:
    if not config.strip("."):
        return False
    try:
        found, options = naming.parse_builder_name_kwargs(f"{name}/{config}")
    except ValueError:
        return False
    return bool(str(found) == name and options == {"config": config})


def default_name(source: Any) -> str:
    """The default name of a data set that is made from a source.

    Args:
        source: What `datasets.generate` takes.

    Returns:
        `"constructed_"` and the name of the source, or `"images"`. What TFDS
        does not allow in a name becomes an underscore.
    """
    name = source if isinstance(source, str) else "images"
    return "constructed_" + re.sub(r"\W", "_", name).lower()
