"""Generated examples as TFDS records."""

import os
from collections.abc import Mapping
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import numpy as np

FILE_FORMATS = ("tfrecord", "array_record")
DTYPES = ("float32", "uint8")


def features(
    shape: tuple[int, ...], class_names: Sequence[str], dtype: str
) -> Any:
    """The TFDS features of a generated data set.

    Args:
        shape: `(H, W, C)` of an image.
        class_names: Names of the classes.
        dtype: `"float32"`, exact; or `"uint8"`, what an image file stores.

    Returns:
        `tfds.features.FeaturesDict`.
    """
    import tensorflow_datasets as tfds

    if dtype == "uint8" and len(shape) == 3 and shape[-1] in (1, 3, 4):
        image = tfds.features.Image(shape=shape, encoding_format="png")
    else:
        image = tfds.features.Tensor(
            shape=shape, dtype=np.dtype(dtype).type, encoding="bytes"
        )
    return tfds.features.FeaturesDict(
        {
            "id": np.int32,
            "image": image,
            "label": tfds.features.ClassLabel(names=list(class_names)),
            "original_label": tfds.features.ClassLabel(names=list(class_names)),
            "start_id": np.int32,
            "distance": np.float32,
            "success": np.bool_,
        }
    )


def serialize(feature: Any, example: Mapping[str, Any]) -> bytes:
    """Encode an example as bytes that are the same in every process.

    Args:
        feature: What `features` returned.
        example: Dictionary of one value per feature.

    Returns:
        Bytes.
    """
    import tensorflow as tf

    encoded = feature.serialize_example(example)
    # The map in a proto has no order of its own.
    proto = tf.train.Example.FromString(encoded)
    return bytes(proto.SerializeToString(deterministic=True))


class RecordWriter:
    """Writes records to one file.

    Args:
        path: The file.
        file_format: `"tfrecord"` or `"array_record"`.

    Raises:
        OSError: From any method, where the disk does not take the bytes.
    """

    def __init__(self, path: str | os.PathLike[str], file_format: str) -> None:
        self._path = path
        with _as_os_error(path):
            self._writer: Any
            if file_format == "tfrecord":
                import tensorflow as tf

                self._writer = tf.io.TFRecordWriter(str(path))
            else:
                from array_record.python import array_record_module

                # One record per group: random access to each.
                self._writer = array_record_module.ArrayRecordWriter(
                    str(path), "group_size:1"
                )

    def write(self, record: bytes) -> None:
        """Append a record."""
        with _as_os_error(self._path):
            self._writer.write(record)

    def close(self) -> None:
        """Write what is still in memory."""
        with _as_os_error(self._path):
            self._writer.close()


class _as_os_error:
    """Turns what frameworks raise for a full disk into `OSError`."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path

    def __enter__(self) -> "_as_os_error":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None or not issubclass(kind, Exception):
            return
        raise OSError(
            f"{self._path} could not be written: {error}. Shards that are "
            "finished are intact; with room on the disk the same call resumes."
        ) from error


def write_metadata(
    folder: str | os.PathLike[str],
    file_format: str,
    file_names: Sequence[str],
    entries: Sequence[Mapping[str, Any]],
    feature: Any,
    description: str,
) -> None:
    """Write the files that make a folder of shards a TFDS data set.

    Args:
        folder: Where the shards are, `.../name/config/version`.
        file_format: As in `RecordWriter`.
        file_names: Names of the shards, `name-split.format-i-of-n`.
        entries: A dictionary with `examples` and `bytes` for each shard.
        feature: What `features` returned.
        description: Text.
    """
    import tensorflow_datasets as tfds

    name, rest = file_names[0].split("-", 1)
    template = tfds.core.ShardedFileTemplate(
        data_dir=folder,
        template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
        dataset_name=name,
        split=rest.split(".")[0],
        filetype_suffix=file_format,
    )
    split = tfds.core.SplitInfo(
        name=template.split,
        shard_lengths=[entry["examples"] for entry in entries],
        num_bytes=sum(entry["bytes"] for entry in entries),
        filename_template=template,
    )
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=feature,
        split_infos=[split],
        supervised_keys=("image", "label"),
        description=description,
        disable_shuffling=True,
        check_data=False,
    )
