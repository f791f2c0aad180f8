"""Adversarial examples are not bugs, they are features: the paper, in steps.

Ilyas et al. 2019 (arXiv:1905.02175) say that images carry *robust* features,
which survive small perturbations, and *non-robust* ones, which do not, and
that adversarial examples are the second kind at work. The evidence is four
data sets made with two models, and what networks learn from each.

    python examples/cifar_replication.py --dataset cifar10

reads CIFAR-10 through TFDS (`TFDS_DATA_DIR` says where) and writes table,
figures and numbers to `--output`. `--dataset digits` needs no download.
"""

import argparse

import keras_robust as kr
from keras_robust.cli import replicate


def main():
    """Walks through one seed, then runs all of them."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    replicate.add_recipe_arguments(parser, dataset="cifar10")
    options = vars(parser.parse_args())

    # A recipe is a study with our numbers: network, epochs, radii, steps. It
    # keeps what is finished in a folder, so this script can be stopped and
    # started at any point.
    recipe = kr.study.get_recipe(options["dataset"], options["preset"])
    study = recipe.replication(
        options["output"], seed=options["seed"], verbose=options["verbose"]
    )
    x, y = study.data.test

    # 1. Two models of the same data. The standard one is plain Keras; the
    # robust one was `kr.AdversarialModel(network, kr.PGDAttack(...))`, and
    # what is kept of it is the plain network inside.
    standard = study.model("standard")
    robust = study.model("adversarial")

    # 2. An attack is an object; a call gives images. This one moves each
    # image by at most a radius in L2, and stays in [0, 1].
    attack = kr.PGDAttack(norm="l2", epsilon=recipe.radii[0], steps=10)
    show("an attacked test image moved by", norm(attack(standard, x, y) - x))

    # 3. D_R: images with the robust model's representation of x, started
    # from other images. D_NR: the same with the standard model. Labels stay.
    for name in ("D_R", "D_NR"):
        images = study.generated(name)
        before, after = images["distance_before"], images["distance_after"]
        show(f"{name}: distance of representations before", before)
        show(f"{name}: and after", after)

    # 4. D_rand and D_det: adversarial examples, labelled with their target.
    # To a human most labels are wrong.
    for name in ("D_rand", "D_det"):
        images = study.generated(name)
        wrong = images["y"] != images["original_label"]
        show(f"{name}: share of labels a human calls wrong", wrong)
        show(f"{name}: share that fools the standard model", images["success"])

    # 5. Fresh networks trained on each, evaluated on the real test set. That
    # a network learns anything from D_rand and D_det is the paper's point.
    report = kr.evaluate_robustness(
        robust, (x, y), {"PGD": attack}, verbose=options["verbose"]
    )
    if options["verbose"]:
        report.table()

    # 6. All models, attacks and seeds, beside the published figures.
    kr.study.replicate(**options)


def norm(step):
    """L2 norm of each example's step."""
    return (step.reshape(len(step), -1) ** 2).sum(-1) ** 0.5


def show(what, values):
    """Prints the mean of values by example."""
    print(f"{what}: {values.mean():.3f} on average")


if __name__ == "__main__":
    main()
