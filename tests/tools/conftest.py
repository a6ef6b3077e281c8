"""Fixtures for the commands: each command runs in an empty folder."""

import pytest


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    """Run the command line in an empty folder."""
    from tests.tools._commands import run

    monkeypatch.chdir(tmp_path)
    return run


@pytest.fixture
def refused(invoke):
    """Run a command that must end with status 2 and one sentence on stderr alone; give the sentence."""

    def run(command, *arguments):
        result = invoke(command, *arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.count("\n") == 1
        start = f"ohemloss {command}: "
        assert result.stderr.startswith(start)
        return result.stderr.removeprefix(start).rstrip("\n")

    return run


@pytest.fixture
def on_numpy(monkeypatch):
    """Let NumPy be the only installed backend."""
    from ohemloss import _registry

    monkeypatch.setattr(_registry, "installed_names", lambda: ["numpy"])
