"""Dask served chunk by chunk: of each only the losses are kept, so logits may be larger than memory."""

from ohemloss import Backend

from ._op import SUPPORTS, loss, value_and_grad

backend = Backend(
    name="dask",
    namespace="array_api_compat.dask.array",
    loss=loss,
    value_and_grad=value_and_grad,
    supports=SUPPORTS,
)

__all__ = ["backend"]
