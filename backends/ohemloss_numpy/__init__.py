"""NumPy served by what it is good at: partition, and sums in float64."""

from ohemloss import Backend

from ._library import objection
from ._steps import kth_largest, total

backend = Backend(
    name="numpy",
    namespace="array_api_compat.numpy",
    objection=objection,
    kth_largest=kth_largest,
    total=total,
)

__all__ = ["backend"]
