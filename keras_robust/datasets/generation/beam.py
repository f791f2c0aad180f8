"""Generation on the engines that Apache Beam runs on."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam

from keras_robust.datasets.generation.generation import Generation
from keras_robust.transforms.transform import Transform


def generate_on_beam(
    transform: Transform,
    source: Any,
    directory: str | os.PathLike[str],
    pipeline_options: Any = None,
    **options: Any,
) -> Path:
    """Run `datasets.generate` as a Beam pipeline, which writes the same bytes.

    Each shard is a function of its number, so the pipeline is a map over
    numbers, which Flink, Spark, Dataflow or the local runner distribute. All
    workers need the same `directory`, packages and Keras backend.

    Args:
        transform: As in `datasets.generate`; travels to the workers with its
            model.
        source: As in `datasets.generate`, but no `tf.data.Dataset`.
        directory: As in `datasets.generate`.
        pipeline_options: `beam.options.pipeline_options.PipelineOptions`, a
            list of its flags, or `None`.
        **options: `config`, `name`, `split`, `examples`, `dtype`,
            `file_format`, `shard_size`, `class_names` as in
            `datasets.generate`.

    Returns:
        Folder of the data set.

    Example:

    ```python
    generate_on_beam(to_rand, "cifar10", "data", ["--runner=FlinkRunner"])
    ```
    """
    if isinstance(pipeline_options, (list, tuple)):
        pipeline_options = beam.options.pipeline_options.PipelineOptions(
            list(pipeline_options)
        )
    arguments = {
        "transform": transform,
        "source": source,
        "directory": str(directory),
        **options,
    }
    generation = Generation(**arguments)
    with generation.shards.lock("beam"):
        with beam.Pipeline(options=pipeline_options) as pipeline:
            shards = pipeline | beam.Create(generation.missing())
            # Without it one worker would get them all.
            shards = shards | beam.Reshuffle()
            _ = shards | beam.ParDo(_MakeShard(arguments))
    generation.close()
    with generation.shards.lock():
        generation.shards.remove_leftovers()
        return generation.finalize()


class _MakeShard(beam.DoFn):
    """Makes the shards whose numbers it gets.

    Args:
        arguments: Those of `Generation`.
    """

    def __init__(self, arguments: dict[str, Any]) -> None:
        self._arguments = arguments
        self._generation: Generation | None = None

    def setup(self) -> None:
        """Read the source, once per worker."""
        self._generation = Generation(**self._arguments)

    def teardown(self) -> None:
        """Delete what was written to read the source."""
        if self._generation is not None:
            self._generation.close()

    def process(self, shard: int) -> Iterator[int]:
        """Make one shard, unless an earlier attempt has."""
        generation = self._generation
        if generation is None:
            raise RuntimeError("Beam must call `setup` before `process`.")
        if generation.shards.entry(shard) is None:
            generation.make([shard], verbose=0)
        yield shard
