"""The tables of a run, and the file."""

import json
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from ._results import Results
from ._targets import Target, targets

LEGEND = (
    "\nours    ohemloss\n"
    "eager   F.cross_entropy, a mask, topk; for resized logits after F.interpolate\n"
    "plain   F.cross_entropy, nothing mined\n"
    "HRNet   F.cross_entropy, and all probabilities sorted\n"
    "naive   NumPy on whole arrays\n"
    "optax   its cross-entropy with top_k, compiled\n\n"
    "to ours: how many times as long as ours, the median over the rounds\n"
)


def show(console: Console, results: Results) -> None:
    """Print a table for each group of cases, then memory, then targets."""
    rows = list(results.rows())
    console.print(LEGEND)
    for group in dict.fromkeys(row["group"] for row in rows):
        console.print(_times_table(group, [row for row in rows if row["group"] == group]))
    if results.peaks:
        console.print(_memory_table(results))
    console.print(_targets_table(targets(results)))


def write(path: Path, machine: dict[str, str], results: Results) -> None:
    """Write all numbers as JSON."""
    found = {
        "machine": machine,
        "times": list(results.rows()),
        "memory": list(results.memory_rows()),
        "targets": [{**vars(target), "met": target.met} for target in targets(results)],
    }
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _times_table(group: str, rows: list[dict[str, Any]]) -> Table:
    table = _table(group, ("case", "what", "variant"), ("median ms", "ns / pixel", "to ours"))
    last = None
    for row in rows:
        here = (row["case"], _way(row["backward"]))
        if last not in (None, here):
            table.add_section()
        first = here if here != last else ("", "")
        ratio = "" if row["to_ours"] is None else f"{row['to_ours']:.2f} x"
        table.add_row(*first, row["variant"], f"{row['ms']:.2f}", f"{row['ns_per_pixel']:.2f}", ratio)
        last = here
    return table


def _memory_table(results: Results) -> Table:
    table = _table("peak memory of one call", ("what", "variant"), ("MiB", "bytes / pixel", "of a gradient"))
    for row in results.memory_rows():
        numbers = (f"{row['MiB']:.1f}", f"{row['bytes_per_pixel']:.1f}", f"{row['gradients']:.2f} x")
        way = _way(row["backward"]) + (f", resized {row['ratio']} x" if row["ratio"] > 1 else "")
        table.add_row(way, row["variant"], *numbers)
    return table


def _targets_table(found: list[Target]) -> Table:
    table = _table("targets", ("name",), ("target", "measured", ""))
    for target in found:
        sign = ">=" if target.at_least else "<="
        mark = "met" if target.met else "NOT MET"
        table.add_row(target.name, f"{sign} {target.text(target.bound)}", target.text(target.measured), mark)
    return table


def _table(title: str, left: tuple[str, ...], right: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in left:
        table.add_column(name, no_wrap=True)
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _way(backward: bool) -> str:
    return "with gradient" if backward else "forward"
