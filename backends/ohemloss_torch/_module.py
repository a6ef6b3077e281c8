"""The loss as a module."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch
import torch.distributed as dist

import ohemloss
from ohemloss._mining_rule import MinKept
from ohemloss._options import Reduction, Resize, differs


class OhemCELoss(torch.nn.Module):
    """
    Compute the cross-entropy of the hard pixels. See `ohemloss.ohem_cross_entropy`.

    Parameters
    ----------
    thresh, min_kept, rule, ignore_index, weight, label_smoothing, axis, reduction : optional
    resize, align_corners, process_group : optional
        As for `ohemloss.ohem_cross_entropy`. `weight` becomes a buffer: it follows ``.to()`` and is saved; a sequence
        of numbers becomes a tensor of the default dtype. Numbers become attributes, and another number may be assigned.
        `thresh` and `min_kept` as tensors become buffers: filled in place from step to step, they change without a new
        compilation. (Like any buffer they are rounded by ``.half()``.)

    Examples
    --------
    >>> import torch
    >>> from ohemloss_torch import OhemCELoss
    >>> criterion = OhemCELoss(thresh=0.7)
    >>> logits = torch.zeros(1, 2, 4, 4, requires_grad=True)
    >>> criterion(logits, torch.zeros(1, 4, 4, dtype=torch.int64))
    tensor(0.6931, grad_fn=...)
    """

    weight: torch.Tensor | None

    def __init__(
        self,
        *,
        thresh: float | torch.Tensor | None = 0.7,
        min_kept: MinKept = 1 / 16,
        rule: ohemloss.MiningRule = ohemloss.MiningRule(),
        ignore_index: int | None = 255,
        weight: torch.Tensor | Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        axis: int = 1,
        reduction: Reduction = "mean",
        resize: Resize | None = None,
        align_corners: bool = False,
        process_group: "dist.ProcessGroup | dist.DeviceMesh | None" = None,
    ) -> None:
        super().__init__()
        criterion = ohemloss.OhemCELoss(
            thresh=thresh,
            min_kept=min_kept,
            rule=rule,
            ignore_index=ignore_index,
            weight=weight,
            label_smoothing=label_smoothing,
            axis=axis,
            reduction=reduction,
            resize=resize,
            align_corners=align_corners,
            process_group=process_group,
        )
        options = criterion._options()
        del options["axis_name"]
        self._names = tuple(options)
        if isinstance(options["weight"], tuple):
            options["weight"] = torch.tensor(options["weight"], dtype=torch.get_default_dtype())
        for name, value in options.items():
            if name == "weight" or isinstance(value, torch.Tensor):
                self.register_buffer(name, value)
            else:
                setattr(self, name, value)

    # No positional-only parameters: a strict `torch.export.export` of the module refuses them.
    def forward(
        self,
        logits: torch.Tensor,
        labels: torch.Tensor,
        *,
        pixel_weight: torch.Tensor | None = None,
        positives: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """
        Compute the loss.

        Parameters
        ----------
        logits, labels, pixel_weight, positives : torch.Tensor
            As for `ohemloss.ohem_cross_entropy`.

        Returns
        -------
        torch.Tensor
            As `ohemloss.ohem_cross_entropy` returns it.
        """
        loss: torch.Tensor = ohemloss.ohem_cross_entropy(
            logits, labels, pixel_weight=pixel_weight, positives=positives, **self._options()
        )
        return loss

    def extra_repr(self) -> str:
        """Show the options that differ from the defaults."""
        defaults = {field.name: field.default for field in fields(ohemloss.OhemCELoss)}
        options = {name: value for name, value in self._options().items() if name != "weight"}  # too long to show
        return ", ".join(f"{name}={value!r}" for name, value in options.items() if differs(value, defaults[name]))

    def _options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._names}
