"""Whether adversarial examples for one model fool another."""

import os
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from typing import Any
from typing import Self

import numpy as np

from keras_robust.attacks.attack import Attack
from keras_robust.attacks.engine.randomness import generator
from keras_robust.attacks.own_code import losses_of
from keras_robust.classifier import Classifier
from keras_robust.classifier.fingerprint import callable_sha256
from keras_robust.datasets.arrays import check_form
from keras_robust.datasets.arrays import read_data
from keras_robust.evaluation.checkpoint import Checkpoint
from keras_robust.evaluation.checkpoint import Section
from keras_robust.evaluation.data import Examples
from keras_robust.evaluation.data import check_function
from keras_robust.evaluation.data import check_model
from keras_robust.evaluation.data import read_examples
from keras_robust.evaluation.data import takes_several
from keras_robust.evaluation.diagnostics import Diagnostics
from keras_robust.evaluation.flags import Flag
from keras_robust.evaluation.flags import baseline_flags
from keras_robust.evaluation.flags import outcome_flags
from keras_robust.evaluation.flags import repeat_flags
from keras_robust.evaluation.flags import setting_flags
from keras_robust.evaluation.flags import unit_flags
from keras_robust.evaluation.matrix import TransferMatrix
from keras_robust.evaluation.outcomes import Baseline
from keras_robust.evaluation.outcomes import OutputCheck
from keras_robust.evaluation.outcomes import attacked_image
from keras_robust.evaluation.outcomes import check_output
from keras_robust.evaluation.outcomes import count_disagreements
from keras_robust.evaluation.outcomes import predict_moved
from keras_robust.evaluation.provenance import provenance
from keras_robust.utils.messages import describe
from keras_robust.utils.messages import shown

_TARGET_STREAM = 101


def transfer_matrix(
    sources: dict[str, Any],
    targets: dict[str, Any],
    data: Any,
    attack: Attack,
    targeted: bool = True,
    batch_size: int = 128,
    verbose: int = 1,
    probe: bool = True,
    state_path: str | os.PathLike[str] | None = None,
    scaling: str | tuple[Any, ...] | None = None,
) -> TransferMatrix:
    """Attack each source and let each target classify the result.

    Ilyas et al. 2019, section 3.3 and appendix D.5: non-robust features are
    in the data, so that models which learned the same ones are fooled alike.

    Args:
        sources: Dictionary of built Keras classifiers by name.
        targets: The same, or functions (`Classifier.from_function`); models
            may be in both.
        data: As in `evaluate_robustness`.
        attack: An untargeted attack.
        targeted: Whether to measure targeted transfer as well, with the same
            attack aimed at random wrong classes.
        batch_size: Int >= 1, for predictions.
        verbose: 0 for no progress bars.
        probe: Whether to check outputs and gradients of each source on up to
            100 examples, for more flags.
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
    for name, model in models.items():
        check_function(model, [attack] if name in sources else (), state_path)
    everyone = _read(models, list(sources), data, attack, scaling)
    first = next(iter(everyone.values()))
    attacks = {
        kind: each.resolve(first.classifier) for kind, each in attacks.items()
    }
    baselines = {
        name: Baseline.of(examples, batch_size)
        for name, examples in everyone.items()
    }
    facts = _facts(everyone, list(sources), list(targets), attacks, scaling)
    checkpoint = Checkpoint.of(state_path, {"kind": "transfer", **facts})
    labels = {
        "untargeted": first.y,
        "targeted": _draw_targets(first, attack, checkpoint),
    }
    flags = _flags_of_settings(everyone, attacks["untargeted"])
    rates: dict[str, list[list[float]]] = {kind: [] for kind in attacks}
    right = {name: baseline.right for name, baseline in baselines.items()}
    for source in sources:
        for kind, each in attacks.items():
            name = f"{source}, {kind}"
            outcome = _attack_source(
                everyone,
                baselines,
                source,
                attack=each,
                labels=labels[kind],
                section=checkpoint.section(name) if checkpoint else None,
                verbose=verbose,
            )
            flags += outcome_flags({name: outcome})
            rates[kind].append(
                [
                    _rate(
                        outcome.labels[target],
                        labels[kind],
                        both=right[source] & right[target],
                        targeted=kind == "targeted",
                    )
                    for target in targets
                ]
            )
        if probe:
            found = Diagnostics(
                everyone[source], right[source], attacks, verbose
            ).run(cheap=True)
            flags += [flag.about(source=source) for flag in found]
    flags += _flags_of_models(baselines, flags)
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


def _rate(
    predicted: np.ndarray, labels: np.ndarray, both: np.ndarray, targeted: bool
) -> float:
    """Share of the examples that both models get right and that are fooled.

    Args:
        predicted: Int array `(N,)`, labels of the target after the attack.
        labels: Int array `(N,)`, labels to leave, or to reach if `targeted`.
        both: Bool array `(N,)`, which examples both models get right.
        targeted: Whether the attack has targets.

    Returns:
        NaN where there are no such examples.
    """
    if not both.any():
        return np.nan
    hit = predicted == labels if targeted else predicted != labels
    return float(hit[both].mean())


def _flags_of_models(
    baselines: Mapping[str, Baseline], found: Sequence[Flag]
) -> list[Flag]:
    """Flags of the models' answers to the unperturbed examples."""
    flags = []
    for name, baseline in baselines.items():
        known = [f for f in found if f.evidence.get("source") == name]
        flags += [
            flag.about(model=name) for flag in baseline_flags(baseline, known)
        ]
    return flags


def _flags_of_settings(
    everyone: Mapping[str, Examples], attack: Attack
) -> list[Flag]:
    """Flags of data and settings, which need no attack to be run."""
    first = next(iter(everyone.values()))
    named = {type(attack).__name__: attack}
    flags = [
        flag.about(model=name)
        for name, examples in everyone.items()
        for flag in unit_flags(examples, named)
    ]
    return [
        *flags,
        *repeat_flags(first),
        *setting_flags(named, first.image.shape, first.classifier.num_classes),
    ]


@dataclass(kw_only=True)
class _SourceOutcome(OutputCheck):
    """An attack on one model, and what all models predict for its output.

    Attributes:
        labels: Int arrays `(N,)`, predictions by model.
    """

    labels: dict[str, np.ndarray] = field(default_factory=dict)

    def arrays(self) -> dict[str, Any]:
        found = super().arrays()
        labels = found.pop("labels")
        return {
            **found,
            **{f"labels of {name}": rows for name, rows in labels.items()},
        }

    @classmethod
    def from_arrays(cls, saved: Mapping[str, Any]) -> Self:
        found = super().from_arrays(saved)
        prefix = "labels of "
        found.labels = {
            key.removeprefix(prefix): rows
            for key, rows in saved.items()
            if key.startswith(prefix)
        }
        return found


def _attack_source(
    everyone: Mapping[str, Examples],
    baselines: Mapping[str, Baseline],
    source: str,
    attack: Attack,
    labels: np.ndarray,
    section: Section | None,
    verbose: int,
) -> _SourceOutcome:
    """Attack one model and let every model classify the output.

    Args:
        everyone: The same examples, by model.
        baselines: Answers to the unperturbed examples, by model.
        source: Name of the model that is attacked.
        attack: The attack.
        labels: The labels that it shall leave, or reach if targeted.
        section: State of the attack, or `None`.
        verbose: 0 for no progress bar.
    """
    done = section.section("done") if section else None
    saved = done.restore() if done else None
    if saved is not None:
        return _SourceOutcome.from_arrays(saved)
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
    check = check_output(attack, examples.image, image)
    found = _SourceOutcome(**check.arrays())
    found.zero_gradient = bool(result.get("zero_gradient", False))
    for name, other in everyone.items():
        found.labels[name], nan_answers = predict_moved(
            other, image, baselines[name]
        )
        found.nan_answers = max(found.nan_answers, nan_answers)
    if "success" in result and not baselines[source].randomized:
        hit = found.labels[source] == labels
        claimed = np.asarray(result["success"], bool)
        found.denied, found.missed = count_disagreements(
            examples,
            image,
            labels=labels,
            claimed=claimed,
            differ=claimed != (hit if attack.targeted else ~hit),
        )
    if done:
        done.save(force=True, **found.arrays())
    return found


def _read(
    models: Mapping[str, Any],
    sources: Sequence[str],
    data: Any,
    attack: Attack,
    scaling: str | tuple[Any, ...] | None,
) -> dict[str, Examples]:
    """The same examples for every model."""
    first = Classifier.of(next(iter(models.values())), attacked=attack.attacked)
    data = read_data(data, takes_several(first))
    everyone = {
        name: read_examples(model, data, [attack], scaling)
        for name, model in models.items()
    }
    for name in sources:
        check_function(everyone[name].classifier, [attack])
    other = next(iter(everyone.values()))
    for name, examples in everyone.items():
        alike = np.array_equal(examples.image, other.image)
        classes = examples.classifier.num_classes
        if not alike or classes != other.classifier.num_classes:
            raise ValueError(
                "Arguments `sources` and `targets` must hold models of the "
                "same classes and the same pixels. Received: "
                f"{classes} classes of {name!r}, and "
                f"{other.classifier.num_classes}"
            )
    return everyone


def _draw_targets(
    examples: Examples, attack: Attack, checkpoint: Checkpoint | None
) -> np.ndarray:
    """Draw wrong classes, the same ones after a stop."""
    kept = checkpoint.section("aims") if checkpoint else None
    saved = kept.restore() if kept else None
    if saved is not None:
        kept_aims: np.ndarray = saved["y"]
        return kept_aims
    random = generator(attack.seed, _TARGET_STREAM)
    classes = examples.classifier.num_classes
    away = random.integers(1, classes, examples.y.shape)
    aims: np.ndarray = ((examples.y + away) % classes).astype("int32")
    if kept:
        kept.save(force=True, y=aims)
    return aims


def _facts(
    everyone: Mapping[str, Examples],
    sources: Sequence[str],
    targets: Sequence[str],
    attacks: Mapping[str, Attack],
    scaling: str | tuple[Any, ...] | None,
) -> dict[str, Any]:
    """All that the rates depend on, see `provenance`."""
    first = next(iter(everyone.values()))
    facts = provenance(
        first, attacks, sources=sources, targets=targets, scaling=scaling
    )
    losses = {
        name: losses_of(attacks["untargeted"], everyone[name].classifier.given)
        for name in sources
    }
    if any(losses.values()):
        # Above is that of the first source.
        facts["compiled_losses"] = {
            name: callable_sha256(each) for name, each in losses.items()
        }
    return {
        **facts,
        "model": {
            name: examples.classifier.name
            for name, examples in everyone.items()
        },
        "model_fingerprint": {
            name: examples.classifier.fingerprint()
            for name, examples in everyone.items()
        },
    }


def _attacks(attack: Attack, targeted: bool) -> dict[str, Attack]:
    """The attack, and if `targeted` the same one with targets."""
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


def _check_models(sources: Any, targets: Any) -> None:
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
