"""What is on disk, in the settings, in the metadata, and in the wheel is the same."""

import subprocess
import sys
import tomllib
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
    installed = {point.name: point.value for point in metadata.entry_points(group="ohemloss.backends")}
    assert installed == entry_points, "the metadata is frozen at install: run `pip install -e .` again"


def test_citation(project):
    """What a reader cites is what is installed, under its licence and name."""
    citation = yaml.safe_load((project / "CITATION.cff").read_text(encoding="utf-8"))
    data = metadata.metadata("ohemloss")
    cited = [citation[key] for key in ("title", "version", "license")]
    assert cited == [data["Name"], data["Version"], data["License-Expression"]]
    assert [author["name"] for author in citation["authors"]] == ["The ohemloss developers"]
    assert data["Version"] == ohemloss.__version__


def test_dependencies(settings):
    names = [requirement.partition(">")[0] for requirement in settings["project"]["dependencies"]]
    assert names == ["array-api-compat", "numpy"]
    extras = settings["project"]["optional-dependencies"]
    assert sorted(extras) == ["all", "cli", "cupy", "fast", "jax", "torch"]
    assert extras["all"] == ["ohemloss[cli,cupy,fast,jax,torch]"]


def test_public_names():
    """Everything public is listed, and everything listed is there and documented."""
    public = {name for name in vars(ohemloss) if not name.startswith("_")}
    assert public == set(ohemloss.__all__)
    for name in ohemloss.__all__:
        assert getattr(ohemloss, name).__doc__


@pytest.mark.parametrize("name", BACKENDS)
def test_backends_show_nothing_internal(name):
    package = pytest.importorskip(name)
    own = ["OhemCELoss", "backend"] if name == "ohemloss_torch" else ["backend"]
    assert sorted(name for name in vars(package) if not name.startswith("_")) == sorted(package.__all__) == own


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
