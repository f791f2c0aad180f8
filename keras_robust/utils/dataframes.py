"""Records as data frames of pandas, which need not be installed."""

from collections.abc import Iterable
from collections.abc import Mapping
from typing import TYPE_CHECKING
from typing import Any

if TYPE_CHECKING:
    import pandas


def to_dataframe(records: Iterable[Mapping[str, Any]]) -> "pandas.DataFrame":
    """Records as a `pandas.DataFrame`, a row for each.

    Args:
        records: Dictionaries of plain values by column.

    Raises:
        ImportError: If pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise ImportError(
            "`to_dataframe` needs pandas, which is not installed: "
            "pip install pandas. All numbers can be had without it."
        ) from error
    return pandas.DataFrame.from_records(list(records))
