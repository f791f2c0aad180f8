"""How much robust features explain: Goh's comment on the paper.

    python examples/robust_leakage.py

D_rand and D_det are said to teach non-robust features only. Goh (Distill 2019,
"Robust feature leakage") takes ten features that are robust for certain, the
outputs of a linear classifier trained against attacks, and asks what a linear
model of them learns: from D_rand more than chance, so a part of its accuracy
says nothing of non-robust features; from D_det less than chance, so all of its
accuracy does. D_other has no right label either.

Models and sets are those of `keras-robust replicate`; with the same `--output`
they are found there.
"""

from small_studies import study_of
from small_studies import study_parser
from small_studies import tell

from keras_robust.study.replication.measures import leakage
from keras_robust.study.replication.reference import reference


def main():
    """Measures and prints."""
    parser = study_parser(__doc__)
    options = parser.parse_args()
    study = study_of(options)
    found = study.measure("leakage", leakage)
    published = reference("cifar10")["Goh"]["leakage"]
    rows = [
        (
            f"linear model of robust features, {name}",
            100 * value,
            str(published.get(name, "")),
        )
        for name, value in found.items()
    ]
    tell(options, "Robust leakage", rows)


if __name__ == "__main__":
    main()
