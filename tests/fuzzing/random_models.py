"""A random Keras classifier from a seed."""

import warnings
from contextlib import ExitStack
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field
from unittest import mock

import keras
import numpy as np
from keras import layers
from keras import ops

from . import blocks
from . import bodies
from .blocks import Noise
from .bodies import dtype_policy
from .draws import Draw
from .draws import level
from .heads import HEADS
from .layer_table import TABLE
from .layer_table import TOKENS
from .structures import SEVERAL
from .structures import STRUCTURES
from .structures import Held
from .structures import Plan

POLICIES = (
    *("float32",) * 5,
    *("mixed_bfloat16", "mixed_float16", "per layer"),
)
CHANGES = (
    *("none",) * 6,
    *("int8", "int8", "int4", "float8", "lora", "lora, int8"),
)
INPUTS = ("one",) * 6 + ("list", "dict")
OUTPUTS = ("one",) * 7 + ("list", "dict")


@dataclass
class Case:
    """A model, how its outputs are read, and what an attack must be told.

    Args:
        seed: Int.
        model: Built Keras model.
        reads: As in `Head`.
        classes: Int.
        value_range: Two numbers, the box of the attacked input.
        shape: Of the attacked input, without the batch axis.
        dtype: Of the attacked input.
        batch: `None`, or the fixed batch size.
        options: What an attack needs besides: `from_logits`, `attacked`,
            `output`.
        inputs: `"one"`, `"list"` or `"dict"`.
        held: `None`, or a `Held`.
        output: `None`, or what chooses the output of several.
        rounding: Relative difference of outputs that is rounding.
        refused: Part of the expected error, or `None`.
        random: Whether outputs change from call to call.
        lines: What it is, in words.
    """

    seed: int
    model: object
    reads: str
    classes: int
    value_range: tuple
    shape: tuple
    dtype: str
    batch: int | None
    options: dict
    inputs: str
    held: object
    output: object
    rounding: float
    refused: str | None
    random: bool
    lines: list = field(default_factory=list)

    def describe(self):
        return "\n".join([*self.lines, *describe_layers(self.model)])


def random_case(seed):
    """A random classifier.

    Args:
        seed: Int >= 0.

    Returns:
        `Case`.
    """
    with dtype_policy("float32"), quick_initializers():
        return _make(seed, draw_factors(seed))


@contextmanager
def quick_initializers():
    """Weights that are constant at first; JAX would compile a program for each.

    All weights are drawn later, by `randomize`.
    """
    kinds = keras.initializers
    with ExitStack() as stack:
        for kind, value in (
            (kinds.VarianceScaling, 0),
            (kinds.Orthogonal, 0),
            (kinds.RandomUniform, 0),
            (kinds.Zeros, 0),
            (kinds.Ones, 1),
        ):
            stack.enter_context(
                mock.patch.object(kind, "__call__", _constant(value))
            )
        yield


def _constant(value):
    def call(self, shape, dtype=None, **options):
        # A constant of NumPy's is no program for JAX.
        array = np.full(shape, value, "float32")
        return ops.convert_to_tensor(array, dtype)

    return call


def draw_factors(seed):
    """What is drawn apart from layers: a dictionary."""
    feature = bodies.pick_feature(seed)
    factors = {
        "feature": feature,
        "structure": level(seed, "structure", sorted(STRUCTURES)),
        "head": level(seed, "head", sorted(HEADS)),
        "policy": level(seed, "policy", POLICIES),
        "change": level(seed, "change", CHANGES),
        "inputs": level(seed, "inputs", INPUTS),
        "outputs": level(seed, "outputs", OUTPUTS),
        "dtype": level(seed, "dtype", ("float32",) * 5 + ("uint8",)),
        "range": level(
            seed, "range", ((0, 1), (0, 1), (0, 1), (-1, 1), (0, 255))
        ),
        "batch": level(seed, "batch", (None,) * 5 + (4,)),
        "random": level(seed, "random", (False,) * 19 + (True,)),
        "kind": _input_kind(seed, feature),
    }
    several = factors["inputs"] != "one" or factors["outputs"] != "one"
    if several and factors["structure"] not in SEVERAL:
        factors["structure"] = Draw(seed, "several").choice(SEVERAL)
    if factors["structure"] == "subclassed":
        # A list has no names, and a call has no batch size.
        factors["batch"] = None
        if factors["inputs"] == "list":
            factors["inputs"] = "dict"
        if factors["outputs"] == "list":
            factors["outputs"] = "dict"
    if "int" in factors["change"] and factors["policy"] != "float32":
        # Keras quantizes no layer that computes in float16.
        factors["policy"] = "mixed_bfloat16"
    if factors["dtype"] == "uint8":
        factors["range"] = (0, 255)
    return factors


def _input_kind(seed, feature):
    d = Draw(seed, "kind")
    takes = TABLE[feature].takes if feature in TABLE else "any"
    if takes != "any" and d.flip(0.8):
        return takes
    return d.choice(["image", "image", "image", "sequence", "vector"])


def _make(seed, factors):
    d = Draw(seed, "model")
    head = HEADS[factors["head"]]
    classes = head.classes or d.integer(2, 5)
    first = _first(d, factors)
    body = bodies.draw_body(
        seed, factors["feature"], factors["kind"], factors["policy"], first
    )
    shape = bodies.input_shape(seed, factors["kind"])
    policy = factors["policy"]
    head_policy = "mixed_bfloat16" if policy == "per layer" else policy

    def make_head():
        with dtype_policy(head_policy):
            return head.parts(classes)

    plan = Plan(
        body.parts,
        make_head,
        shape,
        dtype=factors["dtype"],
        batch=factors["batch"],
        held=_held(seed) if factors["inputs"] != "one" else None,
        inputs=factors["inputs"],
        outputs=factors["outputs"],
        by_symbol=factors["inputs"] == "one" and d.flip(0.7),
    )
    keras.utils.set_random_seed(seed)
    model = STRUCTURES[factors["structure"]](plan)
    change(model, factors["change"], seed)
    options = {"from_logits": head.from_logits}
    if factors["inputs"] != "one":
        options["attacked"] = "image"
    chosen = None
    if factors["outputs"] != "one":
        chosen = options["output"] = "label"
    lines = [f"seed {seed}, {classes} classes"]
    lines += [f"{key}: {value}" for key, value in factors.items()]
    return Case(
        seed=seed,
        model=model,
        reads=head.reads,
        classes=classes,
        value_range=factors["range"],
        shape=shape,
        dtype=factors["dtype"],
        batch=factors["batch"],
        options=options,
        inputs=factors["inputs"],
        held=plan.held,
        output=chosen,
        rounding=_rounding(factors),
        refused=head.refused,
        random=factors["random"],
        lines=lines,
    )


def _first(d, factors):
    """What turns pixels into numbers around 0 or 1."""
    first = []
    if factors["range"] == (0, 255):
        options = [
            lambda d, shape: layers.Rescaling(1 / 255),
            lambda d, shape: layers.Rescaling(1 / 127.5, -1.0),
            lambda d, shape: blocks.Block("h / 255", [], _divided),
        ]
        if factors["dtype"] == "float32":
            options.append(
                lambda d, shape: layers.Normalization(
                    mean=120.0, variance=3600.0
                )
            )
        first.append(d.choice(options))
    if factors["random"]:
        first.append(lambda d, shape: Noise())
    return first


def _divided(h):
    return ops.cast(h, "float32") / 255.0


def _held(seed):
    """Another input: numbers, or whole numbers that stand for words."""
    name = level(seed, "held", ("numbers", *TOKENS))
    if name == "numbers":
        return Held((3,), "float32", lambda: [layers.Dense(2)])
    return Held(
        (3,),
        "int32",
        lambda: [TOKENS[name](), layers.Flatten(), layers.Dense(2)],
    )


def _rounding(factors):
    low = {"float32": 1e-4, "mixed_float16": 4e-3}
    rounding = low.get(factors["policy"], 3e-2)
    # What is rounded to 16 or 15 levels jumps.
    jumps = {"int8": 1e-2, "lora, int8": 1e-2, "int4": 5e-2, "float8": 5e-2}
    return max(rounding, jumps.get(factors["change"], 0.0))


def change(model, what, seed):
    """Random weights everywhere, LoRA, quantization."""
    if what.startswith("lora"):
        for layer in all_layers(model):
            if hasattr(layer, "enable_lora") and layer.built:
                layer.enable_lora(1)
    randomize(model, seed)
    for mode in ("int8", "int4", "float8"):
        if mode in what:
            quantize(model, mode)


def quantize(model, mode):
    """`model.quantize`, in silence and in a second."""
    with warnings.catch_warnings(), mock.patch("gc.collect"):
        # One of each layer that has nothing to quantize; and a collection for
        # each that has.
        warnings.simplefilter("ignore")
        model.quantize(mode)


def randomize(model, seed):
    """Weights and statistics that are nobody's defaults."""
    random = Draw(seed, "weights").random
    kept = set()
    for layer in all_layers(model):
        if isinstance(layer, layers.Normalization):
            kept |= {id(v) for v in layer.variables}
    for variable in model.variables:
        floating = "float" in keras.backend.standardize_dtype(variable.dtype)
        if id(variable) in kept or not floating:
            continue
        shape = tuple(variable.shape)
        name = variable.name
        if "variance" in name:
            value = random.uniform(0.3, 2.0, shape)
        elif "gamma" in name or name == "scale":
            sign = np.where(random.random(shape) < 0.2, -1, 1)
            value = random.uniform(0.5, 1.5, shape) * sign
        elif len(shape) > 1:
            fan_in = max(np.prod(shape[:-1]), 1)
            value = random.normal(size=shape) * 1.5 / np.sqrt(fan_in)
        else:
            value = random.normal(size=shape) * 0.3
        variable.assign(value.astype("float32"))


def all_layers(model):
    """Every layer, also those inside models and wrappers."""
    found = []
    for layer in model._flatten_layers():
        found.append(layer)
    return found


_SHOWN = (
    *("units", "filters", "kernel_size", "strides", "padding", "axis"),
    *("dilation_rate", "groups", "activation", "use_bias", "scale", "center"),
    *("offset", "output_size", "output_shape", "target_shape", "layers"),
    *(
        "return_sequences",
        "go_backwards",
        "merge_mode",
        "equation",
        "pool_size",
    ),
)


def describe_layers(model):
    """One line per layer."""
    lines = []
    for layer in all_layers(model):
        shown = {
            key: getattr(layer, key)
            for key in _SHOWN
            if key != "layers" and hasattr(layer, key)
        }
        shown["dtype"] = layer.dtype_policy.name
        lines.append(
            f"  {type(layer).__name__}("
            + ", ".join(f"{key}={_short(v)}" for key, v in shown.items())
            + ")"
        )
    return lines


def _short(value):
    return getattr(value, "__name__", None) or repr(value)[:60]
