"""The experiment: three libraries take the same steps, held-out pixels stay out, and the text says what was counted."""

import copy
import dataclasses
import json
import os
import re
import sys

import numpy as np
import pytest

pytest.importorskip("benchmarks", reason="the sources are not here")
for _name in ("torch", "jax", "imgviz", "matplotlib", "rich"):
    pytest.importorskip(_name)

from benchmarks import experiment
from benchmarks.experiment import (
    __main__ as command,
)
from benchmarks.experiment import (
    _files,
    _fragment,
    _in_jax,
    _in_numpy,
    _in_torch,
    _jobs,
    _key,
    _metrics,
    _phrases,
    _scene,
    _task,
    _trials,
)
from benchmarks.experiment._judgement import Judge
from benchmarks.experiment._plan import LIBRARIES, LOSSES, OHEM, PLAIN, QUICK
from benchmarks.experiment._task import Job

TRAIN = {"numpy": _in_numpy.train, "torch": _in_torch.train, "jax": _in_jax.train}
IGNORE = 255


@pytest.fixture(scope="module")
def scene():
    return _scene.load(QUICK)


def task_of(scene, loss, *, steps=2, dtype="float32", **other):
    return _task.make(scene, QUICK, Job(loss, 0.1, steps, dtype=dtype, **other))


# Relative to the largest number of an array: sums of some ten thousand products, in another order.
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


class TestTraining:
    @pytest.mark.parametrize(("loss", "dtype"), [(PLAIN, "float32"), (OHEM, "float32"), (OHEM, "float64")])
    def test_libraries_take_the_same_steps(self, scene, loss, dtype):
        task = task_of(scene, loss, dtype=dtype)
        before = copy.deepcopy(task.weights)
        first, *others = (TRAIN[library](task) for library in LIBRARIES)
        for other in others:
            np.testing.assert_allclose(other.losses, first.losses, rtol=TOLERANCE[dtype])
            assert set(other.weights) == set(first.weights)
            for name, weight in first.weights.items():
                assert other.weights[name].dtype == weight.dtype == dtype
                scale = np.max(np.abs(weight))
                np.testing.assert_allclose(other.weights[name], weight, rtol=0, atol=TOLERANCE[dtype] * scale)
        for name, weight in before.items():  # the next one begins with them, too
            np.testing.assert_array_equal(task.weights[name], weight)

    def test_each_weight_moves(self, scene):
        """By more than the tolerance above, or equal weights would say little."""
        task = task_of(scene, OHEM)
        for name, weight in _in_numpy.train(task).weights.items():
            assert np.max(np.abs(weight - task.weights[name])) > 1e-3

    def test_losses_differ(self, scene):
        """As soon as the model is sure of some pixels, plain cross-entropy and OHEM are two things."""
        plain, ohem = (_in_numpy.train(task_of(scene, loss)).losses for loss in LOSSES)
        assert ohem[0] > plain[0] * 1.001

    def test_all_begin_with_the_same_weights(self, scene):
        weights = _task.initial_weights(scene, seed=3)
        task = task_of(scene, PLAIN, seed=3)
        module = dict(_in_torch.Model(task.weights).named_parameters())
        assert list(module) == list(weights)
        for name, weight in weights.items():
            assert weight.dtype == np.float32
            np.testing.assert_array_equal(task.weights[name], weight)
            np.testing.assert_array_equal(module[name].detach().numpy(), weight)

    def test_seeds(self, scene):
        same, again, other = (_task.initial_weights(scene, seed)["mix.weight"] for seed in (1, 1, 2))
        np.testing.assert_array_equal(same, again)
        assert not np.any(same == other)

    def test_momentum_and_rate_by_hand(self, scene, monkeypatch):
        """With a gradient of 1 everywhere: v = 1, then 0.9 + 1; the rate falls from 0.1 to 0.05."""
        task = task_of(scene, PLAIN)
        ones = {name: np.ones_like(weight) for name, weight in task.weights.items()}
        monkeypatch.setattr(_in_numpy.Model, "backward", lambda self, weights, slope: ones)
        for name, weight in _in_numpy.train(task).weights.items():
            np.testing.assert_allclose(weight, task.weights[name] - 0.1 * 1 - 0.05 * 1.9, rtol=1e-5, atol=1e-6)


class TestBackward:
    """The hand-written one, by finite differences, on a task of a few numbers."""

    @pytest.fixture
    def small(self):
        rng = np.random.default_rng(0)
        shapes = {"reduce": (4, 5, 1, 1), "mix": (3, 6, 3, 3), "classify": (3, 3, 1, 1)}
        weights = {f"{name}.weight": rng.standard_normal(shape) for name, shape in shapes.items()}
        weights |= {f"{name}.bias": rng.standard_normal(shape[0]) for name, shape in shapes.items()}
        labels = rng.integers(0, 3, (24, 32)).astype(np.uint8)
        labels[:3] = IGNORE
        features, colours = rng.standard_normal((5, 3, 4)), rng.standard_normal((2, 6, 8))
        return _task.Task(features, colours, labels, weights, PLAIN, [0.1], 0.9)

    @pytest.mark.parametrize("part", ["reduce", "mix", "classify"])
    @pytest.mark.parametrize("kind", ["weight", "bias"])
    def test_finite_differences(self, small, part, kind):
        model, name = _in_numpy.Model(small), f"{part}.{kind}"
        _, slope = _in_numpy.value_and_slope(small, model.logits(small.weights))
        gradient = model.backward(small.weights, slope)[name]
        assert gradient.shape == small.weights[name].shape
        for place in np.ndindex(gradient.shape):
            step = np.zeros_like(gradient)
            step[place] = 1e-6
            up, down = (
                _in_numpy.value_and_slope(
                    small, model.logits(small.weights | {name: small.weights[name] + sign * step})
                )[0]
                for sign in (1, -1)
            )
            assert gradient[place] == pytest.approx((up - down) / 2e-6, rel=1e-5, abs=1e-8)

    def test_enlargement_keeps_a_plane(self):
        """Bilinear enlargement of numbers on a line is that line, but for the ends, where it is level."""
        small = np.arange(4.0)
        large = _in_numpy._hats(4, 8) @ small
        np.testing.assert_allclose(large, [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3])


class TestHeldOut:
    def test_squares_of_a_small_board(self):
        plan = dataclasses.replace(QUICK, block=4, margin=1)
        white = _scene.squares((4, 9), plan, 0)
        expected = ["000000000", "011000000", "011000000", "000000000"]
        np.testing.assert_array_equal(white, [[cell == "1" for cell in row] for row in expected])
        black = _scene.squares((4, 9), plan, 1)
        np.testing.assert_array_equal(black[1], [cell == "1" for cell in "000001100"])

    def test_training_and_held_out_are_apart(self, scene):
        """By twice the margin, in every direction along the axes."""
        trained, held_out = (
            labels_of(scene.labels, QUICK, 0) != IGNORE
            for labels_of in (_scene.training_labels, _scene.held_out_labels)
        )
        assert np.sum(trained) > 5_000
        assert np.sum(held_out) > 5_000
        for axis in (0, 1):
            for shift in range(2 * QUICK.margin + 1):
                assert not np.any(trained & np.roll(held_out, shift, axis) & _not_wrapped(trained.shape, shift, axis))
            shift = 2 * QUICK.margin + 1
            assert np.any(trained & np.roll(held_out, shift, axis) & _not_wrapped(trained.shape, shift, axis))

    def test_folds_swap(self, scene):
        np.testing.assert_array_equal(
            _scene.training_labels(scene.labels, QUICK, 0), _scene.held_out_labels(scene.labels, QUICK, 1)
        )

    @pytest.mark.parametrize("fold", _scene.FOLDS)
    def test_held_out_labels_never_enter_the_training(self, scene, fold):
        trained = _scene.squares(scene.labels.shape, QUICK, fold)
        others = np.where(trained, scene.labels, (scene.labels + 1) % len(scene.names)).astype(np.uint8)
        assert np.mean(others != scene.labels) > 0.5
        losses = [
            _in_numpy.train(task_of(dataclasses.replace(scene, labels=labels), OHEM, fold=fold)).losses
            for labels in (scene.labels, others)
        ]
        assert losses[0] == losses[1]

    def test_labels_to_train_on_do(self, scene):
        trained = _scene.squares(scene.labels.shape, QUICK, 0)
        others = np.where(trained & (scene.labels == 8), 0, scene.labels).astype(np.uint8)
        losses = [
            _in_numpy.train(task_of(dataclasses.replace(scene, labels=labels), OHEM)).losses
            for labels in (scene.labels, others)
        ]
        assert losses[0][0] != losses[1][0]

    def test_inputs_know_no_labels(self, scene):
        for array in (scene.features, scene.colours):
            np.testing.assert_allclose(np.mean(array, axis=(1, 2)), 0, atol=1e-5)
            np.testing.assert_allclose(np.std(array, axis=(1, 2)), 1, atol=1e-3)
        height, width = scene.labels.shape
        assert scene.features.shape[1:] == (height // 16, width // 16)
        assert scene.colours.shape == (3, height // 8, width // 8)


def _not_wrapped(shape, shift, axis):
    inside = np.ones(shape, dtype=bool)
    inside[(slice(None),) * axis + (slice(0, shift),)] = False
    return inside


class TestMetrics:
    LABELS = np.asarray([[0, 0, 0, 1], [1, 2, IGNORE, IGNORE]], dtype=np.uint8)
    PREDICTED = np.asarray([[0, 0, 1, 1], [0, 1, 2, 3]], dtype=np.uint8)

    def test_by_hand(self):
        counts = _metrics.confusion(self.LABELS, self.PREDICTED, 4)
        np.testing.assert_array_equal(counts, [[2, 1, 0, 0], [1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]])
        np.testing.assert_allclose(_metrics.iou(counts), [2 / 4, 1 / 4, 0, np.nan])
        np.testing.assert_allclose(_metrics.recall(counts), [2 / 3, 1 / 2, 0, np.nan])

    @pytest.fixture
    def judge(self, scene):
        return Judge(scene, QUICK)

    def outcomes(self, scene, pixels_of):
        """Predict right on some pixels of each fold, and wrong elsewhere."""
        right = np.where(scene.labels == IGNORE, 0, scene.labels)
        wrong = (right + 1) % len(scene.names)
        for fold in _scene.FOLDS:
            known = pixels_of(scene.labels, QUICK, fold) != IGNORE
            yield _jobs.Outcome([3.0, 2.0 + fold], np.where(known, right, wrong).astype(np.uint8), known, 0.0)

    def test_held_out_squares_are_judged(self, scene, judge):
        found = judge(list(self.outcomes(scene, _scene.held_out_labels)))
        assert found["mean_iou"] == found["rare_iou"] == found["rare_recall"] == found["accuracy"] == 1
        assert found["rare_iou_where_trained"] == 0
        assert found["loss"] == 2.5
        assert found["iou"] == found["recall"] == [1, 1, None, None, *[1] * 5]  # no scissors and no socks in this part

    def test_squares_trained_on_are_not(self, scene, judge):
        found = judge(list(self.outcomes(scene, _scene.training_labels)))
        assert found["mean_iou"] == found["rare_iou"] == found["accuracy"] == 0
        assert found["rare_iou_where_trained"] == 1

    def test_rare(self, scene, judge):
        shares = [np.mean(scene.labels[scene.labels != IGNORE] == i) for i in range(len(scene.names))]
        np.testing.assert_allclose(scene.shares(), shares)
        assert judge.rare == [0 < share < 0.06 for share in shares]
        assert sum(judge.rare) == 2

    def test_mined(self, scene, judge):
        """All pixels to train on are mined: the same share of rare ones among them as among all."""
        found = judge.mined(list(self.outcomes(scene, _scene.training_labels)))
        assert found["share"] == 1
        assert found["rare"] == found["rare_of_all"]
        trained = [_scene.training_labels(scene.labels, QUICK, fold) for fold in _scene.FOLDS]
        rare = sum(np.sum(labels == i) for labels in trained for i in np.flatnonzero(judge.rare))
        assert found["rare"] == rare / sum(np.sum(labels != IGNORE) for labels in trained)


class TestRates:
    def jobs(self, ends):
        outcome = _jobs.Outcome([], np.zeros(0), np.zeros(0), 0.0)
        return {
            Job(loss, rate, QUICK.steps, 0, fold): dataclasses.replace(outcome, losses=[9.0, end])
            for (loss, rate), values in ends.items()
            for fold, end in zip(_scene.FOLDS, values, strict=True)
        }

    def test_each_loss_takes_its_own(self):
        found = self.jobs(
            {(PLAIN, 0.1): (1, 1), (PLAIN, 0.2): (2, 1), (OHEM, 0.1): (0.1, float("nan")), (OHEM, 0.2): (0.5, 0.5)}
        )
        assert [_trials._best_rate(QUICK, loss, found) for loss in LOSSES] == [0.1, 0.2]


class TestWords:
    def test_compare(self):
        before, after = ([{"x": value} for value in values] for values in ((0.1, 0.2, None), (0.3, 0.1, 0.5)))
        assert _phrases.compare(before, after, "x") == "rises from 0.15 to 0.30, and is higher with 1 of 2 seeds"
        assert _phrases.compare(before, before, "x") == "stays from 0.15 to 0.15, and is higher with 0 of 2 seeds"
        assert _phrases.compare(after, before, "x").startswith("falls from 0.30 to 0.15, and is higher with 1 of 2")

    def test_spread(self):
        assert _phrases.spread([{"x": 0.1}, {"x": 0.3}, {"x": None}], "x") == "0.20 (0.10 to 0.30)"
        assert _phrases.spread([{"x": None}], "x") == "none"

    def test_no_number_is_typed(self):
        """Digits of the template are names of things: of dtypes, of kernels, of a year, of a fraction or an option."""
        template = _fragment.TEMPLATE.read_text(encoding="utf-8")
        names = r"\{\w+\}|float32|float64|1x1|3x3|2017|1/(?=\{)|falls to 0|min_kept=1\.0"
        assert re.findall(r"\d+", re.sub(names, "", template, flags=re.IGNORECASE)) == []


class TestKey:
    def test_changes_with_what_it_depends_on(self, tmp_path):
        source = tmp_path / "package" / "_module.py"
        source.parent.mkdir()
        source.write_text("a = 1\n")

        def key(versions={"numpy": "2"}, plan=QUICK):  # noqa: B006
            return _key.digest([source.parent], versions, plan)

        keys = [key(), key({"numpy": "3"}), key(plan=dataclasses.replace(QUICK, steps=4))]
        source.write_text("a = 2\n")
        keys.append(key())
        source.rename(source.with_name("_other.py"))
        keys.append(key())
        assert len(set(keys)) == len(keys)
        cached = source.parent / "__pycache__" / "x.pyc"
        cached.parent.mkdir()
        cached.write_bytes(b"x")
        assert key() == keys[-1]

    def test_looks_at_our_own_sources(self, monkeypatch):
        seen = []
        monkeypatch.setattr(_key, "digest", lambda folders, versions, plan: seen.extend(folders) or "k")
        assert _key.key(QUICK) == "k"
        files = ("_loss.py", "_op.py", "_op.py", "_module.py", "_in_numpy.py")
        assert [(folder / name).is_file() for folder, name in zip(seen, files, strict=True)] == [True] * 5
        assert set(_key.versions()) >= {"numpy", "torch", "jax", "imgviz"}
        assert _key._version("no-such-package") == "absent"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The whole experiment, few steps on a part of the photograph."""
    folder = tmp_path_factory.mktemp("experiment") / "new"
    command.main(["--quick", "--out", str(folder)])
    return folder


@pytest.fixture(scope="module")
def found(written):
    return json.loads((written / _files.NUMBERS).read_text(encoding="utf-8"))


class TestWritten:
    def test_files(self, written):
        assert sorted(path.name for path in written.iterdir()) == sorted(_files.ALL)
        from matplotlib.image import imread

        for name in (_files.CURVES, _files.CLASSES, _files.MASKS):
            assert len(np.unique(imread(written / name))) > 20

    def test_numbers(self, found):
        assert found["rates"] == dict.fromkeys(LOSSES, 0.2)
        for loss in LOSSES:
            one = found["libraries"][loss]
            assert set(one["losses"]) == {*LIBRARIES, "numpy, float64"}
            for name, differences in one["differences"].items():
                expected = [abs(a / b - 1) for a, b in zip(one["losses"][name], one["losses"]["numpy"], strict=True)]
                assert differences == expected
                assert max(differences) < 1e-5
            assert max(one["differences"]["numpy, float64"]) > 0
            assert [len(found[name][loss]) for name in ("seeds", "longer", "tried")] == [2, 1, 2]
            assert found["seeds"][loss][0] == found["tried"][loss][1][0]
            assert found["longer"][loss][0]["loss"] < found["seeds"][loss][0]["loss"] < one["losses"]["numpy"][0]
        assert found["pixels"]["training"] == found["pixels"]["held_out"][::-1]

    @pytest.mark.parametrize("name", LIBRARIES)
    def test_again_the_same(self, found, name):
        job = Job(OHEM, 0.2, QUICK.steps, library=name)
        assert _jobs.do(QUICK, job).losses == found["libraries"][OHEM]["losses"][name]

    def test_text_is_that_of_the_numbers(self, written, found):
        text = (written / _files.TEXT).read_text(encoding="utf-8")
        assert text == _fragment.text(found)
        assert text.startswith("## ")
        assert set(re.findall(r"\]\(([^)]+)\)", text)) == {_files.CURVES, _files.CLASSES, _files.MASKS}
        largest = max(
            max(found["libraries"][loss]["differences"][name]) for loss in LOSSES for name in ("torch", "jax")
        )
        assert f"by more than {largest:.1e} of its value" in text
        ious = [seed["mean_iou"] for seed in found["seeds"][OHEM]]
        assert f"{sum(ious) / 2:.2f} ({min(ious):.2f} to {max(ious):.2f})" in text

    def test_text_follows_the_numbers(self, found):
        changed = copy.deepcopy(found)
        changed["libraries"][OHEM]["differences"]["jax"][1] = 0.125
        changed["libraries"][PLAIN]["predicted_otherwise"]["torch"] = 4321
        for seed in changed["seeds"][OHEM]:
            seed["rare_iou"] = 0.875
            seed["iou"][0] = 0.0
        changed["longer"][PLAIN][0]["rare_iou"] = changed["seeds"][PLAIN][0]["rare_iou"] = 0.375
        changed["rates"][PLAIN] = 0.1
        text = _fragment.text(changed)
        for part in (
            "more than 1.2e-01",
            "| 4,321 |",
            "to 0.88, and is higher with 2 of 2",
            "with OHEM: background",
            "0.1 for plain",
        ):
            assert part in text, part
        assert "give 0 % of what mining gave" in text

    def test_without_a_gain_nothing_is_said_of_it(self, found):
        changed = copy.deepcopy(found)
        for loss in LOSSES:
            for seed in changed["seeds"][loss]:
                seed["rare_iou"] = 0.5
        assert "of what mining gave" not in _fragment.text(changed)

    def test_numbers_come_last(self, tmp_path, monkeypatch):
        """What was interrupted while it was written is not taken for finished."""
        from benchmarks.experiment import _experiment

        def interrupt(found):
            raise KeyboardInterrupt

        monkeypatch.setattr(_trials, "run", lambda plan, crew, progress: None)
        monkeypatch.setattr(_experiment._results, "collect", lambda judge, trials: {"seconds": {}})
        for name in ("_curves", "_classes", "_masks"):
            monkeypatch.setattr(getattr(_experiment, name), "draw", lambda *arguments: None)
        monkeypatch.setattr(_fragment, "text", interrupt)
        with pytest.raises(KeyboardInterrupt):
            experiment.write(tmp_path, plan=QUICK)
        assert not (tmp_path / _files.NUMBERS).exists()


class TestProcesses:
    def test_jobs_in_a_process(self, monkeypatch):
        """The same numbers from a process of its own, which has one thread; our environment is as it was."""
        monkeypatch.setenv("OMP_NUM_THREADS", "7")
        plan = dataclasses.replace(QUICK, workers=1)
        job = Job(OHEM, 0.1, 2)
        before = dict(os.environ)
        with _jobs.crew(plan) as crew:
            assert os.environ["OMP_NUM_THREADS"] == os.environ["OHEMLOSS_NUM_THREADS"] == "1"  # what a process inherits
            outcomes = dict(crew([job]))
        assert dict(os.environ) == before
        here = _jobs.do(QUICK, job)
        np.testing.assert_allclose(outcomes[job].losses, here.losses, rtol=1e-6)
        assert np.mean(outcomes[job].predicted != here.predicted) < 1e-3


class TestCommand:
    @pytest.fixture
    def runs(self, monkeypatch):
        """Count what would run, and leave what it leaves."""
        calls = []

        def run(folder, plan, key):
            calls.append(key)
            for name in _files.ALL:
                (folder / name).write_text(json.dumps({"key": key}))

        monkeypatch.setattr("benchmarks.experiment._experiment.run", run)
        return calls

    def test_runs_once(self, runs, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(_key, "key", lambda plan: "first")
        out = ["--out", str(tmp_path / "a" / "b")]
        command.main(out)
        assert experiment.write(tmp_path / "a" / "b") == tmp_path / "a" / "b" / "experiment.md"
        assert runs == ["first"]
        assert capsys.readouterr().out.split() == [str(tmp_path / "a" / "b" / name) for name in _files.ALL]
        command.main([*out, "--force"])
        assert runs == ["first", "first"]
        monkeypatch.setattr(_key, "key", lambda plan: "second")
        command.main(out)
        assert runs[2:] == ["second"]

    @pytest.mark.parametrize("name", _files.ALL)
    def test_runs_again_without_a_file(self, runs, tmp_path, monkeypatch, name):
        monkeypatch.setattr(_key, "key", lambda plan: "k")
        experiment.write(tmp_path)
        (tmp_path / name).unlink()
        experiment.write(tmp_path)
        assert len(runs) == 2

    @pytest.mark.parametrize("content", ["", "[]", '{"key": "other"}'])
    def test_runs_again_with_other_numbers(self, runs, tmp_path, monkeypatch, content):
        monkeypatch.setattr(_key, "key", lambda plan: "k")
        experiment.write(tmp_path)
        (tmp_path / _files.NUMBERS).write_text(content)
        experiment.write(tmp_path)
        assert len(runs) == 2

    @pytest.mark.parametrize("missing", [["torch"], ["torch", "jax"]], ids=str)
    def test_without_a_library(self, runs, tmp_path, monkeypatch, capsys, missing):
        for name in missing:
            monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(SystemExit) as error:
            command.main(["--out", str(tmp_path)])
        assert error.value.code == 2
        printed = capsys.readouterr().err
        assert f"not installed: {', '.join(missing)}. In a checkout, `pip install '.[cli,jax,torch]'`" in printed
        assert runs == []

    def test_where_nothing_can_be_written(self, runs, tmp_path, capsys):
        file = tmp_path / "file"
        file.write_text("")
        with pytest.raises(SystemExit) as error:
            command.main(["--out", str(file)])
        assert error.value.code == 2
        assert str(file) in capsys.readouterr().err

    def test_wrong_use(self, capsys):
        with pytest.raises(SystemExit) as error:
            command.main([])
        assert error.value.code == 2
        assert "--out" in capsys.readouterr().err
