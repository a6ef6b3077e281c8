"""What a forward pass leaves for the backward pass."""

from dataclasses import dataclass

import torch

from ohemloss import Cut


@dataclass(frozen=True)
class Kept:
    """
    Nothing of the size of the logits.

    Attributes
    ----------
    scores : torch.Tensor
        What each pixel was ranked by, in the shape of the labels; that of an ignored pixel is not looked at.
    nlls : torch.Tensor or None
        The loss of each pixel without its weights, from who keeps it: the backward pass on a device needs it.
    cut : Cut
        The selection.
    divisor : torch.Tensor
        0-d, what the sum was divided by.
    """

    scores: torch.Tensor
    nlls: torch.Tensor | None
    cut: Cut
    divisor: torch.Tensor

    def tensors(self) -> tuple[torch.Tensor | None, ...]:
        """Give all in one row, as `of` takes them."""
        return (self.scores, self.nlls, self.divisor, self.cut.value, self.cut.tie_weight, self.cut.count)

    @staticmethod
    def of(scores: torch.Tensor, nlls: torch.Tensor | None, divisor: torch.Tensor, *cut: torch.Tensor) -> "Kept":
        """Put a row of tensors together again."""
        return Kept(scores, nlls, Cut(*cut), divisor)
