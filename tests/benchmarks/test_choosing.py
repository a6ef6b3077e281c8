"""The pictures of choosing `thresh` and `min_kept`: they are drawn from a training."""

import pytest

for _name in ("imgviz", "matplotlib"):
    pytest.importorskip(_name)

from benchmarks import choosing
from ohemloss._cli._training import Plan


def test_pictures_and_table(tmp_path, monkeypatch, project):
    monkeypatch.setattr(choosing, "MOMENTS", {"early": 0, "middle": 1, "late": 2})
    training = choosing.train(Plan(steps=3), every=8)
    choosing.write(tmp_path, training)
    page = "".join((project / "docs" / name).read_text(encoding="utf-8") for name in ("choosing.md", "explain.md"))
    assert "`python -m benchmarks.choosing`" in page
    for path in tmp_path.iterdir():
        assert f"results/{path.name}" in page
        assert (choosing.FOLDER / path.name).exists()
    table = (tmp_path / "choosing-shares.md").read_text(encoding="utf-8")
    # Each of nine classes has probability 1/9 at the start, so every pixel is hard at each threshold.
    assert [line.split("|")[2].strip() for line in table.splitlines()[2:6]] == ["100.0%"] * 4
    assert training.steps[0].hard == training.steps[0].mined == 1
    assert training.steps[2].mean < training.steps[0].mean
