"""The binary cross-entropy of the hard elements, and its gradient in closed form."""

from dataclasses import dataclass, fields, replace
from typing import Any

from ._compared import ComparedWithTypes
from ._dtypes import BOOLEAN, FLOATING, INTEGER, compute_dtype
from ._engine import Engine
from ._mining_rule import MiningRule, MinKept
from ._options import Options, Reduction
from ._rule import mining_quota, out_of_range
from ._selection import divide, reduce, select, whole
from ._shapes import check_broadcast
from ._spread import join_of
from ._typing import Array
from ._validation import (
    check_beside,
    check_dtype,
    check_mask,
    check_option_arrays,
    check_rule_for,
    engine_for,
    find_library,
    look,
)


def ohem_binary_cross_entropy(
    logits: Array,
    labels: Array,
    *,
    where: Array | None = None,
    thresh: float | Array | None = 0.7,
    min_kept: MinKept = 1 / 16,
    rule: MiningRule = MiningRule(),
    pixel_weight: Array | None = None,
    positives: Array | None = None,
    reduction: Reduction = "mean",
    axis_name: Any = None,
    process_group: Any = None,
) -> Array:
    r"""
    Compute the binary cross-entropy of the hard elements.

    Parameters
    ----------
    logits : array
        One logit per element, any shape: ``(n, 1, *spatial)`` for two classes, ``(n, c, *spatial)`` for c labels that
        do not exclude each other. float16 or bfloat16 (computed in float32), float32, or float64.
    labels : array
        0 or 1, or a probability between: bool, integer or real floating, the shape of `logits`, or that without its
        second axis if this has length 1.
    where : array, optional
        Bool, the shape of `labels`: the elements that count. Default: all.
    thresh : float, array or None, optional
        An element is hard if its loss is above ``-log(thresh)``: if the probability of its label is below `thresh`.
        Default: 0.7.
    min_kept : int, float, array or callable, optional
        As for `ohem_cross_entropy`. Default: 1/16.
    rule : MiningRule, optional
        As for `ohem_cross_entropy`.
    pixel_weight : array, optional
        One weight per element, real floating; the shape of `labels`, or one that broadcasts to it. Default: 1.
    positives : array, optional
        Bool, the shape of `labels`: elements that are selected in any case, and do not compete.
    reduction : {"mean", "sum", "none"}, optional
        As for `ohem_cross_entropy`. Default: "mean".
    axis_name, process_group : optional
        As for `ohem_cross_entropy`.

    Returns
    -------
    array
        As `ohem_cross_entropy` returns it; in the shape of `labels` for "none".

    Raises
    ------
    TypeError, ValueError
        As for `ohem_cross_entropy`; also for a label that counts and is not in [0, 1].

    Notes
    -----
    With the logit :math:`x_i`, the label :math:`y_i` and the weight :math:`u_i` of element :math:`i`,

    .. math::

        \ell_i = u_i \bigl(y_i \log(1 + e^{-x_i}) + (1 - y_i) \log(1 + e^{x_i})\bigr), \qquad
        \frac{\partial \ell_i}{\partial x_i} = u_i \Bigl(\frac{1}{1 + e^{-x_i}} - y_i\Bigr).

    Ties, NaN, and an empty selection are treated as `ohem_cross_entropy` treats them.

    Examples
    --------
    >>> import array_api_strict as xp
    >>> import ohemloss
    >>> logits, labels = xp.asarray([[0.0, 4.0, 2.0]]), xp.asarray([[1, 1, 255]])
    >>> round(float(ohemloss.ohem_binary_cross_entropy(logits, labels, where=labels < 2)), 4)
    0.6931
    """
    options = Options(
        thresh=thresh,
        min_kept=min_kept,
        rule=rule,
        reduction=reduction,
        axis_name=axis_name,
        process_group=process_group,
    )
    call = _Call.prepare(logits, labels, where, pixel_weight, positives, options)
    value, _ = call.run()
    return value


@dataclass(frozen=True, kw_only=True, eq=False)
class OhemBCELoss(ComparedWithTypes):
    """
    Fix the options of `ohem_binary_cross_entropy`, and call it on arrays of any library.

    Parameters
    ----------
    thresh, min_kept, rule, reduction, axis_name, process_group : optional
        As for `ohem_binary_cross_entropy`.

    Raises
    ------
    TypeError, ValueError
        If an option has no meaning.

    Examples
    --------
    >>> import array_api_strict as xp
    >>> import ohemloss
    >>> value, gradient = ohemloss.OhemBCELoss().value_and_grad(xp.asarray([0.0, 4.0]), xp.asarray([1, 1]))
    >>> gradient
    Array([-0.5,  0. ], dtype=array_api_strict.float64)
    """

    thresh: float | Array | None = 0.7
    min_kept: MinKept = 1 / 16
    rule: MiningRule = MiningRule()
    reduction: Reduction = "mean"
    axis_name: Any = None
    process_group: Any = None

    def __post_init__(self) -> None:
        """Refuse options that have no meaning before the first batch comes."""
        options = Options(**self._options())
        for name in self._options():
            object.__setattr__(self, name, getattr(options, name))

    def __call__(
        self,
        logits: Array,
        labels: Array,
        *,
        where: Array | None = None,
        pixel_weight: Array | None = None,
        positives: Array | None = None,
    ) -> Array:
        """
        Compute the loss.

        Parameters
        ----------
        logits, labels, where, pixel_weight, positives : array
            As for `ohem_binary_cross_entropy`.

        Returns
        -------
        array
            As `ohem_binary_cross_entropy` returns it.
        """
        return ohem_binary_cross_entropy(
            logits, labels, where=where, pixel_weight=pixel_weight, positives=positives, **self._options()
        )

    def value_and_grad(
        self,
        logits: Array,
        labels: Array,
        *,
        where: Array | None = None,
        pixel_weight: Array | None = None,
        positives: Array | None = None,
    ) -> tuple[Array, Array]:
        """
        Compute the loss and its gradient with respect to the logits, in closed form.

        Parameters
        ----------
        logits, labels, where, pixel_weight, positives : array
            As for `ohem_binary_cross_entropy`.

        Returns
        -------
        value : array
            0-d, the loss.
        gradient : array
            The shape, dtype, library and device of `logits`.
        """
        if self.reduction == "none":
            msg = "`reduction` of value_and_grad must be 'mean' or 'sum', so that the value is a number: got 'none'."
            raise ValueError(msg)
        call = _Call.prepare(logits, labels, where, pixel_weight, positives, Options(**self._options()))
        value, cotangents = call.run()
        return value, call.gradient(cotangents)

    def _options(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class _Call:
    """One call: validated arguments, with logits in the dtype of the loss and the shape of the labels."""

    engine: Engine
    logits: Array
    x: Array
    y: Array
    valid: Array
    scales: Array
    positives: Array | None
    options: Options

    @staticmethod
    def prepare(
        logits: Array,
        labels: Array,
        where: Array | None,
        pixel_weight: Array | None,
        positives: Array | None,
        options: Options,
    ) -> "_Call":
        library = find_library("logits", logits)
        engine = replace(engine_for(library, logits), join=join_of(library, options.axis_name, options.process_group))
        xp, dtype = engine.xp, compute_dtype(engine.xp, logits.dtype)
        check_dtype(library, "logits", logits, FLOATING, "a real floating")
        check_beside(library, "labels", labels, "logits", logits)
        check_dtype(library, "labels", labels, BOOLEAN + INTEGER + FLOATING, "a boolean, integer or real floating")
        check_option_arrays(library, options.arrays(), "logits", logits)
        x = _in_shape_of(engine, logits, labels)
        for name, mask in (("where", where), ("positives", positives)):
            if mask is not None:
                check_mask(library, name, mask, "labels", labels)
        check_rule_for(options.rule, "labels", labels, positives)
        if pixel_weight is not None:
            check_beside(library, "pixel_weight", pixel_weight, "logits", logits)
            check_dtype(library, "pixel_weight", pixel_weight, FLOATING, "a real floating")
            check_broadcast(pixel_weight, labels)
        y = xp.astype(labels, dtype)
        valid = (y == y) | (y != y) if where is None else where  # true also for NaN
        wrong = valid & ~((y >= 0.0) & (y <= 1.0))
        if library.backend.host_view(labels) is not None and look(xp.any(wrong), bool):
            msg = (
                f"`labels` must lie in [0, 1] where they count: got {int(engine.count_here(wrong))} outside. "
                "Pass the elements that count as `where`."
            )
            raise ValueError(msg)
        wrong_option = out_of_range(engine, options.thresh, options.min_kept)
        if wrong_option is not None:
            wrong = wrong | (valid & wrong_option)
        scales = engine.where(~wrong, xp.astype(valid, dtype), float("nan"))
        if pixel_weight is not None:
            scales = scales * engine.where(valid, xp.astype(pixel_weight, dtype), 0.0)
        x = engine.where(valid & (scales != 0), xp.astype(x, dtype), 0.0)
        y = engine.where(valid, y, 0.0)
        return _Call(engine, logits, x, y, valid, scales, positives, options)

    def run(self) -> tuple[Array, Array]:
        """Give the value, and its derivative with respect to the loss of each element."""
        engine, x, y, rule = self.engine, self.x, self.y, self.options.rule
        # Where a factor is 0 the other may be infinite.
        yes = engine.where(y != 0, y * _softplus(engine, -x), 0.0)
        no = engine.where(y != 1, (1 - y) * _softplus(engine, x), 0.0)
        plain = engine.where(self.valid, yes + no, 0.0)
        losses = engine.where(self.valid, self.scales * plain, 0.0)
        scores = losses
        if rule.rank_by == "prob":
            scores = engine.where(self.scales == self.scales, plain, float("nan"))
        quota = mining_quota(engine, self.options, losses)
        ones = engine.xp.astype(self.valid, losses.dtype)
        selection = select(engine, losses, scores, self.valid, quota, rule, self.positives, ones)
        value = whole(engine, reduce(engine, losses, selection, rule, self.options.reduction), self.options.reduction)
        return value, divide(selection.weights, selection.divisor, self.options.reduction)

    def gradient(self, cotangents: Array) -> Array:
        """Give the gradient in the shape and the dtype of the logits; 0 where the cotangent is."""
        engine, xp = self.engine, self.engine.xp
        small = xp.exp(-xp.abs(self.x))
        sigmoid = engine.where(self.x < 0, small, 1.0) / (1 + small)
        gradient = engine.where(cotangents != 0, (sigmoid - self.y) * (cotangents * self.scales), 0.0)
        return xp.astype(xp.reshape(gradient, self.logits.shape), self.logits.dtype)


def _softplus(engine: Engine, x: Array) -> Array:
    xp = engine.xp
    return engine.where(~(x < 0), x, 0.0) + xp.log1p(xp.exp(-xp.abs(x)))


def _in_shape_of(engine: Engine, logits: Array, labels: Array) -> Array:
    if logits.ndim == labels.ndim + 1 and logits.ndim > 1 and logits.shape[1] == 1:
        logits = engine.xp.squeeze(logits, axis=1)
    if tuple(logits.shape) != tuple(labels.shape):
        msg = (
            "`labels` must have the shape of `logits`, or that without a second axis of length 1: "
            f"got logits.shape={tuple(logits.shape)}, labels.shape={tuple(labels.shape)}."
        )
        raise ValueError(msg)
    return logits
