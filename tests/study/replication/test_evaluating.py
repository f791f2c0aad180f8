from dataclasses import replace

from keras_robust.study import get_recipe
from keras_robust.study.replication.evaluating import attacks_of


def test_one_step_is_made_at_the_largest_radius():
    """Whatever the order of the radii is."""
    recipe = replace(get_recipe("digits"), radii=(1.0, 0.25))
    attacks = attacks_of(recipe, 64)
    assert list(attacks) == [
        "pgd-l2-1",
        "pgd-l2-0.25",
        "pgd-linf-0.248",
        "pgd-linf-0.062",
        "pgd-linf-0.0314",
        "fgsm-linf-0.248",
    ]
    assert (
        attacks["fgsm-linf-0.248"].epsilon == attacks["pgd-linf-0.248"].epsilon
    )
