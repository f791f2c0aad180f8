"""Whether adversarial examples for one model fool another."""

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING
from typing import Any

import numpy as np

from keras_robust.attacks.attack import Attack
from keras_robust.attacks.engine.randomness import generator
from keras_robust.datasets.arrays import check_form
from keras_robust.datasets.arrays import describe
from keras_robust.datasets.arrays import read_data
from keras_robust.evaluation.checkpoint import Checkpoint
from keras_robust.evaluation.data import Examples
from keras_robust.evaluation.data import check_model
from keras_robust.evaluation.data import read_examples
from keras_robust.evaluation.flags import Flag
from keras_robust.evaluation.flags import baseline_flags
from keras_robust.evaluation.flags import outcome_flags
from keras_robust.evaluation.flags import setting_flags
from keras_robust.evaluation.flags import unit_flags
from keras_robust.evaluation.outcomes import Baseline
from keras_robust.evaluation.outcomes import attacked_image
from keras_robust.evaluation.outcomes import compare
from keras_robust.evaluation.outcomes import relabel
from keras_robust.evaluation.outputs import inspect_output
from keras_robust.evaluation.probes import Probes
from keras_robust.evaluation.provenance import provenance
from keras_robust.evaluation.repeats import repeat_flags
from keras_robust.evaluation.result import EvaluationResult
from keras_robust.messages import shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console
    from rich.table import Table

_TARGET_STREAM = 101


class TransferMatrix(EvaluationResult):
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
        flags: List of `Flag`: what speaks against the numbers.
        provenance: Dictionary of plain values: attacks with their
            configuration, fingerprints of models and data, versions, date.
    """

    def __init__(
        self,
        sources: Iterable[str],
        targets: Iterable[str],
        untargeted: Any,
        targeted: Any,
        examples: Any,
        flags: Iterable[Flag] = (),
        provenance: dict | None = None,
    ) -> None:
        super().__init__(flags, provenance)
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

    def table(self, console: "Console | None" = None) -> "list[Table]":
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
        self.print_flags(console)
        return tables

    def numbers(self) -> dict:
        """See `Result`."""
        rates = {kind: rate.tolist() for kind, rate in self._rates().items()}
        return {
            "sources": self.sources,
            "targets": self.targets,
            "examples": self.examples.tolist(),
            **rates,
            **self.background(),
        }

    def draw(self) -> "Figure":
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
    sources: dict[str, Any],
    targets: dict[str, Any],
    data: Any,
    attack: Attack,
    targeted: bool = True,
    batch_size: int = 128,
    verbose: int = 1,
    probe: bool = True,
    state_path: str | os.PathLike | None = None,
    scaling: str | tuple | None = None,
) -> TransferMatrix:
    """Attacks each source and shows the result to each target.

    Ilyas et al. 2019, section 3.3 and appendix D.5: non-robust features are
    in the data, so that models which learned the same ones are fooled alike.

    Args:
        sources: Dictionary of built Keras classifiers by name.
        targets: The same; models may be in both.
        data: As in `evaluate_robustness`.
        attack: An untargeted attack.
        targeted: Whether to measure targeted transfer as well, with the same
            attack aimed at random wrong classes.
        batch_size: Int >= 1, for predictions.
        verbose: 0 for no progress bars.
        probe: Whether to look at the outputs and gradients of each source on
            up to 100 examples.
        state_path: As in `evaluate_robustness`.
        scaling: As in `evaluate_robustness`, of all models.

    Returns:
        `TransferMatrix`, with flags of what the attacks returned, of how they
        are set, and of the sources.

    Raises:
        ValueError: If the attack is targeted, or data and models do not fit.

    Example:

    ```python
    matrix = keras_robust.transfer_matrix(
        {"a": a}, {"a": a, "b": b}, (x, y), keras_robust.PGDAttack()
    )
    ```
    """
    attacks = _attacks(attack, targeted)
    _check_models(sources, targets)
    check_form(data)
    models = {**sources, **targets}
    everyone = _read(models, data, attack, scaling)
    first = next(iter(everyone.values()))
    attacks = {
        kind: each.resolve(first.classifier) for kind, each in attacks.items()
    }
    said = {
        name: Baseline(examples, batch_size)
        for name, examples in everyone.items()
    }
    facts = _facts(everyone, list(sources), list(targets), attacks, scaling)
    checkpoint = Checkpoint.of(state_path, {"kind": "transfer", **facts})
    labels = {
        "untargeted": first.y,
        "targeted": _aims(first, attack, checkpoint),
    }
    named = {type(attack).__name__: attacks["untargeted"]}
    flags = [
        flag.about(model=name)
        for name, examples in everyone.items()
        for flag in unit_flags(examples, named)
    ]
    flags += repeat_flags(first) + setting_flags(
        named,
        first.image.shape,
        first.classifier.num_classes,
    )
    shape = (len(sources), len(targets))
    rates = {kind: np.full(shape, np.nan) for kind in attacks}
    right = {name: baseline.right for name, baseline in said.items()}
    for i, source in enumerate(sources):
        for kind, each in attacks.items():
            name = f"{source}, {kind}"
            section = checkpoint.section(name) if checkpoint else None
            found = _shown(
                everyone, said, source, each, labels[kind], section, verbose
            )
            flags += outcome_flags({name: found})
            for j, target in enumerate(targets):
                both = right[source] & right[target]
                hit = found[f"labels of {target}"] == labels[kind]
                hit = hit if kind == "targeted" else ~hit
                if both.any():
                    rates[kind][i, j] = hit[both].mean()
        if probe:
            probes = Probes(
                everyone[source], right[source], attacks, verbose
            ).run(cheap=True)
            flags += [flag.about(source=source) for flag in probes]
    for name, baseline in said.items():
        probed = [f for f in flags if f.evidence.get("source") == name]
        found = baseline_flags(baseline, probed)
        flags += [flag.about(model=name) for flag in found]
    examples = [
        [(right[source] & right[target]).sum() for target in targets]
        for source in sources
    ]
    return TransferMatrix(
        sources,
        targets,
        rates["untargeted"],
        rates.get("targeted"),
        examples,
        flags,
        facts,
    )


def _shown(everyone, said, source, attack, labels, section, verbose):
    """An attack on one model, and what every model says of the images.

    Args:
        everyone: Dictionary of `Examples` by model.
        said: Dictionary of `Baseline` by model.
        source: Name of the model that is attacked.
        attack: The attack.
        labels: What it leaves, or where it aims at.
        section: A `checkpoint.Section` or `None`.
        verbose: 0 for no progress bar.

    Returns:
        Dictionary of arrays and numbers: `labels of` each model, and what
        `inspect_output` and `compare` count.
    """
    done = section.section("done") if section else None
    found = done.restore() if done else None
    if found is not None:
        return found
    examples = everyone[source]
    result = attack.run(
        examples.classifier,
        examples.x,
        labels,
        verbose=verbose,
        scored=True,
        checkpoint=section,
    )
    image = attacked_image(examples, result["x"])
    found = inspect_output(attack, examples.image, image)
    found["zero_gradient"] = result.get("zero_gradient", False)
    for name, other in everyone.items():
        answers = relabel(other, image, other.image, said[name])
        found[f"labels of {name}"] = answers
    if "success" in result and not said[source].randomized:
        hit = found[f"labels of {source}"] == labels
        claimed = np.asarray(result["success"], bool)
        differ = claimed != (hit if attack.targeted else ~hit)
        found.update(compare(examples, image, labels, claimed, differ))
    if done:
        done.save(force=True, **found)
    return found


def _read(models, data, attack, scaling):
    """The same examples for every model."""
    inputs = getattr(next(iter(models.values())), "inputs", None)
    several = len(inputs) > 1 if inputs else None
    data = read_data(data, several)
    everyone = {
        name: read_examples(model, data, [attack], scaling)
        for name, model in models.items()
    }
    first = next(iter(everyone.values()))
    for name, examples in everyone.items():
        alike = np.array_equal(examples.image, first.image)
        classes = examples.classifier.num_classes
        if not alike or classes != first.classifier.num_classes:
            raise ValueError(
                "Arguments `sources` and `targets` must hold models of the "
                "same classes and the same pixels. Received: "
                f"{classes} classes of {name!r}, and "
                f"{first.classifier.num_classes}"
            )
    return everyone


def _aims(examples: Examples, attack, checkpoint):
    """Random wrong classes, the same after a stop."""
    kept = checkpoint.section("aims") if checkpoint else None
    saved = kept.restore() if kept else None
    if saved is not None:
        return saved["y"]
    random = generator(attack.seed, _TARGET_STREAM)
    classes = examples.classifier.num_classes
    away = random.integers(1, classes, examples.y.shape)
    aims = ((examples.y + away) % classes).astype("int32")
    if kept:
        kept.save(force=True, y=aims)
    return aims


def _facts(everyone, sources, targets, attacks, scaling):
    first = next(iter(everyone.values()))
    facts = provenance(
        first, attacks, sources=sources, targets=targets, scaling=scaling
    )
    return {
        **facts,
        "model": {
            name: examples.classifier.model.name
            for name, examples in everyone.items()
        },
        "model_fingerprint": {
            name: examples.classifier.fingerprint()
            for name, examples in everyone.items()
        },
    }


def _attacks(attack, targeted):
    """The attack, and where wanted the same one towards labels."""
    if not isinstance(attack, Attack):
        raise ValueError(
            "Argument `attack` must be an untargeted attack. "
            f"Received: attack={describe(attack)}"
        )
    if attack.targeted:
        raise ValueError(
            "Argument `attack` must be untargeted; the targeted one is made "
            f"from it. Received: {shown(attack)}"
        )
    if not targeted:
        return {"untargeted": attack}
    try:
        aiming = attack.replace(targeted=True)
    except TypeError:
        raise ValueError(
            "Argument `attack` must be able to aim for targeted=True. "
            f"Received: {shown(attack)}"
        ) from None
    return {"untargeted": attack, "targeted": aiming}


def _check_models(sources, targets):
    for key, models in (("sources", sources), ("targets", targets)):
        if not isinstance(models, dict) or not models:
            raise ValueError(
                f"Argument `{key}` must be a dictionary of models by name. "
                f"Received: {key}={describe(models)}"
            )
        for name, model in models.items():
            check_model(model, f"{key}[{name!r}]")
    for name in sources.keys() & targets.keys():
        if sources[name] is not targets[name]:
            raise ValueError(
                "A name in `sources` and `targets` must mean the same model. "
                f"Received: two models {name!r}"
            )
