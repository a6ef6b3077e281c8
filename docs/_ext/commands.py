"""The command line in the reference, as the program itself describes it."""

import re
from typing import Any

import typer
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from ohemloss._cli._app import app as _program

_group: Any = typer.main.get_command(_program)


def command_names() -> list[str]:
    """Name the commands."""
    return list(_group.commands)


def option_names(command: str) -> list[str]:
    """Name the options and arguments of a command as an inventory of Sphinx does."""
    return [f"ohemloss-{command}.{_spelling(parameter)[0]}" for parameter in _parameters(command)]


def _parameters(command: str) -> list[Any]:
    return [parameter for parameter in _group.commands[command].params if not getattr(parameter, "hidden", False)]


def _is_argument(parameter: Any) -> bool:
    return parameter.param_type_name == "argument"


def _spelling(parameter: Any) -> list[str]:
    if _is_argument(parameter):
        return [parameter.metavar or parameter.name.upper()]
    return list(parameter.opts)


def _describe(command: str) -> str:
    """Write a command as reStructuredText: its usage, what it does, and each option."""
    arguments = [_spelling(parameter)[0] for parameter in _parameters(command) if _is_argument(parameter)]
    usage = " ".join(["ohemloss", command, "[OPTIONS]", *arguments])
    lines = [f".. program:: ohemloss {command}", "", f"``{usage}``", "", _escape(_group.commands[command].help), ""]
    for parameter in _parameters(command):
        metavar = "" if _is_argument(parameter) or parameter.is_flag else f" {parameter.metavar}"
        lines += [f".. option:: {', '.join(name + metavar for name in _spelling(parameter))}", ""]
        lines += [f"   {_escape(parameter.help)}{_default(parameter)}", ""]
    return "\n".join(lines)


def _default(parameter: Any) -> str:
    if parameter.default in (None, False) or parameter.required or callable(parameter.default):
        return ""
    return f" Default: ``{parameter.default}``."


def _escape(text: str) -> str:
    """Set options and what is in backticks as code, and take no other character for markup."""
    return re.sub(r"`([^`]*)`|(--[a-z][a-z-]*)|([*|_\\])", _mark, " ".join(text.split()))


def _mark(found: re.Match[str]) -> str:
    quoted, option, other = found.groups()
    return f"\\{other}" if other else f"``{quoted or option}``"


class Command(SphinxDirective):
    """``.. command:: NAME``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Describe the command that is named."""
        return self.parse_text_to_nodes(_describe(self.arguments[0]))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("command", Command)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
