"""The command: `python -m benchmarks.experiment`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from . import _files
from ._plan import FULL, QUICK
from ._write import MissingPackages, write


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment, and name the files."""
    parser = argparse.ArgumentParser("python -m benchmarks.experiment", description=__doc__)
    parser.add_argument("--out", type=Path, metavar="FOLDER", required=True, help="where the files go")
    parser.add_argument("--force", action="store_true", help="run even if the folder holds the same experiment already")
    parser.add_argument("--quick", action="store_true", help="few steps on a part of the photograph: does it run?")
    options = parser.parse_args(arguments)
    try:
        write(options.out, cache=not options.force, plan=QUICK if options.quick else FULL)
    except (MissingPackages, OSError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    for name in _files.ALL:
        print(options.out / name)


if __name__ == "__main__":
    main()
