"""
The recipes against values that the real code of each code base returned, and against their own documentation.

`data/golden.json` and `golden.npz` hold inputs, and the loss and the gradient that the code itself gave for them:
PyTorch 2.13, PaddlePaddle 3.3.1 and TensorFlow 2.21 on a CPU; "port" is a CUDA kernel rewritten by hand.
"""

import json
import pickle
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ohemloss
from ohemloss import recipes
from tests._cases import make_small, tolerance
from tests._reference import interpolate

DATA = Path(__file__).parent / "data"
GOLDEN = json.loads((DATA / "golden.json").read_text(encoding="utf-8"))
ARRAYS = np.load(DATA / "golden.npz")

# The cases that no recipe can do, with the reason.
WITHOUT_A_RECIPE = {
    "078": "its threshold comes from a copy of the probabilities that is resized by a spline, on the CPU",
}
LIBRARIES = ["numpy", "strict", "torch", "jax"]


def cross_entropy(variant, p, labels, n_classes):
    """Build the criterion of a case from its parameters."""
    w = ARRAYS[p["class_weight"]].tolist() if "class_weight" in p else None
    kept = p.get("min_kept")
    frequency = np.bincount(labels[labels != 255], minlength=n_classes) / max((labels != 255).sum(), 1)
    enet = (1 / np.log(1.02 + frequency)).tolist()
    makers = {
        "bisenet": lambda: recipes.bisenet(p.get("thresh", 0.7)),
        "sithu31296": lambda: recipes.semseg(weight=w),
        "bisenet_old": lambda: recipes.bisenet_old(0.7, p["n_min"]),
        "stdc": lambda: recipes.stdc(0.7, p["n_min"]),
        "stdc_weighted": lambda: recipes.stdc(0.7, p["n_min"], weight=enet),
        "hrnet": lambda: recipes.hrnet(255, p.get("thres", 0.7), kept, w),
        "mmseg1_OhemCrossEntropy": lambda: recipes.mmseg_ohem(255, 0.7, kept),
        "panoptic_deeplab_OhemCE": lambda: recipes.panoptic_deeplab_ohem(255, 0.7, kept),
        "pidnet": lambda: recipes.pidnet(255, 0.7, kept),
        "torchseg": lambda: recipes.torchseg(255, 0.6, kept, w),
        **dict.fromkeys(("torchsemiseg", "unimatch", "u2pl"), lambda: recipes.torchseg(255, 0.7, kept)),
        "tramac": lambda: recipes.tramac(255, 0.6, kept),
        "ocnet": lambda: recipes.ocnet(255, 0.6, kept),
        "mmseg1_sampler": lambda: recipes.mmseg(p.get("thresh"), kept, w, p.get("avg_non_ignore", False)),
        "mmseg0_sampler": lambda: recipes.mmseg(p.get("thresh"), kept, w),
        "detectron2_DeepLabCE": lambda: recipes.deeplab_ce(255, 0.2, w),
        "nnunet_topk": lambda: recipes.nnunet_topk(w, 255),
        "xmem_bootstrapped": lambda: recipes.xmem(p["it"], ignore_index=255),
        "semseg_bootstrapped": lambda: recipes.pytorch_semseg(p["K"], w, 255),
        "seamseg": lambda: recipes.seamseg(),
        "regseg": lambda: recipes.regseg(p["min_K"]),
        "aot": lambda: recipes.aot(p["step"]),
        "supergradients_ce": lambda: recipes.super_gradients(ignore_lb=255, **p),
        "luxonis_ce": lambda: recipes.luxonis(),
        "paddleseg_ohem": lambda: recipes.paddleseg(min_kept=kept),
        "paddleseg_probohem": lambda: recipes.paddleseg(min_kept=kept, eps=0.0),
        "paddleseg_edge": lambda: recipes.paddleseg(min_kept=kept, eps=1e-10),
        "paddleseg_ce_topk": lambda: recipes.paddleseg_ce(w, top_k_percent_pixels=p["top_k_percent_pixels"]),
        "paddleseg_bootstrapped": lambda: recipes.paddleseg_bootstrapped(p["min_K"], 0.3, w),
        "pytorch_loss_port": lambda: recipes.pytorch_loss(weight=w),
        "tf_deeplab": lambda: recipes.tf_deeplab(
            p["top_k_percent_pixels"], p.get("hard_example_mining_step", 0), p.get("step", 0), weight=w
        ),
        "deeplab2_topk": lambda: recipes.deeplab2(p["top_k_percent_pixels"]),
        **dict.fromkeys(("ssd_amdegroot", "ssd_torchvision", "ssd_mmdet"), recipes.ssd),
        "ssd_supergradients": lambda: replace(
            recipes.ssd(), reduction="sum", rule=ohemloss.MiningRule(per_image="select")
        ),
    }
    return makers[variant]()


# What is here by name that is no recipe.
RECIPES = [name for name in recipes.__all__ if name != "per_gpu"]
BINARY = ("supergradients_bce", "luxonis_bce", "db_balance_bce")
CASES = [case for case in GOLDEN["cases"] if case["id"] not in WITHOUT_A_RECIPE]
SOFTMAX = [case for case in CASES if case["variant"] not in BINARY]


def _id(case):
    return f"{case['id']}-{case['variant']}-{case['input']}"


@pytest.mark.only_library(*LIBRARIES)
@pytest.mark.rows("case", SOFTMAX, ids=_id)
def test_golden(library, case):
    logits, labels = ARRAYS[f"{case['input']}.logits"], ARRAYS[f"{case['input']}.labels"]
    if case["input"].startswith("D"):
        labels = labels[:, None]
    anchors = case["input"] == "E.anchors"
    criterion = cross_entropy(case["variant"], case["params"], labels, logits.shape[-1 if anchors else 1])
    options = {"positives": library.asarray(labels > 0)} if anchors else {}
    if "pixel_weight" in case["params"]:
        options["pixel_weight"] = library.asarray(ARRAYS[case["params"]["pixel_weight"]])
    x, y = library.asarray(logits), library.asarray(labels)
    value, grad = criterion.value_and_grad(x, y, **options)
    compare(case, library.numpy(value), library.numpy(grad))


def compare(case, value, grad):
    """Compare with the recorded numbers; NaN of an empty selection is 0 with us."""
    rtol = 5e-5 if case["input"].endswith((".ties", ".easy")) else 1e-5
    expected = float(case["loss"])
    np.testing.assert_allclose(value, 0.0 if np.isnan(expected) else expected, rtol=rtol)
    grad = grad.astype(np.float64)
    if np.isnan(expected):
        assert not grad.any()
        return
    scale = max(case["grad_abs_sum"], 1e-12)
    np.testing.assert_allclose(np.abs(grad).sum(), case["grad_abs_sum"], rtol=rtol)
    np.testing.assert_allclose(grad.sum(), case["grad_sum"], atol=rtol * scale)
    if case.get("positions_ambiguous"):
        return  # which of several equal pixels is kept depends on the library there; with us they share
    np.testing.assert_allclose(np.square(grad).sum(), case["grad_sq_sum"], rtol=rtol)
    probe = np.random.default_rng(12345).standard_normal(grad.shape)
    np.testing.assert_allclose((grad * probe).sum(), case["grad_dot_probe"], atol=rtol * scale)
    key = f"case{case['id']}.grad"
    if key in ARRAYS:
        np.testing.assert_allclose(grad, ARRAYS[key], rtol=rtol, atol=rtol * np.abs(ARRAYS[key]).max())


BINARY_CASES = [case for case in CASES if case["variant"] in BINARY]


@pytest.mark.rows("case", BINARY_CASES, ids=_id)
def test_golden_binary(library, case):
    logits, labels = ARRAYS[f"{case['input']}.logits"], ARRAYS[f"{case['input']}.labels"]
    x, y = library.asarray(logits), library.asarray(labels)
    if case["variant"] != "db_balance_bce":
        make = recipes.super_gradients_bce if case["variant"] == "supergradients_bce" else recipes.luxonis_bce
        value, grad = make().value_and_grad(x, y)
        compare(case, library.numpy(value), library.numpy(grad))
        return
    # Of the loss of each element, which is the user's own.
    z = logits[:, 0].astype(np.float64)
    losses = library.asarray(np.where(labels > 0, np.log1p(np.exp(-z)), np.log1p(np.exp(z))).astype(np.float32))
    mean = lambda losses: recipes.db()(losses, positives=library.asarray(labels > 0))
    value, differentiate = library.numpy(mean(losses)), library.differentiate(mean)
    np.testing.assert_allclose(value, case["loss"], rtol=1e-5)
    if differentiate is not None:
        slope = library.numpy(differentiate(losses)).astype(np.float64)
        compare(case, value, (slope * (1 / (1 + np.exp(-z)) - labels))[:, None])


def test_every_case_has_a_recipe_or_a_reason():
    """The one that has none is that of the toolbox, and nothing else is left out."""
    left_out = {case["id"]: case["variant"] for case in GOLDEN["cases"]}
    for case in (*SOFTMAX, *BINARY_CASES):
        del left_out[case["id"]]
    assert left_out == {"078": "toolbox_factor8"}
    assert set(left_out) == set(WITHOUT_A_RECIPE)


NEEDED = {
    "aot": {"step": 0},
    "bisenet_old": {"thresh": 0.7, "n_min": 5},
    "paddleseg_bootstrapped": {"min_K": 5, "loss_th": 0.3},
    "pytorch_semseg": {"K": 5},
    "regseg": {"min_K": 5},
    "stdc": {"thresh": 0.7, "n_min": 5},
    "xmem": {"it": 30000},
}


@pytest.mark.parametrize("name", RECIPES)
def test_is_a_documented_value(name):
    """Compared, hashed and pickled by what it says, so that a compiler knows it again."""
    make = getattr(recipes, name)
    assert make.__doc__.strip().startswith("Mine like ")
    assert all(part in make.__doc__ for part in ("Formula: ", "Source: ", "Differs: "))
    first, second = make(**NEEDED.get(name, {})), make(**NEEDED.get(name, {}))
    assert first == second
    assert hash(first) == hash(second)
    assert pickle.loads(pickle.dumps(first)) == first


@pytest.mark.only_library(*LIBRARIES)
@pytest.mark.rows("name", [name for name in RECIPES if name not in ("db", "ssd")])
def test_all_ignored_and_tiny(library, name):
    """Where the code itself is NaN or raises: 0, with a gradient of 0; a batch smaller than any count is no error."""
    criterion = getattr(recipes, name)(**NEEDED.get(name, {}))
    logits = np.asarray([[[2.0, 0.5]], [[0.0, -1.0]]], np.float32)
    if name.endswith("bce"):
        x, y = library.asarray(logits), library.asarray(np.zeros(logits.shape, np.uint8))
        found, (some, _) = (criterion.value_and_grad(x, y, where=library.asarray(logits > least)) for least in (9, 1))
    else:
        x, ignored = library.asarray(logits.transpose(0, 2, 1)), criterion.ignore_index % 256
        criterion = replace(criterion, ignore_index=ignored)
        labels = [np.asarray([[first], [ignored]]) for first in (ignored, 0)]
        found, (some, _) = (criterion.value_and_grad(x, library.asarray(y)) for y in labels)
    assert float(library.numpy(found[0])) == 0
    assert not library.numpy(found[1]).any()
    assert np.isfinite(library.numpy(some))


def table():
    """Make the table of docs/recipes.md from the docstrings."""
    rows = ["| call | mines like | source | what differs |", "| --- | --- | --- | --- |"]
    for name in RECIPES:
        first, *rest = [" ".join(part.split()) for part in getattr(recipes, name).__doc__.strip().split("\n\n")]
        parts = {key: part.partition(": ")[2] for part in rest for key in ("Source", "Differs") if part.startswith(key)}
        like = first.removeprefix("Mine like ")
        rows.append(f"| `recipes.{name}` | {like} | {parts['Source']} | {parts['Differs']} |")
    return "\n".join(rows).replace("``", "`")


def test_page_says_what_the_docstrings_say(project):
    assert table() in (project / "docs" / "recipes.md").read_text(encoding="utf-8")


@pytest.mark.only_library(*LIBRARIES)
@pytest.mark.rows("align_corners", [False, True])
def test_recipes_that_resize(library, align_corners):
    """HRNet and OCNet interpolate logits of another resolution within the loss."""
    logits, labels = make_small("40% hard", (2, 5, 3, 4), (12, 15), align_corners=align_corners)
    enlarged = library.asarray(interpolate(logits, (12, 15), align_corners=align_corners), "float32")
    x, y = library.asarray(logits, "float32"), library.asarray(labels)
    ocnet = [recipes.ocnet(255, 0.6, 50)] if align_corners else []
    for criterion in (recipes.hrnet(255, 0.6, 50, align_corners=align_corners), *ocnet):
        library.assert_close(criterion(x, y), library.numpy(criterion(enlarged, y)), **tolerance("float32", "value"))


class TestPerGpu:
    """The counts of a recipe for each device."""

    @pytest.mark.parametrize(
        ("criterion", "kept"),
        [
            (recipes.hrnet(min_kept=10), [10, 40, 99]),
            (recipes.torchseg(min_kept=10), [10, 40, 120]),
            (recipes.paddleseg(min_kept=10), [9, 39, 100]),
            (ohemloss.OhemCELoss(min_kept=7), [7, 28, 84]),
        ],
        ids=lambda value: None,
    )
    def test_counts(self, criterion, kept):
        quota: Any = recipes.per_gpu(criterion).min_kept
        found = [quota(_counts(devices)) for devices in (1, 4, 12)]
        assert found == kept

    @pytest.mark.parametrize("name", ["deeplab_ce", "mmseg", "nnunet_topk", "seamseg", "ssd", "super_gradients"])
    def test_parts_stay(self, name):
        criterion = getattr(recipes, name)()
        assert recipes.per_gpu(criterion) is criterion

    def test_alone_it_changes_nothing(self):
        logits, labels = ARRAYS["A.mixed.logits"], ARRAYS["A.mixed.labels"]
        criterion = recipes.hrnet(ignore_label=255, min_kept=50)
        assert recipes.per_gpu(criterion)(logits, labels) == criterion(logits, labels)

    def test_refused(self):
        message = "`criterion` must have the `min_kept` of a recipe, or a number: got <built-in function len>. Multiply"
        with pytest.raises(TypeError, match=f"^{re.escape(message)} by `Counts.devices` in the function\\.$"):
            recipes.per_gpu(ohemloss.OhemCELoss(min_kept=len))


def _counts(devices):
    engine: Any = None  # of numbers it needs none
    return ohemloss.Counts(all=200, valid=100, images=2, positives=0, devices=devices, _engine=engine)
