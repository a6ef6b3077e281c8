"""An engine that runs the steps of the core, for callers that have a namespace and no array."""

from typing import Any

from ._engine import Engine
from ._kth import kth_largest
from ._softmax import cross_entropy
from ._total import total
from ._typing import Namespace


def plain_engine(xp: Namespace, **steps: Any) -> Engine:
    """Make an engine of a namespace; `steps` replaces steps by name."""
    return Engine(xp=xp, **{"cross_entropy": cross_entropy, "kth_largest": kth_largest, "total": total} | steps)
