"""Dask served chunk by chunk: of each only the losses are kept, so logits may be larger than memory."""

from ._backend import backend

__all__ = ["backend"]
