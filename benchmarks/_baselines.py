"""What NumPy and JAX users write in place of the loss: whole arrays, and the library's own parts."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ._data import IGNORE, THRESH

MIN_KEPT = 16  # one of so many is selected at least
THRESH_LOSS = float(-np.log(THRESH))

FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]


def numpy_loss(logits: FloatArray, labels: npt.NDArray[np.integer[Any]]) -> float:
    """Compute the loss on whole arrays, with a sort for the largest."""
    log_softmax = _log_softmax(logits)
    losses, valid = _losses(log_softmax, labels)
    return float(np.mean(losses[_selected(losses, valid)]))


def numpy_value_and_grad(logits: FloatArray, labels: npt.NDArray[np.integer[Any]]) -> tuple[float, FloatArray]:
    """Compute the loss and its gradient on whole arrays."""
    log_softmax = _log_softmax(logits)
    losses, valid = _losses(log_softmax, labels)
    selected = _selected(losses, valid)
    one_hot = np.expand_dims(np.where(valid, labels, 0), 1) == np.arange(logits.shape[1])[:, None, None]
    gradient = (np.exp(log_softmax) - one_hot) * (np.expand_dims(selected, 1) / np.count_nonzero(selected))
    return float(np.mean(losses[selected])), gradient.astype(logits.dtype)


def _log_softmax(logits: FloatArray) -> FloatArray:
    shifted = logits - np.max(logits, axis=1, keepdims=True)
    result: FloatArray = shifted - np.log(np.sum(np.exp(shifted), axis=1, keepdims=True))
    return result


def _losses(log_softmax: FloatArray, labels: npt.NDArray[Any]) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    valid = labels != IGNORE
    places = np.expand_dims(np.where(valid, labels, 0), 1)
    losses = -np.take_along_axis(log_softmax, places, axis=1)[:, 0]
    return np.where(valid, losses, 0), valid


def _selected(losses: FloatArray, valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    n_min = np.count_nonzero(valid) // MIN_KEPT
    hard: npt.NDArray[np.bool_] = losses > THRESH_LOSS
    if np.count_nonzero(hard) < n_min:
        hard = losses >= np.sort(losses[valid])[-n_min]
    return hard


def optax_loss() -> Callable[[Any, Any], Any]:
    """
    Make the loss of JAX and optax, not yet compiled.

    Both means are computed and `where` picks, as users write it who must not branch on a value.
    """
    import jax
    import optax
    from jax import numpy as jnp

    def loss(logits: Any, labels: Any) -> Any:
        valid = labels != IGNORE
        losses = optax.softmax_cross_entropy_with_integer_labels(
            jnp.moveaxis(logits, 1, -1), jnp.where(valid, labels, 0)
        )
        losses = jnp.where(valid, losses, 0.0).ravel()
        hard = losses > THRESH_LOSS
        n_hard, k = jnp.sum(hard), losses.size // MIN_KEPT
        mean_of_hard = jnp.sum(jnp.where(hard, losses, 0.0)) / jnp.maximum(n_hard, 1)
        return jnp.where(n_hard >= k, mean_of_hard, jnp.mean(jax.lax.top_k(losses, k)[0]))

    return loss
