"""The training in PyTorch: a module, autograd, an optimiser, and the loss as a module."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from ohemloss._cli._photograph import IGNORE
from ohemloss_torch import OhemCELoss

from ._plan import OPTIONS, PLAIN
from ._task import Task, Trained
from ._types import Weights


class Model(nn.Module):  # type: ignore[misc,unused-ignore]
    """The model, of the shapes of some weights."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        shapes = {name: weights[f"{name}.weight"].shape for name in ("reduce", "mix", "classify")}
        self.reduce, self.mix, self.classify = (
            nn.Conv2d(n_in, n_out, size, padding=size // 2) for n_out, n_in, size, _ in shapes.values()
        )
        self.load_state_dict({name: torch.tensor(array) for name, array in weights.items()}, assign=True)

    def forward(self, features: Tensor, colours: Tensor, size: tuple[int, int]) -> Tensor:
        """Compute the logits at full size."""
        reduced = functional.relu(self.reduce(features))
        mixed = torch.cat([_enlarge(reduced, colours.shape[2:]), colours], dim=1)
        return _enlarge(self.classify(functional.relu(self.mix(mixed))), size)


def train(task: Task) -> Trained:
    """Train."""
    features, colours = (torch.tensor(array)[None] for array in (task.features, task.colours))
    labels = torch.tensor(task.labels, dtype=torch.int64)[None]
    model, criterion = Model(task.weights), _criterion(task.loss)
    optimiser = torch.optim.SGD(model.parameters(), lr=task.rates[0], momentum=task.momentum)
    losses = []
    for rate in task.rates:
        optimiser.param_groups[0]["lr"] = rate
        optimiser.zero_grad()
        loss = criterion(model(features, colours, labels.shape[1:]), labels)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return Trained(losses, {name: weight.numpy() for name, weight in model.state_dict().items()})


def _criterion(loss: str) -> Callable[[Tensor, Tensor], Tensor]:
    if loss == PLAIN:
        return partial(functional.cross_entropy, ignore_index=IGNORE)
    return OhemCELoss(**OPTIONS[loss], ignore_index=IGNORE)


def _enlarge(x: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(x, size=size, mode="bilinear")
