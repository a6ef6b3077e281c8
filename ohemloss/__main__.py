"""The command line: `ohemloss`, or `python -m ohemloss`."""

import sys

# What the extra `cli` installs, by import name.
_EXTRA = ("imgviz", "matplotlib", "rich", "typer")


def main() -> None:
    """Run the command line; without the extra `cli`, say how to get it."""
    try:
        # Imported here: whoever imports the module, as documentation tools do, need not have the extra.
        from ._cli._app import app

        app()
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRA:
            raise
        sys.stderr.write(f"The command line needs `{missing}`, which is not installed: install `ohemloss[cli]`.\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
