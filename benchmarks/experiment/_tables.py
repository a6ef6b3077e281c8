"""The tables of the text."""

from collections.abc import Iterable, Sequence

from ._phrases import mean, power, spread
from ._plan import LIBRARY_NAMES, LOSS_NAMES, LOSSES
from ._types import Found, Judged

_OUTCOME = {
    "rare_iou": "IoU, rare classes",
    "rare_recall": "recall, rare classes",
    "mean_iou": "IoU, all classes",
    "accuracy": "pixels that are right",
    "rare_iou_where_trained": "on the squares trained on: IoU, rare classes",
}
_TENTHS = 10


def libraries(found: Found) -> str:
    """Write how far the libraries are apart, in the first steps, in the last, and at most."""
    head = ("relative to NumPy", "first tenth of the steps", "last tenth", "largest", "other class")
    rows = []
    for loss in LOSSES:
        one = found["libraries"][loss]
        for name, differences in one["differences"].items():
            tenth = -(-len(differences) // _TENTHS)
            parts = (differences[:tenth], differences[-tenth:], differences)
            numbers = [power(max(part)) for part in parts]
            others = f"{one['predicted_otherwise'][name]:,}"
            rows.append([f"{LOSS_NAMES[loss]}, {LIBRARY_NAMES[name]}", *numbers, others])
    return _table(head, rows)


def outcome(found: Found) -> str:
    """Write what both losses lead to, over the seeds."""
    head = ("mean (range) over the seeds", *(LOSS_NAMES[loss] for loss in LOSSES))
    rows = [[text, *(spread(found["seeds"][loss], name) for loss in LOSSES)] for name, text in _OUTCOME.items()]
    return _table(head, rows)


def controls(found: Found) -> str:
    """Write what both losses lead to at other rates, and with more steps."""
    plan, rates = found["plan"], found["rates"]
    head = ["first rate"]
    for loss in LOSSES:
        head += [f"{LOSS_NAMES[loss]}: value", "rare", "all"]
    rows = [
        [f"{rate:g}", *(cell for loss in LOSSES for cell in _cells(found["tried"][loss][i], rate == rates[loss]))]
        for i, rate in enumerate(plan["rates"])
    ]
    longer = [cell for loss in LOSSES for cell in _cells(found["longer"][loss], chosen=True)]
    return _table(head, [*rows, [f"{plan['longer'] * plan['steps']} steps", *longer]])


def _cells(judged: Sequence[Judged], chosen: bool) -> list[str]:
    value, rare, every = (mean(judged, name) for name in ("loss", "rare_iou", "mean_iou"))
    return [f"{value:.3f}{' *' if chosen else ''}", f"{rare:.2f}", f"{every:.2f}"]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table; all columns but the first hold numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
