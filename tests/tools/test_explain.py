"""The command line: `ohemloss explain`, on files of every kind, and the ways in which it cannot run."""

import io
import json
import os
import re
import struct
import zipfile
import zlib
from functools import partial
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

for _name in ("imgviz", "matplotlib", "typer"):
    pytest.importorskip(_name, reason="the command line needs the extra `cli`")

from matplotlib.image import imread
from PIL import Image

from ohemloss import Trace
from ohemloss._cli import _explain, _photograph
from ohemloss._drawing._page import Page
from tests import _processes
from tests._reference import interpolate, reference
from tests.tools._commands import raising
from tests.tools._figures import panel

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(2, 3, 4, 5)).astype(np.float32)
LABELS = RNG.integers(0, 3, (2, 4, 5))


@pytest.fixture
def explain(invoke):
    """Run the command in a folder with logits and labels."""
    np.save("x.npy", LOGITS)
    np.save("y.npy", LABELS)
    return partial(invoke, "explain")


@pytest.fixture
def refused(explain, refused):
    return partial(refused, "explain")


def stages(output):
    """Read the first table: the numbers by name."""
    return {row[0].rstrip(","): row[-1] for row in map(str.split, output.splitlines()[6:14])}


def classes(output):
    """Read the second table: a row for each class."""
    lines = output.split("mean loss\n")[1].splitlines()[1:]
    return [re.split(r"  +", line) for line in lines if line.strip() and not line.startswith(("Picture", "Of the"))]


def test_documented_numbers(explain):
    """The worked example from files: its rounded logits lead within the rounding to its numbers."""
    example = json.loads(files("ohemloss").joinpath("_cli", "walkthrough.json").read_text(encoding="utf-8"))
    np.save("x.npy", np.asarray(example["logits"], np.float32))
    np.save("y.npy", np.asarray(example["labels"]))
    result = explain("x.npy", "y.npy")
    assert (result.exit_code, result.stderr) == (0, "")
    found = stages(result.stdout)
    numbers = [
        found[name] for name in ("thresh", "n_valid", "n_min", "n_hard", "cut.value", "cut.tie_weight", "cut.count")
    ]
    assert numbers == ["0.3567", "32", "2", "28", "0.3567", "0", "28"]
    # The document has 1.33107340 of the unrounded logits; of the rounded ones, in float64:
    assert float(found["value"]) == pytest.approx(1.33107004, abs=3e-7)
    lines = result.stdout.splitlines()
    assert lines[1:3] == ["logits: float32 (2, 3, 4, 4), 3 classes along axis 1", "labels: int64 (2, 4, 4)"]
    assert max(map(len, lines)) <= 80


def test_classes(explain):
    """Six pixels of three classes, counted by hand: the losses are log(1 + exp(-margin)) of two logits, or log(3)."""
    np.save("x.npy", np.asarray([[0.0, 0.0, 0.0]] * 3 + [[9.0, 0.0, 0.0]] * 2 + [[0.0, 0.0, 9.0]], np.float32))
    np.save("y.npy", np.asarray([1, 1, 0, 0, 7, 2]))
    Path("names.txt").write_text("road\nsky\n", encoding="utf-8")
    result = explain("x.npy", "y.npy", "--ignore-index", "7", "--names", "names.txt")
    easy = np.log(np.exp(9) + 2) - 9
    # The class with the most mined pixels comes first.
    assert classes(result.stdout) == [
        ["sky", "66.7%", "40.0%", "100.0%", f"{np.log(3):.4f}"],
        ["road", "33.3%", "40.0%", "50.0%", f"{(np.log(3) + easy) / 2:.4f}"],
        ["class 2", "0.0%", "20.0%", "0.0%", f"{easy:.4f}"],
    ]
    assert stages(result.stdout)["n_valid"] == "5"


def test_ties_share_the_places(explain):
    """Eight equal losses for one place: each class has its part of it."""
    np.save("x.npy", np.zeros((8, 3), np.float32))
    np.save("y.npy", np.asarray([0] * 6 + [1] * 2))
    result = explain("x.npy", "y.npy", "--thresh", "none", "--min-kept", "1")
    assert classes(result.stdout) == [
        ["class 0", "75.0%", "75.0%", "12.5%", f"{np.log(3):.4f}"],
        ["class 1", "25.0%", "25.0%", "12.5%", f"{np.log(3):.4f}"],
    ]


def test_options(explain):
    result = explain("x.npy", "y.npy", "--thresh", "none", "--min-kept", "3", "--ignore-index", "none")
    found = stages(result.stdout)
    assert (found["thresh"], found["n_min"], found["n_hard"], found["cut.count"]) == ("inf", "3", "0", "3")
    assert "no threshold" in result.stdout
    found = stages(explain("x.npy", "y.npy", "--thresh", "0.05", "--min-kept", "0.5", "--ignore-index", "0").stdout)
    n_valid = int(np.count_nonzero(LABELS))
    assert (found["thresh"], found["n_valid"], found["n_min"]) == ("2.996", str(n_valid), str(n_valid // 2))
    assert stages(explain("x.npy", "y.npy", "--min-kept", "1.0").stdout)["n_min"] == "40"  # a count is 1


@pytest.mark.parametrize("align_corners", [False, True])
def test_resized(explain, align_corners):
    """Of logits at half the resolution of the labels, of a batch, and of one image alone."""
    labels = RNG.integers(0, 3, (2, 8, 10))
    enlarged = interpolate(LOGITS, (8, 10), align_corners=align_corners)
    options = ["--resize", "bilinear", *["--align-corners"] * align_corners]
    for logits, truth, large, axis in ((LOGITS, labels, enlarged, 1), (LOGITS[1], labels[1], enlarged[1:], 0)):
        np.save("x.npy", logits)
        np.save("y.npy", truth)
        result = explain("x.npy", "y.npy", *options, "--plot", "p.png")
        assert (result.exit_code, result.stderr) == (0, "")
        assert f"3 classes along axis {axis}" in result.stdout
        expected = reference(large, truth.reshape(-1, 8, 10)).value
        assert float(stages(result.stdout)["value"]) == pytest.approx(expected, abs=1e-6)
        assert imread("p.png").shape[0] > 100


@pytest.mark.parametrize("name", ["array_api_strict", "dask.array", "jax", "mlx.core", "ndonnx", "torch"])
def test_libraries(name, explain, recwarn):
    """The same output but for the name, also of a library without 64-bit numbers, or that must not be lent memory."""
    pytest.importorskip(name)
    np.save("x.npy", LOGITS[:1].astype(np.float64))
    Image.frombytes("P", (5, 4), LABELS[0].astype(np.uint8).tobytes()).save("y.png")
    expected = explain("x.npy", "y.png").stdout.replace("explain on numpy", f"explain on {name}")
    result = explain("x.npy", "y.png", "--backend", name)
    assert (result.exit_code, result.stderr, [str(warning.message) for warning in recwarn]) == (0, "", [])
    value = stages(result.stdout)["value"]
    assert float(value) == pytest.approx(float(stages(expected)["value"]), abs=1e-6)
    assert result.stdout.replace(value, "") == expected.replace(stages(expected)["value"], "")


@pytest.mark.parametrize("name", ["jax", "mlx.core", "numpy"])
def test_label_out_of_range(name, refused):
    """Refused on every library, also where a label that is seen too late would make the loss NaN."""
    pytest.importorskip(name)
    np.save("y.npy", np.where(LABELS == 0, 17, LABELS))
    assert re.match(
        r"`labels` must lie in \[0, 3\), or equal ignore_index=255: got \d+ outside, of value 17\. .*`ignore_index`\.$",
        refused("x.npy", "y.npy", "--backend", name),
    )


# --------------------------------------------------------------------------------------------------------- the files


def test_npz(explain):
    """A file that is there is meant, whatever is in its name."""
    np.savez("one.npz", LOGITS)
    np.savez_compressed("two.npz", a=LABELS, b=LOGITS)
    os.mkdir("a.npz:b")
    np.save("a.npz:b/x.npy", LOGITS)
    np.savez("a.npz:b/y.npz", k=LABELS, m=LOGITS)
    expected = explain("x.npy", "y.npy").stdout
    for names in (("one.npz", "two.npz:a"), ("two.npz:b", "y.npy"), ("a.npz:b/x.npy", "a.npz:b/y.npz:k")):
        assert explain(*names).stdout == expected


def test_layouts(explain):
    """Bytes in the other order, columns first, halves, and classes last."""
    expected = stages(explain("x.npy", "y.npy").stdout)
    last, half = np.moveaxis(LOGITS, 1, -1), LOGITS.astype(np.float16)
    for array in (LOGITS.astype(">f4"), np.asfortranarray(LOGITS), last, half):
        np.save("x.npy", array)
        found = stages(explain("x.npy", "y.npy", *["--axis", "-1"] * (array is last)).stdout)
        if array is half:
            assert float(found["value"]) == pytest.approx(float(expected["value"]), abs=2e-3)
        else:
            assert found == expected


def test_one_image(explain):
    """Logits with a batch axis of 1 or none, labels with it or none."""
    pairs = ((LOGITS[:1], LABELS[:1]), (LOGITS[:1], LABELS[0]), (LOGITS[0], LABELS[0]))
    tables = []
    for logits, labels in pairs:
        np.save("x.npy", logits)
        np.save("y.npy", labels)
        tables.append(explain("x.npy", "y.npy").stdout)
    assert len({table.split("stage")[1] for table in tables}) == 1
    assert "3 classes along axis 0" in tables[-1]
    # Where both readings fit, they are sequences, and the classes are where they always are.
    np.save("x.npy", LOGITS[0, :, :3, :3])
    np.save("y.npy", LABELS[0, :3, :3])
    assert "3 classes along axis 1" in explain("x.npy", "y.npy").stdout
    assert "3 classes along axis 0" in explain("x.npy", "y.npy", "--axis", "0").stdout


def png(row, depth):
    """Make the bytes of a grey PNG of one row."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 4, 1, depth, 0, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"\0" + row)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(
    ("depth", "row", "labels"),
    [
        (1, b"\x50", [0, 1, 0, 1]),
        (2, b"\x1b", [0, 1, 2, 3]),
        (4, b"\x01\x2f", [0, 1, 2, 15]),
        (8, b"\x00\x01\x02\xff", [0, 1, 2, 255]),
        (16, b"\x00\x00\x00\x01\x01\x00\xff\xff", [0, 1, 256, 65535]),
    ],
)
def test_grey_png(depth, row, labels, monkeypatch, explain):
    """Every depth: what is in the file, and not what it is scaled to for a screen."""
    Path("y.png").write_bytes(png(row, depth))
    np.save("x.npy", np.zeros((1, max(labels) + 1, 1, 4), np.float16))
    seen = []
    monkeypatch.setattr(_explain, "explain", lambda x, y, **options: seen.append(y) or 1 / 0)
    explain("x.npy", "y.png", "--ignore-index", "none")
    assert seen[0].tolist() == [[labels]]


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palette_png(bits, explain):
    """The index, whatever the colours."""
    labels = LABELS[0] % 2**bits
    image = Image.frombytes("P", (5, 4), labels.astype(np.uint8).tobytes())
    image.putpalette([200, 10, 10, 10, 200, 10, 10, 10, 200])
    image.save("y.png", bits=bits)
    np.save("x.npy", LOGITS[:1])
    np.save("y.npy", labels[None])
    expected = explain("x.npy", "y.npy").stdout.replace("int64", "uint8")
    assert explain("x.npy", "y.png").stdout == expected


# ----------------------------------------------------------------------------------------------------- the bad files


def header(text):
    """Make the start of a .npy file."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + text.encode().ljust(117) + b"\n"


def saved(save, *arrays, **options):
    """Give the bytes of a file that NumPy wrote."""
    stream = io.BytesIO()
    save(stream, *arrays, **options)
    return stream.getvalue()


def damaged():
    content = bytearray(saved(np.savez_compressed, RNG.normal(size=1000)))
    content[200:240] = bytes(40)
    return content


def zipped(**members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for name, text in members.items():
            file.writestr(name, text)
    return stream.getvalue()


WHOLE = saved(np.save, LOGITS)
GREY = saved(Image.new("L", (5, 4)).save, format="png")
PICKLED = np.asarray([{}], dtype=object)
CUT_OFF = "the file is cut off or damaged."
PICKLES = "it holds pickled objects, which are refused, since to read them may run code."
LONG_HEADER = b"\x93NUMPY\x02\x00" + struct.pack("<I", 50000) + b" " * 50000
HUGE = ": its header promises more than there is memory for."
DAMAGED_IMAGE = "it is no image, or a damaged one."
BAD_FILES = {
    "bad.npy": [
        (b"", ": the file is empty."),
        (WHOLE[:-50], f": {CUT_OFF}"),
        (WHOLE[:40], f": {CUT_OFF}"),
        (WHOLE[:9], f": {CUT_OFF}"),
        (b"hello, world", ": this is no .npy file, whatever its name says."),
        (LONG_HEADER, ": ValueError: Header info length"),
        (header("__import__('os').mkdir('run')"), ": ValueError: malformed node or string"),
        (header("{'descr': '<f4', 'fortran_order': False, 'shape': (10000000, 10000000), }"), HUGE),
        (saved(np.save, PICKLED, allow_pickle=True), f": {PICKLES}"),
    ],
    "bad.npz": [
        (b"", ": the file is empty."),
        (zipped(a="x")[:-10], f": {CUT_OFF}"),
        (damaged(), ": "),
        (WHOLE, ": this is no .npz file, whatever its name says."),
        (zipped(), " holds no array."),
        (zipped(**{"a.txt": "x"}), ": what it holds as 'a.txt' is no array."),
        (zipped(**{"a.npy": "x"}), ": what it holds as 'a' is no array."),
        (zipped(**{"a.npy": WHOLE[:-50]}), f": {CUT_OFF}"),
        (saved(np.savez, PICKLED, allow_pickle=True), f": {PICKLES}"),
    ],
    "bad.png": [
        (b"", ": the file is empty."),
        (GREY[:20], ": "),
        (GREY[:-30], f": {DAMAGED_IMAGE}"),
        (GREY[:20] + b"x" + GREY[21:], f": {DAMAGED_IMAGE}"),
        (WHOLE, ": this is no .png file, whatever its name says."),
    ],
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file(name, refused):
    for content, reason in BAD_FILES[name]:
        Path(name).write_bytes(content)
        sentences = {"LABELS": refused("x.npy", name)}
        if name != "bad.png":
            sentences["LOGITS"] = refused(name, "y.npy")
        for argument, sentence in sentences.items():
            start = f"`{argument}` cannot be read: {name}{reason}"
            assert sentence == start or (sentence.startswith(start) and not reason.endswith("."))
    assert not Path("run").exists()


def test_keys(refused):
    np.savez("two.npz", a=LOGITS, b=LOGITS)
    choose = ": choose one by `two.npz:KEY`, where KEY is one of a, b."
    assert refused("two.npz", "y.npy") == f"`LOGITS` cannot be read: two.npz holds 2 arrays{choose}"
    assert refused("x.npy", "two.npz:c") == f"`LABELS` cannot be read: two.npz holds no array 'c'{choose}"


@pytest.mark.parametrize(("name", "kinds"), [("LOGITS", ".npy or .npz"), ("LABELS", ".npy, .npz or .png")])
def test_paths(name, kinds, refused):
    os.mkdir("folder.npy")

    def bad(path):
        return refused(*((path, "y.npy") if name == "LOGITS" else ("x.npy", path)))

    assert bad("no.npy") == f"`{name}` cannot be read: no.npy: No such file or directory."
    assert bad("no.npz:key") == f"`{name}` cannot be read: no.npz: No such file or directory."
    assert bad("folder.npy") == f"`{name}` cannot be read: folder.npy: Is a directory."
    for path in ("x.txt", "x", "two.npz:", "y.jpg"):
        assert bad(path) == f"`{name}` must be a {kinds} file: got {path}."


def test_file_that_may_not_be_read(refused, monkeypatch):
    monkeypatch.setattr(Path, "open", raising(PermissionError(13, "Permission denied")))
    assert refused("x.npy", "y.npy") == "`LOGITS` cannot be read: x.npy: Permission denied."


FLOATS = "`LOGITS` must hold float16, float32 or float64: x.npy holds {}."
INTEGERS = (
    "`LABELS` must hold integers: y.npy holds {}. If it holds class indices all the same, save "
    "`labels.astype(numpy.int64)`."
)


@pytest.mark.parametrize("dtype", ["bool", "int64", "float64", "complex64", "U3", "longdouble", "datetime64[s]"])
def test_other_dtypes(dtype, refused):
    for name, array, sentence in (("y", LABELS, INTEGERS), ("x", LOGITS, FLOATS)):
        if dtype != {"x": "float64", "y": "int64"}[name]:
            array = np.zeros(array.shape, dtype)
            np.save(f"{name}.npy", array)
            assert refused("x.npy", "y.npy") == sentence.format(array.dtype)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_colour_png(mode, refused):
    Image.new(mode, (5, 4)).save("y.png")
    assert refused("x.npy", "y.png") == (
        f"`LABELS` must hold one label a pixel: y.png is a colour image ({mode}). Save the labels as a PNG in grey or "
        "with a palette, or map the colours to labels and save those as .npy."
    )


def test_shapes(refused):
    np.save("y.npy", LABELS[:, :3])
    assert refused("x.npy", "y.npy") == (
        "`labels` must have the shape of `logits` without the class axis 1: got logits.shape=(2, 3, 4, 5), "
        "labels.shape=(2, 3, 5). Pass `axis=` if the classes are along another axis, or "
        "`resize='bilinear'` if the logits are of another resolution."
    )
    Image.new("L", (5, 4)).save("y.png")
    assert "got logits.shape=(2, 3, 4, 5), labels.shape=(4, 5)." in refused("x.npy", "y.png")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--thresh a", "`--thresh` must be a number, or none: got 'a'."),
        ("--thresh 2", "`thresh` must lie in [0, 1], or None for no threshold: got 2.0."),
        ("--min-kept x", "`--min-kept` must be an integer (a count) or a number with a point (a fraction): got 'x'."),
        ("--min-kept -1", "`min_kept` as a count must not be negative: got -1."),
        ("--ignore-index 1.5", "`--ignore-index` must be an integer, or none: got '1.5'."),
        ("--index a", "`--index` must be an integer, or several with commas between: got 'a'."),
        ("--axis 7", "`axis` must be an axis of `logits`: got axis=7, logits.shape=(2, 3, 4, 5)."),
        ("--names no", "`--names` cannot be read: no: No such file or directory."),
        ("--names x.npy", "`--names` cannot be read: x.npy: UnicodeDecodeError: "),
        ("--image x.npy", "`--image` is what the picture is drawn on: say by `--plot` where the picture goes."),
        ("--resize cubic", "`--resize` must be one of linear, bilinear, trilinear: got 'cubic'."),
        ("--align-corners", "`align_corners` says how logits are resized"),
        ("--plot a.png --index 2", "`index` must lie in the labels of shape (2, 4, 5): got 2."),
        (
            "--plot a.png --image photo.png",
            "`image` must have the shape of the labels, (4, 5), and 3 or 4 channels last, or none: got (4, 6, 3).",
        ),
        ("--plot a.png --image x.npy", f"`--image` cannot be read: x.npy: {DAMAGED_IMAGE}"),
        ("--plot a.png --image no.png", "`--image` cannot be read: no.png: No such file or directory."),
        (
            "--plot a.png --image deep.png",
            "`--image` must have 8 bits a channel: deep.png is of mode I;16. Convert it first.",
        ),
    ],
)
def test_bad_options(options, message, refused):
    Image.new("RGB", (6, 4)).save("photo.png")
    Image.fromarray(np.zeros((4, 5), np.uint16)).save("deep.png")
    assert refused("x.npy", "y.npy", *options.split()).startswith(message)
    assert not Path("a.png").exists()


def test_library_that_cannot_compute(refused, monkeypatch):
    monkeypatch.setattr(_explain, "explain", raising(MemoryError("out of memory\nand more")))
    assert refused("x.npy", "y.npy") == "`numpy` cannot compute this: MemoryError: out of memory"


# ------------------------------------------------------------------------------------------------------- the picture


def test_photograph(explain):
    """A real photograph, its labels as a PNG, and logits that are wrong near the borders."""
    photograph = _photograph.load()
    Image.fromarray(photograph.image).save("photo.png")
    Image.fromarray(photograph.labels).save("y.png")
    sure = np.linspace(3.9, 4.1, photograph.labels.size, dtype=np.float32).reshape(photograph.labels.shape)
    np.save("x.npy", sure * (np.arange(9)[:, None, None] == np.roll(photograph.labels, 3, 1)))
    Path("names.txt").write_text("\n".join(photograph.names), encoding="utf-8")
    options = ("--image", "photo.png", "--plot", "a.png", "--names", "names.txt")
    result = explain("x.npy", "y.png", *options)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.endswith("\nPicture: a.png\n")
    assert {row[0] for row in classes(result.stdout)} == set(photograph.names)
    page = Page(height=600, head=84)
    picture = imread("a.png")[..., :3]
    assert picture.shape[:2] == page.size[::-1]
    shown = panel(picture, page, 1, 0)
    # The mined pixels are the only ones that are nearly yellow.
    share = int(stages(result.stdout)["cut.count"].replace(",", "")) / photograph.labels.size
    assert np.mean(shown[..., 0] - shown[..., 2] > 0.4) == pytest.approx(share, abs=0.005)
    assert 0.01 < share < 0.2


def test_index(explain, monkeypatch):
    seen, plot = [], Trace.plot
    monkeypatch.setattr(
        Trace, "plot", lambda *trace, **options: seen.append(options["index"]) or plot(*trace, **options)
    )
    assert explain("x.npy", "y.npy", "--plot", "a.png", "--index", "1").exit_code == 0
    np.save("x.npy", np.stack([LOGITS, LOGITS], 2))
    np.save("y.npy", np.stack([LABELS, LABELS], 1))
    assert explain("x.npy", "y.npy", "--plot", "a.png", "--index", "1,-1").exit_code == 0
    assert seen == [1, (1, -1)]


def test_losses_that_are_no_numbers(explain):
    logits = LOGITS.copy()
    logits[0, :, 0] = np.nan
    logits[1, :, 1, 0], logits[1, LABELS[1, 1, 0], 1, 0] = 0, -np.inf
    np.save("x.npy", logits)
    result = explain("x.npy", "y.npy")
    assert result.stdout.endswith("\nOf the losses 5 NaN and 1 infinite.\n")
    assert stages(result.stdout)["value"] == "nan"


def test_every_pixel_ignored(explain):
    np.save("y.npy", np.full_like(LABELS, 255))
    result = explain("x.npy", "y.npy", "--plot", "a.png")
    assert (result.exit_code, result.stderr) == (0, "")
    assert (stages(result.stdout)["n_valid"], stages(result.stdout)["value"]) == ("0", "0.0000000")
    assert classes(result.stdout) == []


def test_in_a_process_where_only_ascii_is_known(explain, tmp_path):
    """Names that have other letters; and nothing draws that is not asked to."""
    Path("names.txt").write_text("Straße\nGehweg\nHimmel\n", encoding="utf-8")
    code = f"""
    import contextlib, io, json, os, sys
    from ohemloss.__main__ import main
    os.chdir({str(tmp_path)!r})
    sys.argv = ["ohemloss", "explain", "x.npy", "y.npy", "--names", "names.txt"]
    sys.stdout = io.TextIOWrapper(out := io.BytesIO(), encoding="ascii")
    try:
        main()
    except SystemExit as end:
        sys.stdout.flush()
        outcome = [end.code, out.getvalue().decode("ascii"), "matplotlib" in sys.modules]
    print(json.dumps(outcome), file=sys.__stdout__)
    """
    status, output, draws = _processes.run(code, PYTHONWARNINGS="error", COLUMNS="80")
    assert (status, draws) == (0, False)
    assert "Stra?e" in output
