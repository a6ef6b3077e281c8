"""What a batch is spread over: the options that say it, and the sum over its places."""

from typing import Any

from ._engine import Join
from ._registry import Library


def join_of(library: Library, axis_name: Any, process_group: Any) -> Join | None:
    """Give the sum over the places that hold parts of the batch, or None; refuse an option of another library."""
    join: Join | None = None
    for name, value in (("axis_name", axis_name), ("process_group", process_group)):
        if value is None:
            continue
        backend = library.backend
        if name != backend.group_option or backend.join is None:
            advice = "What is here is all" if backend.group_option is None else f"Pass `{backend.group_option}`"
            msg = f"`{name}` must be None for arrays of {backend.name}: got {value!r}. {advice}."
            raise TypeError(msg)
        join = backend.join(value)
    return join
