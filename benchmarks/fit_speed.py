"""What `fit` with augmentation keeps of the speed of bare training steps.

    for backend in tensorflow jax torch; do
      KERAS_BACKEND=$backend python benchmarks/fit_speed.py
    done

The airbench network of `--widths`, trained as the `cpu` recipe trains it:
batches of 512 of `kr.datasets.pipeline`, shifted by up to 2 pixels and flipped
in every second epoch, Nesterov momentum, label smoothing; against the same
compiled step on one batch in memory. "of bare" is the time of `--steps` bare
steps over that of an epoch of as many, the median over turns in one process;
0.85 is asked. "of peak" is what the epoch reaches of the machine: three times
the FLOPs of the forward pass through convolutions and dense layers, over those
of a matrix product in the same precision. The first calls, which compile, are
left out. The published ones are those of `--repeats 3`, with `--steps 5`, on
JAX, which takes three times as long on a CPU, with `--steps 1`.

Results: see `results/fit-*.json` and docs/performance.md.
"""

import argparse

import keras
import measure
import numpy as np
from keras import ops

import keras_robust as kr
from keras_robust.study.training import Training
from keras_robust.study.training import make_loss
from keras_robust.study.training import make_optimizer


def main():
    """An epoch and as many bare steps, in turns."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--widths", type=int, nargs=3, default=[64, 128, 128])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=6, help="in an epoch")
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument(
        "--dtype", default="float32", choices=("float32", "mixed_bfloat16")
    )
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(options.dtype)
    size, steps = options.batch_size, options.steps
    random = np.random.default_rng(0)
    x = random.random((size * steps, 32, 32, 3), dtype="float32")
    y = random.integers(0, 10, len(x)).astype("int32")
    training = Training(
        epochs=1,
        learning_rate=0.01,
        optimizer="nesterov",
        batch_size=size,
        label_smoothing=0.2,
    )

    def compiled():
        model = kr.models.airbench(widths=options.widths)
        kr.models.adapt_whitening(model, x)
        model.compile(
            make_optimizer(training, steps),
            make_loss(training, from_logits=True),
            metrics=["accuracy"],
        )
        return model

    batches = kr.datasets.pipeline(
        x,
        y,
        size,
        shuffle=True,
        seed=0,
        augment=True,
        padding=2,
        flip="alternating",
        fill_mode="reflect",
    )
    fitted, stepped = compiled(), compiled()
    x_batch = ops.convert_to_tensor(x[:size])
    y_batch = ops.convert_to_tensor(y[:size])

    def bare_steps():
        for _ in range(steps):
            stepped.train_on_batch(x_batch, y_batch)

    times = measure.take_turns(
        {
            "fit": lambda: fitted.fit(batches, shuffle=False, verbose=0),
            "bare steps": bare_steps,
        },
        repeats=options.repeats,
        warm=1,
    )
    summary = {
        name: measure.summary(taken, len(x)) for name, taken in times.items()
    }
    dtype = keras.config.dtype_policy().compute_dtype
    flops = 3 * measure.forward_flops(fitted) * summary["fit"]["per_second"]
    found = {
        "options": vars(options),
        "of_bare": measure.ratio(times, "fit", "bare steps"),
        "of_peak": flops / measure.peak_flops(dtype=dtype),
        "of": summary,
    }
    print(
        f"fit {summary['fit']['per_second']:.0f} images/s, of bare "
        f"{found['of_bare']:.2f}, of peak {found['of_peak']:.2f}"
    )
    name = "fit" if options.dtype == "float32" else f"fit-{options.dtype}"
    measure.save(f"{name}-{keras.backend.backend()}", found)


if __name__ == "__main__":
    main()
