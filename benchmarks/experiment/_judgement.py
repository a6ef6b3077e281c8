"""How well trained models do on the squares that were held out, and on those that they were trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _metrics
from ._jobs import Outcome
from ._plan import Plan
from ._scene import FOLDS, Scene, held_out_labels, training_labels
from ._types import Counts, Judged, Numbers


@dataclass(frozen=True)
class Judge:
    """Numbers as JSON knows them: what is no number is None."""

    scene: Scene
    plan: Plan

    @property
    def rare(self) -> list[bool]:
        """Tell which classes are rare; one that is not in the picture is none."""
        return [bool(0 < share < self.plan.rare) for share in self.scene.shares()]

    def __call__(self, outcomes: Sequence[Outcome]) -> Judged:
        """Judge the models of the two folds as one: each square by the model that did not see its labels."""
        held_out, seen = (self._count(outcomes, labels_of) for labels_of in (held_out_labels, training_labels))
        iou, recall = _metrics.iou(held_out), _metrics.recall(held_out)
        rare = np.asarray(self.rare)
        return {
            "loss": _number(np.mean([outcome.losses[-1] for outcome in outcomes])),
            "iou": [_number(value) for value in iou],
            "recall": [_number(value) for value in recall],
            "mean_iou": _mean(iou),
            "rare_iou": _mean(iou[rare]),
            "rare_recall": _mean(recall[rare]),
            "accuracy": float(np.trace(held_out) / np.sum(held_out)),
            "rare_iou_where_trained": _mean(_metrics.iou(seen)[rare]),
        }

    def mined(self, outcomes: Sequence[Outcome]) -> Judged:
        """Tell how many pixels OHEM would select, and how many of them are of rare classes."""
        rare = np.flatnonzero(self.rare)
        labels = [training_labels(self.scene.labels, self.plan, fold) for fold in FOLDS]
        chosen = [label[outcome.mined] for label, outcome in zip(labels, outcomes, strict=True)]
        valid = [label[label < len(self.scene.names)] for label in labels]
        n_valid, n_mined = (sum(map(len, parts)) for parts in (valid, chosen))
        rare_valid, rare_mined = (int(sum(np.isin(part, rare).sum() for part in parts)) for parts in (valid, chosen))
        return {"share": n_mined / n_valid, "rare": rare_mined / n_mined, "rare_of_all": rare_valid / n_valid}

    def _count(self, outcomes: Sequence[Outcome], labels_of: Any) -> Counts:
        counts = np.zeros((len(self.scene.names),) * 2, dtype=np.int64)
        for fold, outcome in zip(FOLDS, outcomes, strict=True):
            labels = labels_of(self.scene.labels, self.plan, fold)
            counts += _metrics.confusion(labels, outcome.predicted, len(self.scene.names))
        return counts


def _mean(values: Numbers) -> float | None:
    known = values[~np.isnan(values)]
    return float(np.mean(known)) if len(known) else None


def _number(value: float | np.floating[Any]) -> float | None:
    return float(value) if np.isfinite(value) else None
