"""The text of the experiment: a template, and the numbers for its gaps."""

from pathlib import Path
from typing import Any

from . import _files, _tables
from ._phrases import compare, listed, mean, percent, power
from ._plan import CELL, FLOAT64, JAX, LOSSES, OHEM, PLAIN, TORCH
from ._scene import FINE
from ._types import Found, Judged

_VISIBLE = 0.005  # in two digits
TEMPLATE = Path(__file__).with_name("text.md")


def text(found: Found) -> str:
    """Write it in Markdown, from the second level of headings on."""
    gaps = _setting(found) | _plan(found) | _libraries(found) | _classes(found) | _controls(found) | _end(found)
    return TEMPLATE.read_text(encoding="utf-8").format(**gaps)


def _setting(found: Found) -> dict[str, Any]:
    pixels, classes = found["pixels"], found["classes"]
    height, width = pixels["size"]
    rare = [one["name"] for one in classes if one["rare"]]
    return {
        "width": width,
        "height": height,
        "n_pixels": f"{height * width:,}",
        "n_labelled": f"{pixels['labelled'][0]:,}",
        "n_training": " and ".join(f"{n:,}" for n in pixels["training"]),
        "n_classes": len(classes),
        "n_rare": len(rare),
        "rare_names": listed(rare),
        "n_features": found["model"]["features"],
        "n_weights": f"{found['model']['weights']:,}",
        "cell": CELL,
        "colour_cell": CELL // FINE,
    }


def _plan(found: Found) -> dict[str, Any]:
    plan, options, rates = found["plan"], found["options"][OHEM], found["rates"]
    return {
        **{name: plan[name] for name in ("block", "margin", "steps", "momentum", "trials", "seeds")},
        "rare": percent(plan["rare"]),
        "rates": listed([f"{rate:g}" for rate in plan["rates"]]),
        "n_rates": len(plan["rates"]),
        "plain_rate": f"{rates[PLAIN]:g}",
        "ohem_rate": f"{rates[OHEM]:g}",
        "thresh": f"{options['thresh']:g}",
        "one_in": f"{1 / options['min_kept']:g}",
    }


def _libraries(found: Found) -> dict[str, Any]:
    compared = [found["libraries"][loss]["differences"] for loss in LOSSES]
    return {
        "curves": _files.CURVES,
        "largest": power(max(max(one[name]) for one in compared for name in (TORCH, JAX))),
        "rounding": power(max(max(one[FLOAT64]) for one in compared)),
        "libraries": _tables.libraries(found),
    }


def _classes(found: Found) -> dict[str, Any]:
    plain, ohem = (found["seeds"][loss] for loss in LOSSES)
    mined = found["mined"]
    names = [one["name"] for one in found["classes"]]
    lower = [name for i, name in enumerate(names) if mean(_of_class(ohem, i), "iou") < mean(_of_class(plain, i), "iou")]
    return {
        "classes": _files.CLASSES,
        "masks": _files.MASKS,
        "rare_iou": compare(plain, ohem, "rare_iou"),
        "mean_iou": compare(plain, ohem, "mean_iou"),
        "losers": listed(lower),
        "outcome": _tables.outcome(found),
        "rare_of_all": percent(mined[PLAIN]["rare_of_all"]),
        "rare_of_plain": percent(mined[PLAIN]["rare"]),
        "rare_of_ohem": percent(mined[OHEM]["rare"]),
    }


def _of_class(judged: list[Judged], i: int) -> list[Judged]:
    return [{"iou": one["iou"][i]} for one in judged]


def _controls(found: Found) -> dict[str, Any]:
    plain, ohem = (found["tried"][loss] for loss in LOSSES)

    def wins(name: str) -> int:
        return sum(mean(b, name) > mean(a, name) for a, b in zip(plain, ohem, strict=True))

    return {
        "controls": _tables.controls(found),
        "rare_wins": wins("rare_iou"),
        "all_wins": wins("mean_iou"),
        "more_steps": _more_steps(found),
    }


def _more_steps(found: Found) -> str:
    """Say how much of what mining gives more steps give, too."""
    n, times = found["plan"]["trials"], found["plan"]["longer"]
    plain, ohem = (mean(found["seeds"][loss][:n], "rare_iou") for loss in LOSSES)
    long_plain, long_ohem = (mean(found["longer"][loss], "rare_iou") for loss in LOSSES)
    moved = (
        f"With {times} times as many steps the IoU of the rare classes goes from {plain:.2f} to {long_plain:.2f} with "
        f"plain cross-entropy, and from {ohem:.2f} to {long_ohem:.2f} with OHEM."
    )
    if ohem - plain < _VISIBLE:
        return moved
    share = (long_plain - plain) / (ohem - plain)
    return f"{moved} So more steps of plain cross-entropy give {percent(share)} of what mining gave without them."


def _end(found: Found) -> dict[str, Any]:
    return {
        "seconds": f"{found['seconds']['all']:.0f}",
        "processor": found["machine"]["processor"],
        "versions": listed([f"{name} {version}" for name, version in found["versions"].items()]),
    }
