import numpy as np
import pytest

from keras_robust.study.optimizer import outputs
from keras_robust.study.optimizer import summary
from keras_robust.study.optimizer.results import SweepResults


def run(optimizer, rate, seed, accuracy, outcome="generalized", **more):
    return {
        "optimizer": optimizer,
        "learning_rate": rate,
        "schedule": "constant",
        "seed": seed,
        "val_accuracy": accuracy,
        "test_accuracy": accuracy,
        "train_accuracy": 0.9,
        "outcome": outcome,
        "escape_epoch": None if outcome == "stuck" else 2,
        **more,
    }


@pytest.fixture
def runs():
    found = []
    for seed in (0, 1):
        noise = 0.01 * seed
        found += [
            run("sgd", 0.1, seed, 0.1 + noise, "stuck"),
            run("sgd", 0.01, seed, 0.4 + noise),
            run("adam", 0.01, seed, 0.12 + noise, "memorized"),
            run("adam", 0.001, seed, 0.42 + noise),
        ]
    return found


def test_best_in_class(runs):
    best = summary.best_in_class(runs)
    assert best["sgd"]["setting"]["learning_rate"] == 0.01
    assert best["sgd"]["test_accuracy"] == pytest.approx(0.405)
    # Two values .01 apart: mean +- 12.706 * .00707 / sqrt(2).
    low, high = best["sgd"]["interval"]
    assert (high - low) / 2 == pytest.approx(12.706 * 0.005, rel=1e-3)
    # Chosen by validation, reported on test.
    runs[3]["test_accuracy"] = 0.0
    assert summary.best_in_class(runs)["adam"]["test_accuracy"] < 0.3


def test_trainings_of_other_lengths_are_no_seeds():
    """Hyperband trains a setting for few epochs, and again for more."""
    found = [
        run("sgd", 0.1, seed, accuracy, epochs=epochs)
        for epochs, accuracy in ((2, 0.1), (18, 0.5))
        for seed in (0, 1)
    ]
    best = summary.best_in_class(found)["sgd"]
    assert best["test_accuracy"] == 0.5 and best["interval"] == [0.5, 0.5]
    assert best["setting"]["epochs"] == 18
    header, *rows = outputs.rows(found)
    assert header[0] == "epochs" and [row[0] for row in rows] == ["18", "2"]
    shares = summary.variance_explained(found)
    assert shares["epochs"] == pytest.approx(1)


def test_variance_is_credited_to_what_caused_it(runs):
    shares = summary.variance_explained(runs)
    assert sum(shares.values()) == pytest.approx(1)
    # In this grid the optimizer moves .02, its learning rate .3, a seed .01.
    assert shares["learning_rate"] > 0.98
    assert 0 < shares["optimizer"] < 0.01
    assert set(shares) == {
        *("optimizer", "learning_rate", "seed and interactions")
    }


def test_the_order_of_crossed_factors_does_not_matter(monkeypatch):
    random = np.random.default_rng(0)
    found = [
        run("sgd", 0.1, seed, random.random(), schedule=s, batch_size=b)
        for s in ("constant", "drops")
        for b in (32, 64, 128)
        for seed in range(3)
    ]
    shares = summary.variance_explained(found)
    monkeypatch.setattr(summary, "FACTORS", tuple(reversed(summary.FACTORS)))
    again = summary.variance_explained(found)
    for name, share in shares.items():
        assert again[name] == pytest.approx(share)


def test_outcomes_and_seeds(runs):
    assert summary.outcomes(runs)["adam"] == {
        **{"stuck": 0, "memorized": 2, "generalized": 2}
    }
    assert summary.seed_agreement(runs) == 1
    runs[0]["outcome"] = "memorized"
    assert summary.seed_agreement(runs) == 0.75


def test_robustness_where_accuracy_is_alike():
    robust = "val_robust_accuracy"
    found = [
        run("sgd", 0.1, 0, 0.80, **{robust: 0.3}),
        run("sgd", 0.2, 0, 0.90, **{robust: 0.1}),
        run("adam", 0.1, 0, 0.81, **{robust: 0.2}),
        run("adam", 0.2, 0, 0.70, **{robust: 0.6}),
    ]
    compared = summary.robustness_at_equal_accuracy(found)
    assert compared["sgd"][robust] == pytest.approx(0.3)
    assert compared["adam"][robust] == pytest.approx(0.2)
    assert compared["sgd"]["trainings"] == 1


def test_verdict_table_and_figure(runs, tmp_path):
    results = summary.summarize(runs)
    text = results["verdict"]
    assert "sgd 40.5 [34.1, 46.9] at 0.01" in text
    assert "adam 0 stuck, 2 memorized, 2 generalized" in text
    outputs.write(results, tmp_path, verbose=0)
    rows = (tmp_path / "table.md").read_text().splitlines()[4:]
    assert rows[0] == (
        "| adam | 0.001 | 42.5 ± 0.7 | 90.0 | generalized, generalized | 2, 2 |"
    )
    assert len(rows) == 4 and "never, never" in rows[-1]
    figure = outputs.draw(runs)
    assert [axes.get_title() for axes in figure.axes] == ["sgd", "adam"]
    dots = sum(len(line.get_xdata()) for line in figure.axes[0].get_lines())
    assert dots == 4
    for name in ("results.json", "accuracy.png", "accuracy.svg"):
        assert (tmp_path / name).stat().st_size


def test_results_are_a_table_a_figure_and_records(runs, capsys):
    own = run("rmsprop", 0.003, 0, 0.5, rho=0.9, curve={"loss": [1.0, 0.5]})
    results = SweepResults(summary.summarize([*runs, own]))
    text = results.table()
    assert capsys.readouterr().out == f"{text}\n"
    assert max(map(len, text.splitlines())) <= 80
    verdict, table = text.split("\n\n")
    assert " ".join(verdict.split()) == results["verdict"]
    header, first, *others = table.splitlines()
    assert header.startswith("clean test, %  optimizer")
    assert first.split()[:2] == ["50.0", "rmsprop"]
    assert len(others) == 4 and "41" not in first
    frame = results.to_dataframe()
    assert len(frame) == 9 and "curve" not in frame.columns
    assert frame[frame.optimizer == "sgd"].test_accuracy.tolist() == (
        pytest.approx([0.1, 0.4, 0.11, 0.41])
    )
    assert frame.rho.notna().sum() == 1
    titles = [axes.get_title() for axes in results.plot().axes]
    assert titles == ["sgd", "adam", "rmsprop"]
    assert repr(results).startswith("9 trainings. Clean test accuracy")


def test_a_notebook_shows_verdict_table_and_figure(runs):
    results = SweepResults(summary.summarize(runs))
    shown = results._repr_html_()
    assert f"<p>{results['verdict']}</p>" in shown
    assert shown.count("<tr>") == 5 and "42.5 ± 0.7" in shown
    assert 'src="data:image/png;base64,' in shown
    assert results.plot()._repr_png_().startswith(b"\x89PNG")
