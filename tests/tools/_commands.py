"""The command line in this process, and what stands in for a broken library."""

import types

from typer.testing import CliRunner

from ohemloss._cli._app import app


def run(*arguments, charset="utf-8"):
    """Run the command line; 80 columns, whatever terminal the tests run in."""
    return CliRunner(charset, env={"COLUMNS": "80"}).invoke(app, [str(argument) for argument in arguments])


def raising(error):
    """Make a function that raises an error, whatever its arguments."""

    def fail(*_, **__):
        raise error

    return fail


def module(name, **names):
    """Make a module of these names."""
    made = types.ModuleType(name)
    made.__dict__.update(names)
    return made
