"""What a user gives a search to choose from, as an `OptimizerSpace`."""

import inspect
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
from keras import ops

from keras_robust.classifier.fingerprint import callable_sha256
from keras_robust.study.optimizer.own_optimizer import keras_optimizers
from keras_robust.study.optimizer.own_optimizer import takes
from keras_robust.study.optimizer.space import OptimizerSpace
from keras_robust.study.optimizer.space import Range
from keras_robust.study.replication.networks import check_network
from keras_robust.study.replication.networks import network_sha256
from keras_robust.study.replication.recipes import RECIPES
from keras_robust.study.study import Study
from keras_robust.utils.messages import describe

# Below and above Keras's default learning rate of an optimizer.
_DECADE = 10


@dataclass(frozen=True)
class OwnNetwork:
    """Builds a network of the user's that takes images in [0, 1].

    Attributes:
        study: Has the images.
        function: Returns a new, built Keras classifier of the study's pixels.
    """

    study: Study
    function: Callable[..., keras.Model]

    @property
    def __signature__(self) -> inspect.Signature:
        """Arguments of the function."""
        return inspect.signature(self.function)

    def __call__(self, **options: Any) -> keras.Model:
        """Build one."""
        return self.study.build(partial(self.function, **options))


def make_space(study: Study, choices: Mapping[str, Any]) -> OptimizerSpace:
    """The space of what a user chose, with defaults for the rest.

    Args:
        study: Whose images are learned.
        choices: Fields of `OptimizerSpace`, `optimizers` and `networks` as in
            `sweep`; `None` for a default.

    Raises:
        ValueError: If a name is unknown or something is of another kind.
    """
    chosen: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in choices.items()
        if value is not None
    }
    networks = _networks(study, chosen.pop("networks", None))
    own = [each for each in networks.values() if callable(each)]
    if own and not all(takes(each, "weight_decay") for each in own):
        # Where it would be left out without a word.
        chosen.setdefault("weight_decays", (0.0,))
    if "optimizers" in chosen:
        ranges, makers = read_optimizers(chosen.pop("optimizers"))
        chosen["learning_rates"] = ranges
        chosen["makers"] = {**chosen.get("makers", {}), **makers}
    space = OptimizerSpace(networks=networks, **chosen)
    space.check_networks()
    return space


def describe_space(space: OptimizerSpace) -> dict[str, Any]:
    """A space as plain values, with hashes of functions.

    Args:
        space: An `OptimizerSpace`.
    """
    described = dict(vars(space))
    described["networks"] = {
        name: _described_network(network)
        for name, network in space.networks.items()
    }
    del described["makers"]
    if space.makers:
        described["makers"] = {
            name: callable_sha256(maker) for name, maker in space.makers.items()
        }
    return described


def _described_network(network: Any) -> Any:
    if not callable(network):
        return network
    made = network
    if takes(network, "weight_decay"):
        made = partial(network, weight_decay=0.0)
    function = getattr(network, "function", network)
    name = getattr(function, "__name__", type(function).__name__)
    return {"function": name, "sha256": network_sha256(made)}


def read_optimizers(
    given: Any,
) -> tuple[dict[str, Range | None], dict[str, Callable[..., Any]]]:
    """Learning rates and makers of what a user gave as optimizers.

    Args:
        given: See `sweep`.

    Returns:
        `(learning_rates, makers)` of `OptimizerSpace`.

    Raises:
        ValueError: If it is anything else.
    """
    items: Iterable[tuple[Any, Any]]
    if isinstance(given, Mapping):
        items = given.items()
    elif isinstance(given, (list, tuple)):
        items = [
            (each, None)
            if isinstance(each, str)
            else (getattr(each, "__name__", type(each).__name__), each)
            for each in given
        ]
    else:
        raise ValueError(_wrong_optimizers(given))
    ranges: dict[str, Range | None] = {}
    makers: dict[str, Callable[..., Any]] = {}
    for name, value in items:
        if value is None:
            ranges[name] = default_range(name)
        elif isinstance(value, (tuple, list)) and len(value) == 2:
            is_own = callable(value[0])
            if is_own:
                makers[name] = value[0]
            ends = value[1] if is_own else value
            ranges[name] = tuple(ends)
        elif callable(value) and not isinstance(value, type):
            makers[name], ranges[name] = value, None
        else:
            raise ValueError(_wrong_optimizers({name: value}))
    return ranges, makers


def _wrong_optimizers(given: Any) -> str:
    return (
        "Argument `optimizers` must be names of optimizers, or a dictionary by "
        "name of (smallest, largest) learning rate, of (function of "
        "learning_rate or class, (smallest, largest)), or of functions "
        f"(hp, steps). Received: optimizers={describe(given)}"
    )


def default_range(name: str) -> Range:
    """The learning rates that are tried of an optimizer by name.

    Args:
        name: See `OptimizerSpace`.

    Returns:
        `(smallest, largest)`: those of `OptimizerSpace`; of another optimizer
        of Keras a decade below and above its default.
    """
    known = OptimizerSpace(networks={"": ("", {})}).learning_rates
    if name in known:
        found = known[name]
        return (0.0, 0.0) if found is None else found
    kind = keras_optimizers().get(name)
    if kind is None:
        # Refused by the space, with the names that there are.
        return (0.0, 0.0)
    rate = float(ops.convert_to_numpy(kind().learning_rate))
    return rate / _DECADE, rate * _DECADE


def first_network(networks: Any) -> Any:
    """The network of a study of images of the user's own.

    Args:
        networks: See `sweep`.

    Returns:
        The first of them; `"small_cnn"` if none is given.
    """
    if callable(networks) or isinstance(networks, str):
        return networks
    given = list(networks or ())
    if not given:
        return "small_cnn"
    first = given[0]
    if isinstance(networks, Mapping) and networks[first] is not None:
        first = networks[first]
    return first[0] if isinstance(first, (tuple, list)) else first


def _networks(study: Study, given: Any) -> dict[str, Any]:
    """Networks by name, in the form of `OptimizerSpace`."""
    known = _known_networks(study)
    if given is None:
        given = study.network
    if callable(given) or isinstance(given, str):
        given = [given]
    if isinstance(given, Mapping):
        items = list(given.items())
    else:
        items = [
            (each, None)
            if isinstance(each, str)
            else (getattr(each, "__name__", type(each).__name__), each)
            for each in given
        ]
    return {name: _network(study, known, name, each) for name, each in items}


def _network(
    study: Study, known: Mapping[str, Any], name: str, given: Any
) -> Any:
    if given is None:
        if name in known:
            return known[name]
        if study.dataset in {dataset for dataset, _ in RECIPES}:
            raise ValueError(
                f"Argument `networks` must be names among {sorted(known)}, or "
                "functions that return networks. "
                f"Received: networks=[{name!r}]"
            )
        check_network("networks", name)
        given = (name, {})
    if callable(given):
        check_network("networks", given)
        return OwnNetwork(study, given)
    return study.network_spec(given)


def _known_networks(study: Study) -> dict[str, Any]:
    """Function and options of the networks that have a name in a recipe."""
    found = {
        f"{preset}/{name}": network
        for (dataset, preset), other in RECIPES.items()
        if dataset == study.dataset
        for name, network in _networks_of(other).items()
    }
    return found | _networks_of(study)


def _networks_of(study: Study) -> dict[str, Any]:
    own = {}
    if isinstance(study.network, str):
        own = {study.network: study.network_spec()}
    return {**study.architectures, **own}
