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
    norms : torch.Tensor or None
        What the backward pass on a device makes probabilities with, from who keeps it: of each pixel the loss without
        its weights, or where logits are resized two numbers.
    cut : Cut
        The selection.
    divisor : torch.Tensor
        0-d, what the sum was divided by.
    """

    scores: torch.Tensor
    norms: torch.Tensor | None
    cut: Cut
    divisor: torch.Tensor

    def tensors(self) -> tuple[torch.Tensor | None, ...]:
        """Give all in one row, as `of` takes them."""
        return (self.scores, self.norms, self.divisor, self.cut.value, self.cut.tie_weight, self.cut.count)

    @staticmethod
    def of(scores: torch.Tensor, norms: torch.Tensor | None, divisor: torch.Tensor, *cut: torch.Tensor) -> "Kept":
        """Put a row of tensors together again."""
        return Kept(scores, norms, Cut(*cut), divisor)
