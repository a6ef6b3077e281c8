"""The command line: `ohemloss check`, from its inputs to its pages, and everything that may be wrong with a library."""

import contextlib
import hashlib
import json
import logging
import math
import re
import struct
import sys
import types
import warnings
from functools import partial
from html.parser import HTMLParser
from typing import NamedTuple

import numpy as np
import pytest

for _name in ("imgviz", "matplotlib", "typer"):
    pytest.importorskip(_name, reason="the command line needs the extra `cli`")

import array_api_compat.numpy as compat

import ohemloss
from ohemloss import Backend, _composite, _registry
from ohemloss._cli._check import _cases, _command, _find, _machine, _reference, _site, _units, _ways, _words
from ohemloss._probe import Place, Probe
from tests import _processes
from tests._cases import TOLERANCE
from tests._oracle import expect
from tests.tools import _commands
from tests.tools._commands import raising

FINGERPRINT = "2486c9b70cf733213a88909f8cd54c157ef9a4d9e23269b1d9d8e4f182d5be7a"
N_CASES = 22
ON_NUMPY = ("check", "--backend", "numpy")
NO_REPORT = "`--against` must name a report that `ohemloss check --json` wrote: there.json is none."
OTHER_SCHEMA = "`--against` must have the schema 1: there.json has 2. Make it again with this version of ohemloss."
OTHER_CASES = (
    "`--against` must be a report of the same cases: there.json is of 000000000000, and this version checks "
    f"{FINGERPRINT[:12]}. Make it again with this version of ohemloss."
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One run on NumPy, with everything that it writes."""
    folder = tmp_path_factory.mktemp("whole")
    with contextlib.chdir(folder):
        result = _commands.run(*ON_NUMPY, "--json", "a.json", "--html", "a.html")
    text = (folder / "a.json").read_text(encoding="utf-8")
    return types.SimpleNamespace(result=result, text=text, page=Page.of(folder / "a.html"))


@pytest.fixture
def told(whole):
    """What the run wrote, as it may be doctored."""
    return json.loads(whole.text, parse_constant=pytest.fail)


def run_only(monkeypatch, *chosen):
    """Run on some cases alone."""
    for name in ("cases", "cases_of_one_shape"):
        every = getattr(_cases, name)
        some = lambda dtype, every=every: tuple(case for case in every(dtype) if case.name in chosen)
        monkeypatch.setattr(_ways, name, some)


@pytest.fixture
def few_cases(monkeypatch):
    run_only(monkeypatch, "documented", "3 % hard", "both weights", "ties", "NaN hidden")


def prose(output):
    """Undo the wrapping."""
    return " ".join(output.split())


def expected_of(case):
    options = {name: array for name in ("weight", "pixel_weight") if (array := getattr(case, name)) is not None}
    return expect(case.logits, case.labels, thresh=case.thresh, min_kept=case.min_kept, **options)


@pytest.mark.parametrize("dtype", _cases.FLOATS)
class TestCases:
    def test_reference(self, dtype):
        """Laid into one shape with all options given, each case stays what it is."""
        kinds = set()
        for case, laid in zip(_cases.cases(dtype), _cases.cases_of_one_shape(dtype), strict=True):
            expected, found, of_laid = expected_of(case), _reference.reference(case), _reference.reference(laid)
            np.testing.assert_allclose(found.value, expected.value, rtol=2e-15, err_msg=case.name)
            np.testing.assert_allclose(of_laid.value, found.value, rtol=1e-15)
            part = of_laid.gradient[tuple(map(slice, case.logits.shape))]
            for gradient, desired in ((found.gradient, expected.gradient), (part, found.gradient)):
                np.testing.assert_allclose(gradient, desired, rtol=1e-12, atol=1e-17, err_msg=case.name)
            if case.name != "NaN shown":  # NaN in all classes of its pixel
                assert np.count_nonzero(of_laid.gradient) == np.count_nonzero(part)
            options = (laid.weight, laid.pixel_weight, laid.min_kept)
            kinds.add((laid.logits.shape, *map(np.shape, options), type(laid.min_kept)))
        assert kinds == {((2, 19, 64, 32), (19,), (2, 64, 32), (), int)}

    def test_no_looser_than_the_tests(self, dtype):
        for what in ("value", "gradient"):
            rtol, _ = TOLERANCE[dtype][what]
            assert _units.TOLERANCE[dtype][what] * _units.unit_of(dtype, what) <= rtol


class TestUnits:
    @pytest.mark.parametrize(
        ("found", "expected", "error"),
        [
            ([1.0, 2.0 + 2**-21], [1.0, 2.0], 2.0),  # of the largest
            ([0.0], [0.0], 0.0),
            ([1e-300], [0.0], math.inf),
            ([1.0, 1.0], [math.nan, 1.0], math.inf),
            ([math.inf], [1.0], math.inf),
            ([], [], 0.0),
        ],
    )
    def test_error(self, found, expected, error):
        assert _units.error(np.asarray(found), np.asarray(expected), 2.0**-23) == error

    def test_epsilons(self):
        """The value of a half is computed in float32."""
        eps = {dtype: np.finfo(dtype).eps for dtype in ("float16", "float32", "float64")}
        assert {dtype: _units.unit_of(dtype, "gradient") for dtype in eps} == eps
        assert {dtype: _units.unit_of(dtype, "value") for dtype in eps} == eps | {"float16": eps["float32"]}

    def test_amount(self):
        texts = {0.001: "<.01", 9.996: "10", 123.4: "123", 1234567.0: "1e6"}
        assert {error: _words.amount(error) for error in texts} == texts


class TestOutput:
    def test_table(self, whole):
        assert (whole.result.exit_code, whole.result.stderr) == (0, "")
        lines = whole.result.stdout.splitlines()
        assert max(map(len, lines)) <= 80
        rows = [line.split() for line in lines if re.match(r"numpy +cpu +float", line)]
        dtypes = ("float16", "float32", "float64")
        kinds = [(dtype, way) for dtype in dtypes for way in ("eager", "closed form")]
        assert [(row[2], " ".join(row[3:-5])) for row in rows] == kinds
        for row in rows:
            value, gradient, repeats, seconds, outcome = row[-5:]
            assert (repeats, outcome) == ("yes", "ok")
            assert 0 < float(value) < 4
            assert gradient == "-" if "eager" in row else 0 < float(gradient) < 4
            assert float(seconds) >= 0
        assert re.match(r"All 6 rows are within the tolerance\. \d+ s\.", lines[-1])
        assert f"ohemloss {ohemloss.__version__}" in lines[0]
        assert f"NumPy {np.__version__}" in whole.result.stdout
        assert "cpu: no bfloat16, the library does not name it" in whole.result.stdout
        assert "float16 16 and 1, bfloat16 16 and 1, float32 16 and 16, float64 64 and 64" in prose(whole.result.stdout)

    def test_json(self, told):
        assert (told["kind"], told["schema"], told["passed"]) == ("ohemloss check", 1, True)
        assert told["cases"] == {"fingerprint": FINGERPRINT, "about": _cases.names()}
        assert told["versions"]["numpy"] == np.__version__
        assert told["machine"]["processor"]
        assert told["tolerance"] == _units.TOLERANCE
        (library,) = told["libraries"]
        assert (library["name"], library["status"], library["failed"]) == ("numpy", "here", False)
        (device,) = library["devices"]
        assert (device["label"], device["dtypes"]) == ("cpu", ["float16", "float32", "float64"])
        assert [len(row["cells"]) for row in told["rows"]] == [N_CASES] * 6

    def test_json_cells(self, told):
        """The bits are those of the value, the hash that of the gradient, and the errors what they are called."""
        (row,) = (row for row in told["rows"] if (row["dtype"], row["way"]) == ("float32", "closed form"))
        case, cell = _cases.cases("float32")[2], row["cells"][2]
        value, gradient = ohemloss.value_and_grad(np.asarray(case.logits, np.float32), case.labels)
        assert cell["case"] == case.name == "40 % hard"
        assert struct.unpack(">f", bytes.fromhex(cell["value_bits"])) == (value,) == (cell["value"],)
        assert cell["gradient_hash"] == hashlib.sha256(gradient.astype(">f4").tobytes()).hexdigest()
        expected = expected_of(case)
        apart = abs(float(value) - expected.value) / expected.value
        assert cell["value_error"] == pytest.approx(apart * 2**23, rel=1e-6)
        apart = np.max(np.abs(gradient - expected.gradient))
        assert cell["gradient_error"] == pytest.approx(apart * expected.steps.count * 2**23, rel=0.1)
        assert (cell["passed"], cell["repeats"], len(cell["seconds"])) == (True, True, 2)

    def test_json_of_what_is_no_number(self, told):
        (row,) = (row for row in told["rows"] if (row["dtype"], row["way"]) == ("float64", "eager"))
        cell = row["cells"][-1]
        assert (cell["case"], cell["value"], cell["value_bits"]) == ("NaN shown", "nan", "7ff8000000000000")
        assert (cell["value_error"], cell["gradient_error"], cell["gradient_hash"]) == (0.0, None, None)

    def test_html(self, whole):
        page = whole.page
        assert page.title == "ohemloss check: passed"
        assert "All 6 rows are within the tolerance." in page.text
        for told in (*_cases.names().values(), FINGERPRINT, np.__version__, "epsilon", "float64 reference"):
            assert told in page.text
        maps = ["Errors of the value", "Errors of the gradient"]
        assert page.headings == ["Machine and versions", *maps, "Rows", "What is allowed", "Cases"]
        assert [len(rows) for rows in page.maps] == [6, 3]
        assert all(len(row) == N_CASES for rows in page.maps for row in rows)
        assert all(text and kind.startswith("s") for rows in page.maps for row in rows for kind, text in row)
        # Half a rounding of a half is near a half of what is allowed, and so darker.
        assert page.maps[1][0][1][0] == "s4"

    def test_progress_on_a_terminal(self, invoke, few_cases, monkeypatch):
        monkeypatch.setenv("TTY_COMPATIBLE", "1")
        result = invoke(*ON_NUMPY, "--backend", "numpy")  # named twice, and checked once
        assert "looking for libraries" in result.stderr
        assert "All 6 rows" in result.stdout


class Page(HTMLParser):
    """A page of HTML: every tag is closed where it should be, and nothing is loaded from elsewhere."""

    def __init__(self):
        super().__init__()
        self.open, self.headings, self.maps, self.text, self.title, self.kind = [], [], [], "", "", ""

    @classmethod
    def of(cls, path):
        """Read a file, whole."""
        page, html = cls(), path.read_text(encoding="utf-8")
        page.feed(html)
        page.close()
        assert page.open == []
        assert not re.search(r"https?:|url\(|@import|javascript", html)
        return page

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        assert tag not in ("script", "link", "img", "iframe", "object", "embed", "base", "form")
        assert not set(given) & {"src", "href", "style"} | {name for name in given if name.startswith("on")}
        if tag != "meta":
            self.open.append(tag)
        if given.get("class") == "heat":
            self.maps.append([])
        elif tag == "td":
            self.kind = given.get("class") or ""
        elif tag == "th" and given.get("scope") == "row":
            self.maps[-1].append([])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        tag = self.open[-1] if self.open else ""
        if tag == "title":
            self.title = data
        elif tag == "h2":
            self.headings.append(data)
        elif tag == "td" and self.maps and self.maps[-1] and "s" in self.kind:
            self.maps[-1][-1].append((self.kind, data))


class TestAgainst:
    @pytest.fixture
    def compare(self, invoke, told, tmp_path):
        """Run against a report that was doctored; what differs is told, and is no failure."""

        def run():
            (tmp_path / "there.json").write_text(json.dumps(told), encoding="utf-8")
            result = invoke(*ON_NUMPY, "--against", "there.json", "--html", "b.html")
            assert result.exit_code == 0
            return result.stdout, Page.of(tmp_path / "b.html")

        return run

    def test_the_same(self, compare):
        output, page = compare()
        n = 6 * N_CASES
        assert f"Of {n} cells that are in both reports, {n} have equal bits, and 0 have not." in output
        assert "other bits" not in output
        assert "Against there.json" in page.headings
        assert len(page.maps) == 2

    def test_bits_and_failures(self, told, compare):
        """One bit of a value, all bits of a gradient, and a cell that failed there."""
        cells = [row["cells"] for row in told["rows"]]
        cells[0][1] |= {
            "cause": "E: no & <b>", "value": "nan", "value_bits": "", "value_error": "inf", "passed": False
        }  # fmt: skip
        cells[1][0] |= {"gradient_hash": "0" * 64, "gradient_error": 0.5}
        assert cells[2][3]["case"] == "3 % hard"
        bits = f"{int(cells[2][3]['value_bits'], 16) + 1:08x}"
        cells[2][3] |= {"value_bits": bits, "value": struct.unpack(">f", bytes.fromhex(bits))[0]}
        output, page = compare()
        for line in (
            r"float16 eager +1 +inf +inf +0\.\d\d +- +-",
            r"float16 closed form +1 +0 .* 0\.50 +0\.3\d",
            r"float32 eager +1 +0\.[5-9]\d .*",
            r"float32 eager, 3 % hard: 1\.44\d+ to 1\.44\d+",
        ):
            assert re.search(f"^numpy cpu {line}$", output, re.MULTILINE), line
        for words in (
            "there: E: no & <b>",
            "documented: error of the gradient 0.5 to 0.3",
            "129 have equal bits, and 3 ",
        ):
            assert words in prose(output)
        failed, gradient, value = page.maps[0]
        assert failed == [("s2", "inf")]
        assert gradient == [("s2", "=")]
        assert all(value[0])
        assert len(value) == 1

    def test_versions_and_rows_of_one_alone(self, told, compare):
        told["versions"]["Python"] = "3.99"
        told["libraries"][0]["versions"]["Numba & co"] = "<1>"
        told["libraries"][0]["devices"][0]["model"] = "other"
        told["rows"][0]["device"] = "cuda:7"
        del told["rows"][1]["cells"][5]
        output, page = compare()
        for line in (r"Python +3\.\d+\.\d+ +3\.99", r"numpy: Numba & co +absent +<1>", r"numpy cpu +absent +other"):
            assert re.search(line, output), line
        assert "<1>" in page.text
        for line in ("here: numpy cpu float16 eager", "here: numpy cpu float16 closed form many pixels"):
            assert f"only {line}" in output.splitlines()
        assert "only there: numpy cuda:7 float16 eager" in output.splitlines()
        assert f"Of {5 * N_CASES - 1} cells that are in both" in output
        assert "numpy cuda:7 float16 eager" in page.text
        told["rows"] = []
        assert "No row is in both reports." in compare()[0]

    @pytest.mark.parametrize(
        ("report", "sentence"),
        [
            (None, "`--against` cannot be read: there.json: No such file or directory."),
            ('{"kind": "ohemloss check", "schema": 2}', OTHER_SCHEMA),
            (lambda told: told["cases"].update(fingerprint="0" * 64), OTHER_CASES),
            *((text, NO_REPORT) for text in ("\xff", "{", "[" * 100_000, "[]", '{"kind": "another"}')),
            ('{"kind": "ohemloss check", "schema": 1}', NO_REPORT),
            (lambda told: told["rows"].append({}), NO_REPORT),
            (lambda told: told["rows"][0]["cells"][0].update(value="much"), NO_REPORT),
            (lambda told: told["rows"][0]["cells"][0].update(more=1), NO_REPORT),
            (lambda told: told["libraries"].append([]), NO_REPORT),
            (lambda told: told.update(cases=None), NO_REPORT),
            (lambda told: told.update(versions=[]), NO_REPORT),
        ],
    )
    def test_useless_report(self, report, sentence, told, refused, tmp_path, monkeypatch):
        """The command refuses it before it computes anything."""
        monkeypatch.setattr(_command, "find", pytest.fail)
        if callable(report):
            report(told)
            report = json.dumps(told)
        if report is not None:
            (tmp_path / "there.json").write_text(report, encoding="latin-1")
        assert refused("check", "--against", "there.json") == sentence


def serve(monkeypatch, *, probe=None, asarray=None, **backend):
    """Make a library that is NumPy under another name, with a backend that may do anything."""

    class StubArray(np.ndarray):
        pass

    public = {name: value for name, value in vars(compat).items() if not name.startswith("__")}
    stub = _commands.module("stub", **public, __array_namespace_info__=compat.__array_namespace_info__)
    stub.__dict__.update(asarray=asarray or (lambda x, **options: compat.asarray(x, **options).view(StubArray)))
    stub.__dict__["probe"] = probe
    monkeypatch.setitem(sys.modules, "stub", stub)
    for table in ("_by_type", "_registered"):
        monkeypatch.setattr(_registry, table, dict(getattr(_registry, table)))
    where = None if probe is None else "stub:probe"
    ohemloss.register(Backend(name="stub", namespace="stub", probe=where, **backend), StubArray)
    return stub


EVERY = frozenset({"weight", "pixel_weight", "thresh", "min_kept", "thresh as an array", "min_kept as an array"})
STUB = ("check", "--backend", "stub")


def a_probe(**functions):
    here = {"versions": lambda: {"Stub": "1"}, "places": lambda: [Place(device="cpu", label="one")]}
    return Probe(**here | functions)


def by_differences(loss):
    """Stand in for a library that differentiates: the closed form, of the same arguments."""

    def run(logits, labels, weight, pixel_weight, thresh, min_kept):
        options = {"weight": weight, "pixel_weight": pixel_weight, "thresh": thresh, "min_kept": min_kept}
        value, gradient = ohemloss.value_and_grad(logits, labels, **options)
        assert loss(logits, labels, *options.values()) == value or np.isnan(value)
        return value, gradient

    return run


def failing_with_weights(engine, inputs, options):
    if inputs.weight is not None:
        raise RuntimeError
    return _composite.loss(engine, inputs, options)


def alternating(function):
    """Make the numbers of a function differ by a bit at every second call."""
    calls = []

    def call(*arguments):
        calls.append(1)
        factor = np.float32(1 + len(calls) % 2 * 2.0**-23)
        result = function(*arguments)
        return (result[0], result[1] * factor) if isinstance(result, tuple) else result * factor

    return call


ONE_CASE = "stub cpu float32 eager: 1 of 5 cases. both weights: RuntimeError."
NO_COMPILER = "stub one float32 compiled: 5 of 5 cases. documented: RuntimeError: no compiler."
GOOD_AND_BAD = [Place(device="cpu", label="good"), Place(device="bad", label="bad", model="A <100>")]

NEVER = raising(RuntimeError("no compiler"))
OLD_DRIVER = raising(RuntimeError("old driver"))


@pytest.mark.usefixtures("few_cases")
class TestBrokenLibraries:
    """Each is a row that says what is wrong, never a traceback, and what else there is is checked all the same."""

    def failed(self, result, *sentences):
        assert isinstance(result.exception, SystemExit)
        assert (result.exit_code, result.stderr) == (1, "")
        assert re.search(r"^FAILED: ", result.stdout.splitlines()[-1])
        for sentence in sentences:
            assert sentence in prose(result.stdout)
        return result

    @pytest.mark.parametrize(
        ("error", "sentence"),
        [
            (RuntimeError("libdriver.so: no\nand more"), "cannot be imported: RuntimeError: libdriver.so: no"),
            (ModuleNotFoundError("no", name="stub_parts"), "cannot be used: `stub_parts` is not installed."),
        ],
    )
    def test_import(self, error, sentence, invoke, monkeypatch):
        """In a run that nobody asked for it in, too: it is installed, and broken."""
        named = _registry.named
        monkeypatch.setattr(_registry, "named", lambda name: raising(error)() if name == "stub" else named(name))
        monkeypatch.setattr(_registry, "installed_names", lambda: ["numpy", "stub"])
        result = self.failed(invoke("check"), f"FAILED stub: `stub` {sentence}", "FAILED: stub.")
        assert re.search(r"^stub +broken", result.stdout, re.MULTILINE)
        assert re.search(r"^numpy .* ok *$", result.stdout, re.MULTILINE)

    @pytest.mark.parametrize(
        ("backend", "sentence", "works"),
        [
            ({"asarray": list}, "stub: `stub` is no array API namespace: its `asarray` makes a list.", None),
            (
                {"probe": a_probe(places=OLD_DRIVER)},
                "stub: `stub` cannot list its devices: RuntimeError: old driver",
                None,
            ),
            (
                {"probe": a_probe(places=lambda: GOOD_AND_BAD)},
                "stub bad: it makes no float32: ValueError:",
                "good eager",
            ),
            ({"loss": failing_with_weights, "supports": EVERY}, ONE_CASE, "cpu closed form"),
            ({"probe": a_probe(compiled=NEVER, differentiated=by_differences)}, NO_COMPILER, "one autograd"),
            ({"probe": a_probe(compiled=lambda loss: NEVER)}, NO_COMPILER, "one closed form"),
        ],
        ids=["no array", "no list of devices", "no array there", "one case", "no compiler", "no compiler when called"],
    )
    def test_failure(self, backend, sentence, works, invoke, monkeypatch, tmp_path):
        serve(monkeypatch, **backend)
        result = self.failed(invoke(*STUB, "--html", "a.html"), f"FAILED {sentence}")
        if works:
            device, way = works.split(maxsplit=1)
            assert re.search(rf"^stub +{device} +float32 +{way} .* ok *$", result.stdout, re.MULTILINE)
        assert Page.of(tmp_path / "a.html").title == "ohemloss check: FAILED"
        if sentence == NO_COMPILER:
            assert invoke(*STUB, "--quick").exit_code == 0

    def test_in_the_middle_of_the_loss(self, invoke, monkeypatch):
        """What takes a while to fail is not tried for each case."""
        calls, fail = [], raising(RuntimeError("illegal <instruction>\nand more"))
        serve(monkeypatch, loss=lambda *_: calls.append(1) or fail(), supports=EVERY)
        result = self.failed(
            invoke(*STUB),
            "FAILED stub cpu float32 eager: 5 of 5 cases. documented: RuntimeError: illegal <instruction>.",
            "FAILED: 3 of 6 rows.",
        )
        assert len(calls) == 3 * 3
        assert "and more" not in result.stdout
        assert re.search(r"^stub +cpu +float32 +closed form .* ok *$", result.stdout, re.MULTILINE)

    @pytest.mark.parametrize(
        ("wrong", "sentence"),
        [
            (lambda v, g: (v * (1 + 20 * 2.0**-23), g), r"the value is 2[01] epsilons off, 16 allowed\."),
            (lambda v, g: (v * math.nan, g), "documented: the value is inf epsilons off, 16 allowed."),
            (lambda v, g: (v, g + np.float32(2e-6) * np.max(np.abs(g))), r"the gradient is 1[78] epsilons off, 16"),
            (lambda v, g: (v, g * math.nan), "documented: the gradient is inf epsilons off, 16 allowed."),
            (lambda v, g: (v, g[:1]), "documented: the gradient is inf epsilons off"),
            (lambda v, g: (np.float16(v), g), "TypeError: the result has dtype float16, and not float32"),
            (lambda v, g: (v, np.float64(g)), "TypeError: the result has dtype float64, and not float32"),
        ],
    )
    def test_wrong_numbers(self, wrong, sentence, invoke, monkeypatch, tmp_path):
        monkeypatch.setattr(_site, "FLOATS", ("float32",))

        serve(monkeypatch, value_and_grad=lambda *call: wrong(*_composite.value_and_grad(*call)), supports=EVERY)
        result = self.failed(invoke(*STUB, "--html", "a.html"), "FAILED: 1 of 2 rows.")
        assert re.search(sentence, prose(result.stdout))
        page = Page.of(tmp_path / "a.html")
        missed = [text for rows in page.maps for row in rows for kind, text in row if kind == "miss"]
        assert missed
        assert all(text.startswith("✕") for text in missed)

    def test_text_of_a_library_is_escaped(self, invoke, monkeypatch, tmp_path):
        evil = "<script>alert('&')</script>"
        serve(
            monkeypatch,
            probe=a_probe(versions=lambda: {evil: evil}, places=lambda: [Place(device="cpu", label=evil, model=evil)]),
            loss=raising(RuntimeError(f'"{evil}"')),
            supports=EVERY,
        )
        assert invoke(*STUB, "--html", "a.html").exit_code == 1
        page = Page.of(tmp_path / "a.html")
        assert page.title == "ohemloss check: FAILED"
        assert page.text.count(evil) == 18
        assert [kind for kind, _ in page.maps[0][0]] == ["miss"] * 5
        assert page.maps[0][0][0][1] == "✕"


@pytest.mark.usefixtures("few_cases")
class TestWhatIsNoFailure:
    def passed(self, result):
        assert (result.exit_code, result.stderr) == (0, "")
        assert "rows are within the tolerance." in result.stdout
        return result.stdout

    def test_devices_that_share_each_batch(self, invoke, monkeypatch, tmp_path):
        """They are counted, in the table and in the report; the check needs no versions."""
        places = [Place(device="cpu", label="all", n_devices=3, spread=lambda array: array)]
        serve(monkeypatch, probe=a_probe(places=lambda: places, versions=raising(OSError("no"))))
        output = prose(self.passed(invoke(*STUB, "--json", "r.json")))
        assert "all: the processor, 3 devices that share each batch" in output
        assert "versions not told: OSError: no" in output
        (library,) = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["libraries"]
        assert library["devices"][0]["n_devices"] == 3

    def test_other_numbers_each_time(self, invoke, monkeypatch):
        monkeypatch.setattr(_site, "FLOATS", ("float32",))
        for changed, line in (
            ({"loss": alternating(_composite.loss)}, r"eager +\d\.\d\d +- +NO "),
            ({"value_and_grad": alternating(_composite.value_and_grad)}, r"closed form .* NO "),
        ):
            with monkeypatch.context() as patch:
                serve(patch, supports=EVERY, **changed)
                output = self.passed(invoke(*STUB))
            assert re.search(rf"^stub +cpu +float32 +{line}", output, re.MULTILINE)
            assert len(re.findall(r"^stub +cpu .* yes ", output, re.MULTILINE)) == 1

    def test_warnings_stay_out(self, invoke, monkeypatch, capfd):
        stub, logged = serve(monkeypatch), []
        handler = logging.StreamHandler()
        monkeypatch.setattr(handler, "emit", logged.append)
        monkeypatch.setattr(logging.getLogger("stub"), "handlers", [handler])
        asarray = stub.asarray

        def chatty(x, **options):
            warnings.warn("look at me", UserWarning, stacklevel=2)
            logging.getLogger("stub").warning("look at me")
            return asarray(x, **options)

        stub.__dict__["asarray"] = chatty
        output = self.passed(invoke(*STUB))
        assert "look at me" not in output + "".join(capfd.readouterr())
        assert logged == []
        assert logging.root.manager.disable == logging.NOTSET

    def test_not_installed(self, invoke, monkeypatch):
        """An installed backend whose library is not there is a row."""
        for module in [name for name in sys.modules if name.partition(".")[0] == "ohemloss_torch"]:
            monkeypatch.delitem(sys.modules, module)
        monkeypatch.setitem(sys.modules, "torch", None)
        monkeypatch.setattr(_registry, "installed_names", lambda: ["numpy", "torch"])
        output = self.passed(invoke("check"))
        assert re.search(r"^torch +not installed", output, re.MULTILINE)
        assert "`torch` cannot be used: `torch` is not installed. Install `ohemloss[torch]`." in prose(output)
        assert "All 6 rows" in output

    def test_no_device(self, invoke, monkeypatch):
        """Of a library that was named it is a failure."""
        cupy = pytest.importorskip("cupy")
        if cupy.cuda.runtime.driverGetVersion():
            pytest.skip("there may be a device")
        monkeypatch.setattr(_registry, "installed_names", lambda: ["cupy", "numpy"])
        output = self.passed(invoke("check"))
        assert re.search(r"^cupy +no device `cupy` is installed but cannot", output, re.MULTILINE)
        assert f"CuPy {cupy.__version__}" in prose(output)
        result = invoke("check", "--backend", "cupy")
        assert result.exit_code == 1
        assert result.stdout.splitlines()[-1].startswith("FAILED: cupy.")


class TestDevices:
    """What backends tell of devices that are not here."""

    @pytest.mark.filterwarnings("ignore:Explicitly requested dtype:UserWarning")
    @pytest.mark.parametrize("name", ["dask.array", "jax", "mlx.core", "ndonnx"])
    def test_of_other_libraries(self, name):
        """A dtype is there if it comes back, whatever the library says."""
        pytest.importorskip(name)
        found = _find.find(name)
        place = found.places[0]
        assert found.status == "here"
        assert " at 0x" not in place.label
        dtypes, absent = _site.floats(_site.Site(found.xp, place))
        assert "float32" in dtypes
        if name == "jax":
            assert dtypes == ["float16", "bfloat16", "float32"]
            assert absent == {"float64": "asked for, it comes back as float32"}

    def test_of_pytorch(self, monkeypatch):
        torch = pytest.importorskip("torch")
        from ohemloss_torch import _check

        assert _check.places()[0] == Place(device=torch.device("cpu"), label="cpu")
        assert _check.versions()["PyTorch"] == torch.__version__
        monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
        monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"Card {device.index}")
        places = [(place.label, place.model) for place in _check.places()[1:]]
        assert places == [("cuda:0", "Card 0"), ("cuda:1", "Card 1")]

    def test_of_jax(self, monkeypatch):
        jax = pytest.importorskip("jax")
        from ohemloss_jax import _check

        assert _check.places()[0].label == "cpu:0"
        assert _check.versions()["JAX"] == jax.__version__

        class Device(NamedTuple):
            platform: str
            id: int
            device_kind: str = "Card"
            client = property(lambda self: types.SimpleNamespace(platform_version=f"{self.platform}\n  12"))

            def __str__(self):
                return f"{self.platform}:{self.id}"

        here = {None: [Device("cuda", 1), Device("cuda", 0)], "cpu": [Device("cpu", 0)]}
        monkeypatch.setattr(_check.jax, "devices", lambda platform=None: here[platform])
        places = [(place.label, place.model, place.n_devices) for place in _check.places()]
        assert places == [("cpu:0", "", 1), ("cuda:0", "Card", 1), ("cuda:1", "Card", 1), ("all cuda", "Card", 2)]
        assert _check.versions()["platform cuda"] == "cuda 12"

    def test_of_all_devices_of_jax(self):
        """
        Each batch is spread over them, the first axis that can be cut evenly, and the report counts them.

        A loss imports nothing of that.
        """
        for package in ("jax", "torch"):
            pytest.importorskip(package)
        code = """
        import json, sys
        import jax.numpy as jnp, numpy, torch
        import ohemloss
        logits, labels = numpy.zeros((1, 2), "f4"), numpy.zeros(1, "i4")
        for asarray in (numpy.asarray, jnp.asarray, torch.asarray):
            ohemloss.ohem_cross_entropy(asarray(logits), asarray(labels))
        modules = [name for name in sys.modules if "ohemloss" in name]
        from ohemloss._cli._check import _find
        place = _find.find("jax").places[-1]
        parts = {}
        for shape in ((), (3,), (3, 8), (4, 8), (0, 4)):
            spread = place.spread(jnp.zeros(shape))
            parts[str(shape)] = [len(spread.devices()), list(spread.addressable_shards[0].data.shape)]
        print(json.dumps([modules, place.label, place.n_devices, parts]))
        """
        devices = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
        modules, *found = _processes.run(code, **devices)
        assert found == [
            "all cpu",
            4,
            {"()": [4, []], "(3,)": [4, [3]], "(3, 8)": [4, [3, 2]], "(4, 8)": [4, [1, 8]], "(0, 4)": [4, [0, 1]]},
        ]
        assert {"ohemloss_numpy", "ohemloss_jax", "ohemloss_torch"} <= set(modules)
        assert not [name for name in modules if name.endswith(("_check", "_probe")) or "_cli" in name]

    @pytest.mark.parametrize(
        ("driver", "status", "labels"),
        [(0, 35, []), (13000, 100, []), (13000, 0, ["cuda:0", "cuda:1"]), (11000, 35, None)],
    )
    def test_of_cupy(self, driver, status, labels, monkeypatch):
        """An old driver is an error, and not the same as no device."""
        pytest.importorskip("cupy")
        from ohemloss_cupy import _check

        class CUDARuntimeError(RuntimeError):
            pass

        CUDARuntimeError.status = status
        runtime = types.SimpleNamespace(
            driverGetVersion=lambda: driver,
            getDeviceCount=raising(CUDARuntimeError()) if status else lambda: 2,
            getDeviceProperties=lambda i: {"name": b"Card"},
            CUDARuntimeError=CUDARuntimeError,
        )
        cuda = types.SimpleNamespace(runtime=runtime, Device=lambda i: i)
        monkeypatch.setattr(_check, "cupy", types.SimpleNamespace(cuda=cuda))
        if labels is None:
            with pytest.raises(CUDARuntimeError):
                _check.places()
        else:
            places = [(place.label, place.model) for place in _check.places()]
            assert places == [(label, "Card") for label in labels]

    def test_of_cupy_without_a_compiler(self, monkeypatch):
        cupy = pytest.importorskip("cupy")
        from ohemloss_cupy import _check

        monkeypatch.setattr(cupy.cuda.nvrtc, "getVersion", raising(RuntimeError("No such file: libnvrtc.so")))
        versions = _check.versions()
        assert versions["NVRTC"] == "not found"
        assert versions["CuPy"] == cupy.__version__


class TestLibraries:
    def test_all(self, invoke, monkeypatch):
        """NumPy, PyTorch and JAX, in every way. PyTorch traces but compiles nothing, which would take a minute."""
        torch = pytest.importorskip("torch")
        pytest.importorskip("jax")
        run_only(monkeypatch, "3 % hard")
        monkeypatch.setattr(_site, "FLOATS", ("bfloat16", "float32"))
        monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
        result = invoke("check", *(word for name in ("numpy", "torch", "jax") for word in ("--backend", name)))
        assert (result.exit_code, result.stderr) == (0, "")
        row = r"^(\w+) +cpu\S* +(b?float\d+) +(eager|closed form|autograd|compiled) .* ok *$"
        ways = ["eager", "closed form", "autograd", "compiled"]
        dtypes = {"numpy": ["float32"], "torch": ["bfloat16", "float32"], "jax": ["bfloat16", "float32"]}
        expected = [(name, dtype, way) for name in dtypes for dtype in dtypes[name] for way in ways]
        expected = [row for row in expected if row[0] != "numpy" or row[2] in ways[:2]]
        assert re.findall(row, result.stdout, re.MULTILINE) == expected

    def test_several_devices(self, invoke, few_cases, tmp_path):
        """A library whose devices the standard lists."""
        strict = pytest.importorskip("array_api_strict")
        result = invoke("check", "--backend", "array_api_strict", "--json", "r.json")
        assert (result.exit_code, result.stderr) == (0, "")
        assert "All 16 rows" in result.stdout
        assert max(map(len, result.stdout.splitlines())) <= 80
        (library,) = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["libraries"]
        devices = {device["label"]: device for device in library["devices"]}
        assert list(devices) == ["CPU_DEVICE", "device1", "device2", "no_float64", "no_x64"]
        absent = devices["no_float64"]["absent"]
        assert devices["no_float64"]["dtypes"] == ["float32"]
        assert absent["float16"] == absent["bfloat16"] == "the library does not name it"
        assert absent["float64"].startswith("ValueError: ")
        assert library["versions"] == {"array_api_strict": strict.__version__}


def test_machine(tmp_path, monkeypatch):
    """What Linux tells in files, and without them what Python knows."""
    for name in ("_PROCESSORS", "_DRIVER"):
        monkeypatch.setattr(_machine, name, tmp_path / name)
    machine = _machine.machine()
    assert machine["processor"]
    assert "driver" not in machine
    (tmp_path / "_PROCESSORS").write_text("flags\t: a\nmodel name\t:  Some  CPU\nmodel name: other\n")
    (tmp_path / "_DRIVER").write_text("NVRM version: NVIDIA UNIX  999.1\nGCC version: x\n")
    machine = _machine.machine()
    assert (machine["processor"], machine["driver"]) == ("Some CPU", "NVIDIA UNIX 999.1")
