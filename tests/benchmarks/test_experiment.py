"""The experiment: the libraries agree, held-out labels stay out, and the page shows the committed numbers."""

import json
from dataclasses import replace

import numpy as np
import pytest

for _name in ("torch", "jax", "imgviz", "matplotlib"):
    pytest.importorskip(_name)

from benchmarks import experiment
from benchmarks.experiment import FLOAT64, LOSSES, OHEM, PLAIN, SHORT_PLANS
from ohemloss import value_and_grad
from ohemloss._cli._head import Head
from ohemloss._cli._photograph import IGNORE, Photograph

# Relative, for one step in float32: sums of some ten thousand products in another order.
TOLERANCE = 1e-5
FILES = (experiment.NUMBERS, experiment.TEXT, experiment.CURVES, experiment.MASKS)


def test_libraries_agree_at_each_step(tmp_path):
    experiment.main(["--short", "--out", str(tmp_path)])
    assert {path.name for path in tmp_path.iterdir()} == set(FILES)
    results = json.loads((tmp_path / experiment.NUMBERS).read_text(encoding="utf-8"))
    for loss in LOSSES:
        apart = experiment.differences(results["libraries"], loss)
        assert set(apart) == {"PyTorch", "JAX", FLOAT64}
        for values in apart.values():
            assert len(values) == SHORT_PLANS[0].steps
            assert max(values) < TOLERANCE
        assert min(apart[FLOAT64]) > 0  # else it was float32, too
        losses = results["libraries"][loss]["NumPy"]
        assert losses[-1] < 0.9 * losses[0]  # else equal losses would say little
    plain, ohem = (results["libraries"][loss]["NumPy"] for loss in (PLAIN, OHEM))
    assert ohem[-1] > 1.001 * plain[-1]


@pytest.mark.parametrize("loss", LOSSES)
def test_backward_by_finite_differences(loss):
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 1, 2, IGNORE], size=(12, 16)).astype(np.uint8)
    small = Photograph(np.zeros((12, 16, 3), np.uint8), labels, ("a", "b", "c"), rng.standard_normal((3, 4, 5)))
    head, weights = Head(np, small), experiment.first_weights(small, 0)

    def value_of(weights):
        return value_and_grad(head.logits(weights), labels[None], ignore_index=IGNORE, **experiment.OPTIONS[loss])

    gradient = head.weights_gradient(value_of(weights)[1])
    assert gradient.dtype == weights.dtype == np.float64
    for place in np.ndindex(weights.shape):
        step = np.zeros_like(weights)
        step[place] = 1e-6
        slope = (value_of(weights + step)[0] - value_of(weights - step)[0]) / 2e-6
        assert gradient[place] == pytest.approx(float(slope), rel=1e-5, abs=1e-8)


def test_iou_by_hand():
    labels = np.asarray([[0, 0, 0, 1], [1, 2, IGNORE, IGNORE]], dtype=np.uint8)
    counts = experiment.confusion(labels, np.asarray([[0, 0, 1, 1], [0, 1, 2, 3]]), 4)
    np.testing.assert_array_equal(counts, [[2, 1, 0, 0], [1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_allclose(experiment.iou(counts), [2 / 4, 1 / 4, 0, np.nan])


@pytest.mark.parametrize("fold", experiment.FOLDS)
def test_held_out_labels_never_enter_the_training(monkeypatch, fold):
    photograph = experiment.load()
    trained, held_out = experiment.split(photograph.labels, 0, fold)
    inside = experiment.split(np.zeros_like(trained), 0, fold)[0] != IGNORE
    others = np.where(inside, photograph.labels, (photograph.labels + 1) % 9).astype(np.uint8)
    assert np.mean(others != photograph.labels) > 0.5
    assert not np.any((trained != IGNORE) & (held_out != IGNORE))
    tasks, real = [], experiment.train_numpy
    monkeypatch.setattr(experiment, "FOLDS", (fold,))
    monkeypatch.setattr(experiment, "train_numpy", lambda task: tasks.append(task) or real(task))
    for labels in (others, photograph.labels):
        _, predicted = experiment.judge(replace(photograph, labels=labels), SHORT_PLANS[0], OHEM, 0)
    assert len(tasks) == 2
    for task in tasks:
        np.testing.assert_array_equal(task.photograph.labels, trained)
    np.testing.assert_array_equal(predicted != IGNORE, held_out != IGNORE)


def test_page_shows_the_committed_numbers(project):
    text = (experiment.FOLDER / experiment.TEXT).read_text(encoding="utf-8")
    results = json.loads((experiment.FOLDER / experiment.NUMBERS).read_text(encoding="utf-8"))
    assert text == experiment.describe(results)
    assert "`python -m benchmarks.experiment`" in text
    page = (project / "docs" / "experiment.md").read_text(encoding="utf-8")
    assert all(f"results/{name}" in page for name in FILES[1:])


def test_short_numbers_stay_out_of_the_documentation(capsys):
    with pytest.raises(SystemExit):
        experiment.main(["--short"])
    assert "--short needs --out" in capsys.readouterr().err
