"""What is on disk, in the settings, in the metadata, and in the wheel is the same."""

import os
import subprocess
import sys
import tomllib
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import yaml

import ohemloss

BACKENDS = ["ohemloss_cupy", "ohemloss_dask", "ohemloss_jax", "ohemloss_numpy", "ohemloss_torch"]
PACKAGES = ["ohemloss", *BACKENDS]


@pytest.fixture(scope="module")
def settings():
    path = Path(__file__).parent.parent / "pyproject.toml"
    if not path.exists():
        pytest.skip("the sources are not here")
    return tomllib.loads(path.read_text(encoding="utf-8"))


def test_top_level(project):
    """What a reader meets first, and nothing else that is tracked."""
    done = subprocess.run(["git", "ls-files"], cwd=project, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    names = {line.partition("/")[0] for line in done.stdout.splitlines()}
    files = {".gitignore", "CHANGELOG.md", "CITATION.cff", "LICENSE", "README.md", "pyproject.toml"}
    assert names == files | {".ci", "backends", "benchmarks", "docs", "ohemloss", "tests"}


def test_folder_packages_and_entry_points_agree(project, settings):
    folders = sorted(path.name for path in (project / "backends").iterdir() if path.name != "__pycache__")
    assert folders == BACKENDS
    wheel = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert wheel == ["ohemloss", *(f"backends/{name}" for name in BACKENDS)]
    entry_points = settings["project"]["entry-points"]["ohemloss.backends"]
    assert entry_points == {name.removeprefix("ohemloss_"): f"{name}:backend" for name in BACKENDS}


def test_installed_entry_points_are_those_of_the_settings(settings):
    installed = {point.name: point.value for point in metadata.entry_points(group="ohemloss.backends")}
    expected = settings["project"]["entry-points"]["ohemloss.backends"]
    assert installed == expected, "the metadata is frozen at install: run `pip install -e .` again"


def test_version():
    assert metadata.version("ohemloss") == ohemloss.__version__


def test_citation(project):
    """What a reader cites is what is installed, under its licence and name."""
    citation = yaml.safe_load((project / "CITATION.cff").read_text(encoding="utf-8"))
    data = metadata.metadata("ohemloss")
    cited = [citation[key] for key in ("title", "version", "license")]
    assert cited == [data["Name"], data["Version"], data["License-Expression"]]
    assert [author["name"] for author in citation["authors"]] == ["The ohemloss developers"]


def test_run_time_dependencies(settings):
    names = [requirement.partition(">")[0] for requirement in settings["project"]["dependencies"]]
    assert names == ["array-api-compat", "numpy"]


def test_extras(settings):
    extras = settings["project"]["optional-dependencies"]
    assert sorted(extras) == ["all", "cli", "cupy", "fast", "jax", "torch"]
    assert extras["all"] == ["ohemloss[cli,cupy,fast,jax,torch]"]


def test_public_names():
    """Everything public is listed, and everything listed is there and documented."""
    public = {name for name in vars(ohemloss) if not name.startswith("_")}
    assert public == set(ohemloss.__all__)
    for name in ohemloss.__all__:
        assert getattr(ohemloss, name).__doc__


@pytest.fixture(scope="module")
def wheel(settings, tmp_path_factory):
    """The wheel, built from the sources without isolation."""
    out = tmp_path_factory.mktemp("dist")
    source = Path(__file__).parent.parent
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, source]
    subprocess.run(command, check=True, capture_output=True)
    (path,) = out.glob("*.whl")
    return path


def test_wheel_holds_every_module_and_marker(project, wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for package in PACKAGES:
        folder = project / (package if package == "ohemloss" else f"backends/{package}")
        files = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        missing = {f"{package}/{path.relative_to(folder).as_posix()}" for path in files} - names
        assert not missing
        assert f"{package}/py.typed" in names
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == set(PACKAGES)


def test_wheel_without_the_sources(wheel, tmp_path):
    """Installed alone, in an environment of its own with the run-time dependencies of this one: tests pass."""
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin") / "python"
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    zipfile.ZipFile(wheel).extractall(site)
    # Everything else comes from the environment of the tests, but for the editable install of the sources.
    here = next(path for path in sys.path if (Path(path) / "numpy").is_dir())
    for entry in Path(here).iterdir():
        if "ohemloss" not in entry.name and not entry.name.endswith(".pth"):
            (Path(site) / entry.name).symlink_to(entry)
    tests = tmp_path / "tests"
    tests.symlink_to(Path(__file__).parent)
    checks = ["test_walkthrough.py", "test_registry.py", "test_packaging.py::test_version"]
    done = subprocess.run(
        [python, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, "--import-mode=importlib"]
        + [tests / check for check in checks],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"OHEMLOSS_TEST_XP": "numpy,array-api-strict", "PYTHONPATH": str(tmp_path)},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    where = subprocess.run(
        [python, "-P", "-c", "import ohemloss, ohemloss_numpy; print(ohemloss.__file__, ohemloss_numpy.__file__)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert all(path.startswith(site) for path in where)
