"""What a forward pass leaves for the backward pass."""

from dataclasses import dataclass

import torch

from ohemloss import Cut


@dataclass(frozen=True)
class Pixels:
    """
    What a pass over the logits says of each pixel, in the shape of the labels.

    Attributes
    ----------
    losses, scores : torch.Tensor
        Its loss, and what it is ranked by; those of an ignored pixel are not looked at.
    valid : torch.Tensor
        Bool: the label is not ignored.
    class_scales : torch.Tensor
        The class weight of the label, 0 where ignored; of no meaning where the rule does not divide by them.
    norms : torch.Tensor or None
        See `Kept`.
    """

    losses: torch.Tensor
    scores: torch.Tensor
    valid: torch.Tensor
    class_scales: torch.Tensor
    norms: torch.Tensor | None


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
