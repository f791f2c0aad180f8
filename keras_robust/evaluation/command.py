"""What `keras-robust evaluate` does."""

import pathlib

import keras

from keras_robust.datasets import load
from keras_robust.evaluation.curve import robustness_curve
from keras_robust.evaluation.evaluate import evaluate_robustness
from keras_robust.evaluation.named_attacks import get_attack
from keras_robust.evaluation.scaling import find_scaling
from keras_robust.evaluation.scaling import with_scaling


def evaluate_saved(
    model,
    dataset,
    norm,
    epsilon,
    attack,
    batch_size=128,
    examples=None,
    scaling=None,
    from_logits=None,
    seed=0,
    output="evaluation",
    verbose=1,
):
    """Evaluates a saved classifier and writes table, numbers and figure.

    Args:
        model: Path of a saved Keras model.
        dataset: Name of a data set with a test set in memory.
        norm: `"l2"` or `"linf"`, or where the attack can do it `"l1"`.
        epsilon: List of radii, in units of pixels in [0, 1]; more than one
            make a curve.
        attack: Name of an attack, see `get_attack`.
        batch_size: Int >= 1.
        examples: How many test images, the first ones; `None` for all.
        scaling: One of `scaling.SCALINGS`, or `None` to find it.
        from_logits: As in `PGDAttack`.
        seed: Int.
        output: Folder to write to; state is kept in it, so that the same
            command goes on where it was stopped.
        verbose: 0 for no progress bars.

    Returns:
        `RobustnessReport` or `RobustnessCurve`.
    """
    network = keras.saving.load_model(model, compile=False)
    x, y = load(dataset).test
    x, y = x[:examples], y[:examples]
    # A subclassed model does not tell.
    shape = tuple(getattr(network, "input_shape", (None, None))[1:])
    if shape != x.shape[1:] and None not in shape:
        raise ValueError(
            f"The model must take images of shape {x.shape[1:]} for "
            f"{dataset}. Received: a model of input shape {shape}"
        )
    if scaling is None:
        scaling = find_scaling(network, x, y, from_logits)
        print(f"The model wants its pixels {scaling}.")
    network = with_scaling(network, scaling, x)
    output = pathlib.Path(output)
    output.mkdir(parents=True, exist_ok=True)

    def make(radius):
        return get_attack(
            *(attack, norm, radius),
            seed=seed,
            batch_size=batch_size,
            from_logits=from_logits,
        )

    if len(epsilon) == 1:
        name = f"{attack} {norm} {epsilon[0]:.4g}"
        report = evaluate_robustness(
            *(network, (x, y), {name: make(epsilon[0])}),
            batch_size=batch_size,
            verbose=verbose,
            state_path=output / "state",
        )
    else:
        report = robustness_curve(
            *(network, (x, y), norm, epsilon, make),
            batch_size=batch_size,
            verbose=verbose,
        )
    report.table()
    report.to_json(output / "report.json")
    report.figure(output / "report.png")
    print(f"Written to {output}.")
    return report
