"""The page of what works where. That it says what the tests showed is checked at the end of a run of all of them."""

import re

from tests._support import COLUMNS, REASONS, render, shown_on


def test_every_cell_is_a_number_or_has_a_reason(project):
    page = (project / "docs" / "support.md").read_text(encoding="utf-8")
    shown = shown_on(page)
    for row in REASONS:
        for column in COLUMNS:
            reasons = re.findall(rf"^\* {re.escape(row)}, [a-z ,]*\b{column}\b[a-z ,]*: \S.*\.$", page, re.MULTILINE)
            assert len(reasons) == ((row, column) not in shown), (row, column)


def test_page_is_read_as_it_is_written():
    numbers = {("JAX", "vmap"): 3e-8, ("PyTorch", "second order"): 0.0, ("MLX", "eager"): 1.5e-7}
    page = render(numbers)
    assert shown_on(page) == set(numbers)
    assert "| yes, 3e-08 |" in page
    assert "| yes, 0 |" in page
    assert "* NumPy, compiled: NumPy does not compile." in page
