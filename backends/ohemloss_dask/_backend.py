"""What the core calls in place of its own steps, as one value."""

from ohemloss import Backend

from ._op import SUPPORTS, loss, value_and_grad

backend = Backend(
    name="dask",
    namespace="array_api_compat.dask.array",
    loss=loss,
    value_and_grad=value_and_grad,
    supports=SUPPORTS,
)
