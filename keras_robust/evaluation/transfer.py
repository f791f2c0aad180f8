"""Whether adversarial examples for one model fool another."""

import numpy as np

from keras_robust.attacks.randomness import generator
from keras_robust.evaluation.evaluate import check_data
from keras_robust.evaluation.evaluate import predict_labels
from keras_robust.evaluation.result import Result

_TARGET_STREAM = 101


class TransferMatrix(Result):
    """Rates of transfer between models.

    Args:
        sources: Names of the models attacked.
        targets: Names of the models fooled.
        untargeted: Array `(sources, targets)`: of the examples that both
            models get right, the share that the target gets wrong after the
            attack on the source.
        targeted: The same, the share that the target takes for the class
            that the attack on the source aimed at, drawn among the wrong
            ones; or `None`.
        examples: Int array `(sources, targets)`, how many both get right.
    """

    def __init__(self, sources, targets, untargeted, targeted, examples):
        self.sources = list(sources)
        self.targets = list(targets)
        self.untargeted = np.asarray(untargeted)
        self.targeted = None if targeted is None else np.asarray(targeted)
        self.examples = np.asarray(examples)

    def _rates(self):
        rates = {"untargeted": self.untargeted}
        if self.targeted is not None:
            rates["targeted"] = self.targeted
        return rates

    def table(self, console=None):
        """Prints a table for each kind.

        Args:
            console: A `rich.console.Console`, or `None` for the terminal.

        Returns:
            List of `rich.table.Table`.
        """
        from rich.console import Console
        from rich.table import Table

        console = console or Console()
        tables = []
        for kind, rates in self._rates().items():
            table = Table(title=f"{kind.capitalize()} transfer, %")
            table.add_column("source")
            for target in self.targets:
                table.add_column(target, justify="right")
            for source, row in zip(self.sources, rates, strict=True):
                table.add_row(source, *(f"{100 * rate:.1f}" for rate in row))
            console.print(table)
            tables.append(table)
        return tables

    def numbers(self):
        """See `Result`."""
        rates = {kind: rate.tolist() for kind, rate in self._rates().items()}
        return {
            "sources": self.sources,
            "targets": self.targets,
            "examples": self.examples.tolist(),
            **rates,
        }

    def draw(self):
        """A heat map for each kind."""
        from matplotlib.figure import Figure

        kinds = self._rates()
        width = 1.5 + 0.8 * len(self.targets)
        height = 1.5 + 0.6 * len(self.sources)
        figure = Figure(figsize=(width * len(kinds), height))
        panels = figure.subplots(1, len(kinds), squeeze=False)[0]
        for axes, (kind, rates) in zip(panels, kinds.items(), strict=True):
            axes.imshow(100 * rates, vmin=0, vmax=100, cmap="Blues")
            axes.set_xticks(range(len(self.targets)), self.targets, rotation=30)
            axes.set_yticks(range(len(self.sources)), self.sources)
            axes.set_title(f"{kind} transfer, %")
            for (row, column), rate in np.ndenumerate(rates):
                dark = "white" if rate > 0.5 else "black"
                label = f"{100 * rate:.0f}"
                axes.text(column, row, label, ha="center", color=dark)
        return figure


def transfer_matrix(
    sources, targets, data, attack, targeted=True, batch_size=128, verbose=1
):
    """Attacks each source and shows the result to each target.

    Ilyas et al. 2019, section 3.3 and appendix D.5: non-robust features are
    in the data, so that models which learned the same ones are fooled alike.

    Args:
        sources: Dictionary of built Keras classifiers by name.
        targets: The same; models may be in both.
        data: `(x, y)` arrays, or a data set of `(x, y)` batches.
        attack: An untargeted attack.
        targeted: Whether to measure targeted transfer as well, with the same
            attack aimed at random wrong classes.
        batch_size: Int >= 1, for predictions.
        verbose: 0 for no progress bars.

    Returns:
        `TransferMatrix`.

    Raises:
        ValueError: If the attack is targeted, or data and models do not fit.

    Example:

    ```python
    matrix = keras_robust.transfer_matrix(
        {"a": a}, {"a": a, "b": b}, (x, y), keras_robust.PGDAttack()
    )
    ```
    """
    if attack.targeted:
        raise ValueError(
            "Argument `attack` must be untargeted; the targeted one is made "
            f"from it. Received: {attack!r}"
        )
    aimed = _aimed(attack) if targeted else None
    _check_models(sources, targets)
    everyone = {**sources, **targets}
    from_logits = attack.from_logits
    right = {}
    for name, model in everyone.items():
        model, x, y = check_data(model, data, from_logits)
        labels = predict_labels(model, x, batch_size, from_logits)
        right[name] = labels == y
    first = next(iter(everyone.values()))
    classes = attack.prepare(first, x[:1], y[:1]).classes
    random = generator(attack.seed, _TARGET_STREAM)
    wrong = ((y + random.integers(1, classes, y.shape)) % classes).astype(
        "int32"
    )
    shape = (len(sources), len(targets))
    untargeted, aims = np.full(shape, np.nan), np.full(shape, np.nan)
    examples = np.zeros(shape, int)
    for i, (source_name, source) in enumerate(sources.items()):
        images = attack(source, x, y, verbose=verbose)
        if aimed is not None:
            aimed_images = aimed(source, x, wrong, verbose=verbose)
        for j, (target_name, target) in enumerate(targets.items()):
            both = right[source_name] & right[target_name]
            examples[i, j] = both.sum()
            if not both.any():
                continue
            labels = predict_labels(target, images, batch_size, from_logits)
            untargeted[i, j] = (labels != y)[both].mean()
            if aimed is not None:
                labels = predict_labels(
                    target, aimed_images, batch_size, from_logits
                )
                aims[i, j] = (labels == wrong)[both].mean()
    return TransferMatrix(
        *(sources, targets, untargeted),
        *(aims if targeted else None, examples),
    )


def _aimed(attack):
    """The same attack towards labels."""
    config = attack.get_config()
    if "targeted" not in config:
        raise ValueError(
            "Argument `attack` must be able to aim for targeted=True. "
            f"Received: {attack!r}"
        )
    return type(attack).from_config({**config, "targeted": True})


def _check_models(sources, targets):
    if not sources or not targets:
        raise ValueError(
            "Arguments `sources` and `targets` must hold models. "
            f"Received: {len(sources)} and {len(targets)}"
        )
    for name in sources.keys() & targets.keys():
        if sources[name] is not targets[name]:
            raise ValueError(
                "A name in `sources` and `targets` must mean the same model. "
                f"Received: two models {name!r}"
            )
