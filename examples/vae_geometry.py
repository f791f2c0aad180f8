"""What a generative model says of robust and non-robust images.

    python examples/vae_geometry.py --dataset fashion_mnist

The AM207 report left open what VAEs tell of robust and non-robust data. Three
small convolutional VAEs are trained, on D, D_R and D_NR, and asked about kinds
of test images none of them was trained on: clean, adversarial, D_R, D_NR and
D_rand ones, and images of another data set:

- the ELBO and the error of the reconstruction of each kind under each VAE;
- how well likelihood tells a kind from clean images (area under the ROC curve,
  0.5 is chance). PixelDefend (Song et al. 2018) says that adversarial examples
  have low likelihood; that out-of-distribution images may have high likelihood
  is known (Nalisnick et al. 2019), and that this goes away when what a
  compressor needs for an image is taken off (Serra et al. 2020);
- how far a kind lies from the clean images in latent space.

Models and sets are those of `keras-robust replicate`; with the same `--output`
they are found there. Writes `vae.json`, `vae.md` and `vae.png`.
"""

import json
import zlib
from pathlib import Path

import keras
import numpy as np
from keras import ops
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score
from small_studies import study_of
from small_studies import study_parser

import keras_robust as kr
from keras_robust.utils.environment import machine

TRAINED_ON = ("D", "D_R", "D_NR")
# A data set of which no image is of the classes.
OTHER = {"fashion_mnist": "cifar10", "cifar10": "fashion_mnist"}
# Standard deviation of a pixel around its reconstruction, one for all VAEs,
# so that their likelihoods compare.
PIXEL_DEVIATION = 0.1
SAMPLES = 8


class Sampling(keras.layers.Layer):
    """Draws from the posterior; adds its divergence to the loss."""

    def __init__(self, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.seed = keras.random.SeedGenerator(seed)

    def call(self, mean, log_variance):
        """A draw for each row of means and log variances."""
        self.add_loss(ops.mean(divergence(mean, log_variance)))
        noise = keras.random.normal(ops.shape(mean), seed=self.seed)
        return mean + ops.exp(log_variance / 2) * noise


def divergence(mean, log_variance):
    """KL of the posterior from a standard normal, in nats, `(N,)`."""
    inner = 1 + log_variance - mean**2 - ops.exp(log_variance)
    return -ops.sum(inner, axis=-1) / 2


def log_density(x, reconstruction):
    """Log density of images around their reconstruction, in nats, `(N,)`."""
    error = ((x - reconstruction) / PIXEL_DEVIATION) ** 2
    each = error / 2 + np.log(PIXEL_DEVIATION * (2 * np.pi) ** 0.5)
    return -ops.sum(each, axis=(1, 2, 3))


def build_vae(shape, latent, seed):
    """Encoder, decoder, and the VAE that is trained."""
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    image = keras.Input(shape)
    h = layers.Conv2D(32, 3, 2, "same", activation="relu")(image)
    h = layers.Conv2D(64, 3, 2, "same", activation="relu")(h)
    small = h.shape[1:]
    h = layers.Dense(256, "relu")(layers.Flatten()(h))
    # Bounded, or the first steps can blow up.
    log_variance = layers.Dense(latent, "tanh")(h) * 6.0
    encoder = keras.Model(image, [layers.Dense(latent)(h), log_variance])
    code = keras.Input((latent,))
    h = layers.Dense(256, "relu")(code)
    h = layers.Dense(int(np.prod(small)), "relu")(h)
    h = layers.Reshape(small)(h)
    h = layers.Conv2DTranspose(32, 3, 2, "same", activation="relu")(h)
    h = layers.Conv2DTranspose(32, 3, 2, "same", activation="relu")(h)
    pixels = layers.Conv2D(shape[-1], 3, padding="same", activation="sigmoid")
    decoder = keras.Model(code, pixels(h))
    vae = keras.Model(image, decoder(Sampling(seed)(*encoder(image))))
    vae.compile(
        keras.optimizers.Adam(1e-3), lambda x, z: -ops.mean(log_density(x, z))
    )
    return encoder, decoder, vae


def of_arrays(function, *arrays):
    """What a function of tensors says of NumPy arrays."""
    tensors = [ops.convert_to_tensor(array) for array in arrays]
    return ops.convert_to_numpy(function(*tensors))


def judge(encoder, decoder, x, seed=0):
    """ELBO `(N,)` in nats, error of the reconstruction, latent means."""
    mean, log_variance = encoder.predict(x, batch_size=256, verbose=0)
    random = np.random.default_rng(seed)
    density = np.zeros(len(x))
    for _ in range(SAMPLES):
        noise = random.normal(size=mean.shape)
        code = (mean + np.exp(log_variance / 2) * noise).astype("float32")
        drawn = decoder.predict(code, batch_size=256, verbose=0)
        density += of_arrays(log_density, x, drawn) / SAMPLES
    elbo = density - of_arrays(divergence, mean, log_variance)
    middle = decoder.predict(mean, batch_size=256, verbose=0)
    error = np.square(middle - x).sum((1, 2, 3))
    return {"elbo": elbo, "error": error, "mean": mean}


def complexity(x):
    """Nats a lossless compressor needs, `(N,)`: PNG's, rows and DEFLATE."""
    pixels = np.rint(255 * x).astype(np.int16)
    change = np.diff(pixels, axis=2, prepend=0).astype(np.uint8)
    sizes = [len(zlib.compress(image.tobytes(), 9)) for image in change]
    return np.array(sizes) * 8 * np.log(2)


def kinds_of_images(study, other, count):
    """Test images of every kind, by name; the first are the clean ones."""
    x, y = (part[:count] for part in study.data.test)
    standard = study.model("standard")
    recipe = study.recipe
    attack = kr.PGDAttack(epsilon=recipe.relabel_epsilon, steps=20)
    verbose = study.verbose
    kinds = {"clean": x, "adversarial": attack(standard, x, y, verbose=verbose)}
    for name, source in (("D_R", "adversarial"), ("D_NR", "standard")):
        transform = study.transform(name, study.model(source))
        kinds[name] = transform(x, verbose=verbose)
    transform = study.transform("D_rand", standard)
    kinds["D_rand"], _ = transform(x, y, verbose=verbose)
    kinds["noise"] = noisy(x, kinds["adversarial"])
    if other:
        kinds[other] = fitted(kr.datasets.load(other).test[0][:count], x.shape)
    return kinds


def noisy(x, attacked):
    """Clean images with noise as long as the attack's: a control."""
    noise = np.random.default_rng(0).normal(size=x.shape)
    length = np.linalg.norm((attacked - x).reshape(len(x), -1), axis=-1)
    noise /= np.linalg.norm(noise.reshape(len(x), -1), axis=-1)[:, *[None] * 3]
    return np.float32(np.clip(x + length[:, *[None] * 3] * noise, 0, 1))


def fitted(images, shape):
    """Images of another set in this one's size and channels."""
    if images.shape[-1] > shape[-1]:
        images = images.mean(-1, keepdims=True)
    images = np.repeat(images, shape[-1] // images.shape[-1], axis=-1)
    return ops.convert_to_numpy(ops.image.resize(images, shape[1:3]))


def compare(judged, bits):
    """All numbers of one VAE by kind of image."""
    clean = judged["clean"]
    between = np.linalg.norm(
        clean["mean"] - np.roll(clean["mean"], 1, axis=0), axis=-1
    ).mean()
    found = {}
    for kind, one in judged.items():
        found[kind] = {
            "elbo": float(one["elbo"].mean()),
            "error": float(one["error"].mean()),
        }
        if kind == "clean":
            continue
        away = np.linalg.norm(one["mean"] - clean["mean"], axis=-1).mean()
        found[kind]["latent distance"] = float(away / between)
        labels = np.repeat([0, 1], [len(clean["elbo"]), len(one["elbo"])])
        for name, take in (("auroc", 0), ("auroc, corrected", 1)):
            # Unlikely, or unlikely for how simple it is: not clean.
            values = [
                -judged[k]["elbo"] - take * bits[k] for k in ("clean", kind)
            ]
            area = roc_auc_score(labels, np.concatenate(values))
            found[kind][name] = float(area)
    return found


def table(found):
    """Markdown: a row per VAE and kind."""
    columns = ("elbo", "error", "auroc", "auroc, corrected", "latent distance")
    lines = ["| VAE of | images | " + " | ".join(columns) + " |"]
    lines.append("|" + "---|" * (2 + len(columns)))
    for trained_on, kinds in found.items():
        for kind, numbers in kinds.items():
            cells = [
                ""
                if name not in numbers
                else f"{numbers[name]:.3g}"
                if name != "elbo"
                else f"{numbers[name]:.0f}"
                for name in columns
            ]
            lines.append(
                f"| {trained_on} | {kind} | " + " | ".join(cells) + " |"
            )
    return "\n".join(lines) + "\n"


def draw(elbos):
    """Histograms of the ELBO: a panel per VAE, a line per kind."""
    figure = Figure(figsize=(4 * len(elbos), 3.4))
    panels = figure.subplots(1, len(elbos), sharey=True)
    for axes, (trained_on, kinds) in zip(panels, elbos.items(), strict=True):
        low, high = np.percentile(
            np.concatenate(list(kinds.values())), [2, 99.5]
        )
        for kind, values in kinds.items():
            values = np.clip(values, low, high)
            bins = np.linspace(low, high, 50)
            axes.hist(values, bins, histtype="step", label=kind)
        axes.set_title(f"VAE of {trained_on}")
        axes.set_xlabel("ELBO, nats")
    panels[0].legend(frameon=False, fontsize=7, loc="upper left")
    figure.tight_layout()
    return figure


def main():
    """Trains, asks, writes."""
    parser = study_parser(__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--latent", type=int, default=32)
    parser.add_argument("--images", type=int, default=1000, help="per kind")
    options = parser.parse_args()
    folder = Path(options.output)
    study = study_of(options)
    other = OTHER.get(options.dataset)
    kinds = kinds_of_images(study, other, options.images)
    bits = {kind: complexity(x) for kind, x in kinds.items()}
    found, elbos = {}, {}
    for name in TRAINED_ON:
        made = study.data.train[0]
        if name != "D":
            made = study.generated(name)["x"]
        encoder, decoder, vae = build_vae(
            made.shape[1:], options.latent, options.seed
        )
        if options.verbose:
            print(f"VAE of {name} ...", flush=True)
        vae.fit(
            made,
            made,
            batch_size=128,
            epochs=options.epochs,
            verbose=2 if options.verbose else 0,
        )
        judged = {k: judge(encoder, decoder, x) for k, x in kinds.items()}
        found[name] = compare(judged, bits)
        elbos[name] = {k: one["elbo"] for k, one in judged.items()}
    results = {
        **{k: v for k, v in vars(options).items() if k != "output"},
        "machine": machine(),
        "backend": keras.backend.backend(),
        "found": found,
    }
    (folder / "vae.json").write_text(json.dumps(results, indent=2) + "\n")
    (folder / "vae.md").write_text(table(found))
    draw(elbos).savefig(folder / "vae.png", dpi=150)
    if options.verbose:
        print(table(found))


if __name__ == "__main__":
    main()
