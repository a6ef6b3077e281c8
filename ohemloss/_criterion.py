"""The options, fixed once."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from ._compared import ComparedWithTypes
from ._explain import Trace, explain
from ._loss import ohem_cross_entropy, value_and_grad
from ._mining_rule import MiningRule, MinKept
from ._options import Options, Reduction, Resize, check_weight, differs
from ._typing import Array


@dataclass(frozen=True, kw_only=True, eq=False)
class OhemCELoss(ComparedWithTypes):
    """
    Fix the options of `ohem_cross_entropy`, and call it on arrays of any library.

    Parameters
    ----------
    thresh, min_kept, rule, ignore_index, weight, label_smoothing, axis, reduction : optional
        As for `ohem_cross_entropy`.
    resize, align_corners, axis_name, process_group : optional
        As for `ohem_cross_entropy`. With `weight` as a tuple of numbers one criterion serves every library.

    Raises
    ------
    TypeError, ValueError
        If an option has no meaning.

    Examples
    --------
    >>> import array_api_strict as xp
    >>> import ohemloss
    >>> criterion = ohemloss.OhemCELoss(thresh=0.6, min_kept=1)
    >>> criterion
    OhemCELoss(thresh=0.6, min_kept=1)
    >>> loss = criterion(xp.asarray([[0.0, 0.0], [0.0, 4.0]]), xp.asarray([0, 1]))
    >>> round(float(loss), 4)
    0.6931
    """

    thresh: float | Array | None = 0.7
    min_kept: MinKept = 1 / 16
    rule: MiningRule = MiningRule()
    ignore_index: int | None = 255
    weight: Array | Sequence[float] | None = None
    label_smoothing: float = 0.0
    axis: int = 1
    reduction: Reduction = "mean"
    resize: Resize | None = None
    align_corners: bool = False
    axis_name: Any = None
    process_group: Any = None

    def __post_init__(self) -> None:
        """Refuse options that have no meaning before the first batch comes, and keep plain numbers."""
        options = Options(**{field.name: getattr(self, field.name) for field in fields(Options)})
        for field in fields(Options):
            object.__setattr__(self, field.name, getattr(options, field.name))
        object.__setattr__(self, "weight", check_weight(self.weight))

    def __call__(
        self, logits: Array, labels: Array, *, pixel_weight: Array | None = None, positives: Array | None = None
    ) -> Array:
        """
        Compute the loss.

        Parameters
        ----------
        logits, labels, pixel_weight, positives : array
            As for `ohem_cross_entropy`.

        Returns
        -------
        array
            As `ohem_cross_entropy` returns it.
        """
        return ohem_cross_entropy(logits, labels, pixel_weight=pixel_weight, positives=positives, **self._options())

    def value_and_grad(
        self, logits: Array, labels: Array, *, pixel_weight: Array | None = None, positives: Array | None = None
    ) -> tuple[Array, Array]:
        """
        Compute the loss and its gradient with respect to the logits, in closed form.

        Parameters
        ----------
        logits, labels, pixel_weight, positives : array
            As for `ohem_cross_entropy`.

        Returns
        -------
        value : array
            0-d, the loss.
        gradient : array
            As `ohemloss.value_and_grad` returns it.
        """
        return value_and_grad(logits, labels, pixel_weight=pixel_weight, positives=positives, **self._options())

    def explain(
        self, logits: Array, labels: Array, *, pixel_weight: Array | None = None, positives: Array | None = None
    ) -> Trace:
        """
        Compute the loss and keep every step of it.

        Parameters
        ----------
        logits, labels, pixel_weight, positives : array
            As for `ohem_cross_entropy`.

        Returns
        -------
        Trace
            The steps by name.
        """
        return explain(logits, labels, pixel_weight=pixel_weight, positives=positives, **self._options())

    def __repr__(self) -> str:
        """Show what differs from the defaults."""
        return f"{type(self).__name__}({self._changed()})"

    def _changed(self) -> str:
        values = ((field.name, getattr(self, field.name), field.default) for field in fields(self))
        return ", ".join(f"{name}={value!r}" for name, value, default in values if differs(value, default))

    def _options(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}
