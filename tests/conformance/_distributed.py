"""A case over the processes of a group: each has some of the images, and the loss is that of all."""

from typing import Any

import numpy as np
import pytest

import ohemloss
from tests._cases import wide
from tests._libraries import LIBRARIES
from tests._ranks import ranks

from ._case import Case
from ._path import Answer, Call
from ._table import CASES

# One process of the tests holds the group.
MARKS = (pytest.mark.xdist_group("ranks"),)
KINDS = ("regimes", "options", "arrays", "nothing", "ties", "extremes", "rules")


def over_ranks(call: Call) -> list[Answer]:
    """Run the closed form and autograd on each process, and put the gradients together."""
    assert call.case is not None
    code = f"""
    from tests.conformance._distributed import part_of
    answer = part_of({call.case.id!r}, {call.dtype!r}, rank, group)
    """
    parts = ranks(2).ask(code)
    bits = {tuple(value.hex() for value in part["values"]) for part in parts}
    assert len(bits) == 1, "each process has the same bits"
    x = call.x.detach()
    found = []
    # The derivative of the sum of what all processes return, which those that average expect.
    for number, (name, copies) in enumerate({"closed form": 1, "autograd": len(parts)}.items()):
        rows = [np.reshape(part["gradients"][number], (-1, *x.shape[1:])) for part in parts]
        gradient = np.concatenate(rows) / copies
        value = x.new_tensor(parts[0]["values"][number], dtype=getattr(call.library.xp, wide(call.dtype)))
        found.append((name, value, x.new_tensor(gradient)))
    return found


def part_of(name: str, dtype: str, rank: int, group: Any) -> dict[str, Any]:
    """Run the part of a case that a process of two has: the second has one image, the first all others."""
    (case,) = (case for case in CASES if case.id == name)
    (torch,) = (library for library in LIBRARIES if library.id == "torch")
    call = Call.of(torch, case, dtype)
    n_images = call.y.shape[0]
    mine = slice(0, n_images - 1) if rank == 0 else slice(n_images - 1, n_images)
    options = {
        key: option[mine] if key in ("pixel_weight", "positives") and option.shape[:1] == (n_images,) else option
        for key, option in call.options.items()
    }
    x, y = call.x[mine].clone().requires_grad_(), call.y[mine]
    value, gradient = ohemloss.value_and_grad(x.detach(), y, process_group=group, **options)
    loss = ohemloss.ohem_cross_entropy(x, y, process_group=group, **options)
    loss.backward()
    return {
        "values": [value.double().item(), loss.double().item()],
        "gradients": [gradient.double().tolist(), x.grad.double().tolist()],
    }


def takes(case: Case, dtype: str) -> bool:
    """Take what is mined: rows whose labels are all right, with an axis of images in front."""
    images = case.layout == "NCHW" and case.options.get("axis", 1) == 1 and case.labels.ndim and len(case.labels) > 1
    wanted = case.error is None and case.kind in KINDS and case.options.get("reduction") != "none"
    return bool(images) and wanted
