"""Every message: the argument, the rule, what came, and what to do."""

import re

import numpy as np
import pytest

import ohemloss
from tests._cases import make

CALLS = [ohemloss.ohem_cross_entropy, ohemloss.value_and_grad, ohemloss.explain]


@pytest.fixture(params=CALLS, ids=lambda call: call.__name__)
def call(request):
    return request.param


@pytest.fixture
def arrays(library):
    logits, labels = make(shape=(2, 3, 4))
    return library.asarray(logits, "float32"), library.asarray(labels)


def refuses(error, message):
    """The whole message, but for `...`."""
    pattern = re.escape(message).replace(re.escape("..."), ".*")
    return pytest.raises(error, match=f"^{pattern}$")


class TestArrays:
    def test_not_an_array(self, arrays, call):
        x, y = arrays
        rest = "must be an array of an array API library: got list. Convert it to one first."
        with refuses(TypeError, f"`logits` {rest}"):
            call([[0.0]], y)
        with refuses(TypeError, f"`labels` {rest}"):
            call(x, [0])
        with refuses(TypeError, f"`pixel_weight` {rest}"):
            call(x, y, pixel_weight=[1.0])
        with refuses(TypeError, "`weight` must be an array, or a sequence of numbers: got 1.0."):
            call(x, y, weight=1.0)

    def test_another_library(self, library, arrays, call):
        """Each library against one that it is not."""
        import array_api_strict

        x, y = arrays
        theirs, name = (np.zeros((2, 3, 4), np.int64), "numpy")
        if library.package == "numpy":
            theirs, name = array_api_strict.asarray(theirs), "array_api_strict"
        message = (
            "`labels` must come from the library of `logits`: "
            f"got logits from {library.package} and labels from {name}. "
            "Convert one of them."
        )
        with refuses(TypeError, message):
            call(x, theirs)
        with refuses(
            TypeError, "`weight` must come from the library of `logits`: got logits from ... and weight from..."
        ):
            call(x, y, weight=theirs)
        with refuses(TypeError, "`pixel_weight` must come from the library of `logits`: got logits from ..."):
            call(x, y, pixel_weight=theirs)

    @pytest.mark.every_library
    def test_logits_dtype(self, library, arrays, call):
        _, y = arrays
        message = "`logits` must have a real floating dtype (...float32...): got ...int32.... Convert it first."
        with refuses(TypeError, message):
            call(library.asarray(np.zeros((2, 5, 3, 4)), "int32"), y)

    @pytest.mark.every_library
    @pytest.mark.parametrize("dtype", ["float32", "bool"])
    def test_labels_dtype(self, library, arrays, call, dtype):
        x, _ = arrays
        name = dtype if hasattr(library.xp, dtype) else "bool_"
        message = f"`labels` must have an integer dtype (...int32...): got ...{dtype}.... Convert it first."
        with refuses(TypeError, message):
            call(x, library.xp.astype(library.asarray(np.zeros((2, 3, 4)), "int32"), getattr(library.xp, name)))

    def test_weight_dtypes(self, library, arrays, call):
        x, y = arrays
        with refuses(TypeError, "`weight` must have a real floating dtype (...): got ...int32.... Convert it first."):
            call(x, y, weight=library.asarray(np.ones(5), "int32"))
        with refuses(
            TypeError, "`pixel_weight` must have a real floating dtype (...): got ...int32.... Convert it first."
        ):
            call(x, y, pixel_weight=library.asarray(np.ones((2, 3, 4)), "int32"))


PIXELS = "`labels` must have the shape of `logits` without the class axis 1"
SHAPES = [
    (
        (2, 5, 3, 4),
        (2, 1, 3, 4),
        {},
        (
            f"{PIXELS}: got logits.shape=(2, 5, 3, 4), labels.shape=(2, 1, 3, 4). "
            "Remove the axis of length 1, or convert one-hot labels to class indices."
        ),
    ),
    (
        (2, 5, 3, 4),
        (2, 6, 8),
        {},
        (
            f"{PIXELS}: got logits.shape=(2, 5, 3, 4), labels.shape=(2, 6, 8). Pass `axis=` if the classes are along "
            "another axis, or `resize='bilinear'` if the logits are of another resolution."
        ),
    ),
    ((2, 5, 3, 4), (24,), {}, f"{PIXELS}: got logits.shape=(2, 5, 3, 4), labels.shape=(24,)."),
    *(
        (
            (2, 5, 3, 4),
            shape,
            {"resize": resize},
            (
                f"{PIXELS}, but for the last {n} axes, for resize={resize!r}: got logits.shape=(2, 5, 3, 4), "
                f"labels.shape={shape}."
            ),
        )
        for resize, n, shape in (
            ("bilinear", 2, (3, 6, 8)),
            ("linear", 1, (2, 6, 8)),
            ("linear", 1, (6,)),
            ("bilinear", 2, (2, 6)),
        )
    ),
    (
        (2, 5, 3),
        (2, 3),
        {"resize": "trilinear"},
        "... but for the last 3 axes, for resize='trilinear': got logits.shape=(2, 5, 3), labels.shape=(2, 3).",
    ),
    (
        (2, 5, 0, 4),
        (2, 6, 8),
        {"resize": "bilinear"},
        "`logits` must have pixels to be resized: got logits.shape=(2, 5, 0, 4), labels.shape=(2, 6, 8).",
    ),
    *(
        (
            (2, 5, 3, 4),
            (2, 3, 4),
            {"axis": axis},
            f"`axis` must be an axis of `logits`: got axis={axis}, logits.shape=(2, 5, 3, 4).",
        )
        for axis in (4, -5)
    ),
    ((), (), {}, "`logits` must have a class axis: got a 0-d array."),
    ((2, 0), (2,), {}, "`logits` must have at least one class along axis 1: got logits.shape=(2, 0)."),
]


class TestShapes:
    @pytest.mark.parametrize("row", SHAPES, ids=lambda row: f"{row[:3]}")
    def test_logits_and_labels(self, library, call, row):
        of_logits, of_labels, options, message = row
        x, y = library.asarray(np.zeros(of_logits), "float32"), library.asarray(np.zeros(of_labels, np.int64))
        with refuses(ValueError, message):
            call(x, y, **options)

    def test_weight(self, library, arrays, call):
        message = "`weight` must have one number per class: got weight.shape={} for 5 classes."
        for shape in ((4,), (5, 1), ()):
            with refuses(ValueError, message.format(shape)):
                call(*arrays, weight=library.asarray(np.ones(shape), "float32"))
        with refuses(ValueError, message.format((4,))):
            call(*arrays, weight=(1, 2, 3, 4))

    @pytest.mark.parametrize("shape", [(2, 3, 5), (2, 2, 3, 4), (3,), (2, 1)])
    def test_pixel_weight(self, library, arrays, call, shape):
        message = (
            "`pixel_weight` must have the shape of `labels`, or one that broadcasts to it: "
            f"got pixel_weight.shape={shape}, labels.shape=(2, 3, 4)."
        )
        with refuses(ValueError, message):
            call(*arrays, pixel_weight=library.asarray(np.ones(shape), "float32"))


class TestLabelValues:
    @pytest.mark.skip_library("jax", "cupy", "torch-cuda", reason="does not look at labels")
    @pytest.mark.parametrize("dtype", ["int64", "int32"])
    def test_lists_values_and_their_number(self, library, call, dtype):
        dtype = "int32" if library.label_dtype == "int32" else dtype
        logits, labels = make(shape=(2, 3, 4))
        labels[0, 0] = [-1, 5, 19, 200]
        labels[1, 0] = [-1, 7, 254, 0]
        message = (
            "`labels` must lie in [0, 5), or equal ignore_index=255: got 7 outside, of value -1, 5, 7, 19, 200, .... "
            "Map them to a class, or pass the label to ignore as `ignore_index`."
        )
        with refuses(ValueError, message):
            call(library.asarray(logits, "float32"), library.asarray(labels, dtype))

    @pytest.mark.skip_library("jax", "cupy", "torch-cuda", reason="does not look at labels")
    def test_nothing_to_ignore(self, library, call):
        logits, labels = make(shape=(2, 3, 4), ignored=0)
        labels[0, 0, 0] = 255
        message = (
            "`labels` must lie in [0, 5): got 1 outside, of value 255. "
            "Map them to a class, or pass the label to ignore as `ignore_index`."
        )
        with refuses(ValueError, message):
            call(library.asarray(logits, "float32"), library.asarray(labels), ignore_index=None)

    @pytest.mark.parametrize("dtype", ["uint32", "uint64"])
    def test_beyond_the_signed_integers(self, call, dtype):
        largest = np.iinfo(dtype).max
        with refuses(
            ValueError, f"`labels` must lie in [0, 2), or equal ignore_index=-1: got 2 outside, of value {largest}..."
        ):
            call(np.zeros((2, 2)), np.full(2, largest, dtype), ignore_index=-1)

    def test_all_wrong(self, call):
        """The largest label is a wrong one too."""
        with refuses(ValueError, "`labels` must lie in [0, 2)...: got 3 outside, of value 7, 9. Map..."):
            call(np.zeros((3, 2)), np.asarray([9, 7, 9]))


class TestDevices:
    """A device is never changed in silence."""

    def test_strict(self, call):
        import array_api_strict as xp

        x, y = xp.zeros((2, 3)), xp.zeros(2, dtype=xp.int64, device=xp.Device("device1"))
        message = (
            "`labels` must be on the device of `logits`: got logits on array_api_strict.Device('CPU_DEVICE') and "
            "labels on array_api_strict.Device('device1'). Move one of them."
        )
        with refuses(ValueError, message):
            call(x, y)
        with refuses(ValueError, "`weight` must be on the device of `logits`: got ...Move one of them."):
            call(x, xp.zeros(2, dtype=xp.int64), weight=xp.ones(3, device=xp.Device("device1")))

    def test_torch(self, call):
        torch = pytest.importorskip("torch")
        message = "`labels` must be on the device of `logits`: got logits on cpu and labels on meta. Move one of them."
        with refuses(ValueError, message):
            call(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64, device="meta"))


class TestOptions:
    @pytest.mark.parametrize(
        ("option", "error", "message"),
        [
            ({"thresh": 1.5}, ValueError, "`thresh` must lie in [0, 1], or None for no threshold: got 1.5."),
            ({"thresh": -0.1}, ValueError, "`thresh` must lie in [0, 1], or None for no threshold: got -0.1."),
            ({"thresh": float("nan")}, ValueError, "`thresh` must lie in [0, 1], or None for no threshold: got nan."),
            ({"thresh": "0.7"}, TypeError, "`thresh` must be a number, or None for no threshold: got '0.7'."),
            ({"thresh": True}, TypeError, "`thresh` must be a number, or None for no threshold: got True."),
            ({"min_kept": -1}, ValueError, "`min_kept` as a count must not be negative: got -1."),
            (
                {"min_kept": 1.5},
                ValueError,
                (
                    "`min_kept` as a fraction must lie in [0, 1]: got 1.5. "
                    "For a count pass an int, for instance `min_kept=int(n)`."
                ),
            ),
            (
                {"min_kept": 5e-7},
                ValueError,
                "`min_kept` as a fraction must be 0 or at least 2**-20: got 5e-07. For so few pass an int, a count.",
            ),
            ({"min_kept": float("nan")}, ValueError, "`min_kept` as a fraction must lie in [0, 1]: got nan. For a..."),
            (
                {"min_kept": None},
                TypeError,
                "`min_kept` must be an int (a count), a float (a fraction), or a function of the counts: got None.",
            ),
            (
                {"min_kept": True},
                TypeError,
                "`min_kept` must be an int (a count), a float (a fraction), or a function of the counts: got True.",
            ),
            ({"ignore_index": 2.0}, TypeError, "`ignore_index` must be an int, or None to ignore no label: got 2.0."),
            (
                {"ignore_index": False},
                TypeError,
                "`ignore_index` must be an int, or None to ignore no label: got False.",
            ),
            ({"label_smoothing": 1.1}, ValueError, "`label_smoothing` must lie in [0, 1]: got 1.1."),
            ({"label_smoothing": None}, TypeError, "`label_smoothing` must be a number: got None."),
            ({"axis": None}, TypeError, "`axis` must be an int: got None."),
            ({"axis": 1.0}, TypeError, "`axis` must be an int: got 1.0."),
            ({"reduction": "avg"}, ValueError, "`reduction` must be one of 'mean', 'sum', 'none': got 'avg'."),
            ({"reduction": None}, ValueError, "`reduction` must be one of 'mean', 'sum', 'none': got None."),
            (
                {"resize": "nearest"},
                ValueError,
                "`resize` must be None or one of 'linear', 'bilinear', 'trilinear': got 'nearest'.",
            ),
            ({"resize": True}, ValueError, "`resize` must be None or one of ...: got True."),
            ({"align_corners": 1}, TypeError, "`align_corners` must be True or False: got 1."),
            (
                {"align_corners": True},
                ValueError,
                "`align_corners` says how logits are resized, and `resize` is None: pass for instance 'bilinear'.",
            ),
            ({"weight": (1, "2")}, TypeError, "`weight` must be an array, or a sequence of numbers: got (1, '2')."),
        ],
        ids=str,
    )
    def test_message(self, call, option, error, message):
        x, y = np.zeros((1, 2), np.float32), np.zeros(1, np.int64)
        with refuses(error, message):
            call(x, y, **option)
        if "weight" not in option:
            with refuses(error, message):
                ohemloss.OhemCELoss(**option)

    def test_what_a_batch_is_spread_over(self, call):
        """Each library has its own option for it, or none."""
        x, y = np.zeros((1, 2), np.float32), np.zeros(1, np.int64)
        message = "`{}` must be None for arrays of {}: got 'i'. {}."
        for name in ("axis_name", "process_group"):
            with refuses(TypeError, message.format(name, "numpy", "What is here is all")):
                call(x, y, **{name: "i"})
        torch = pytest.importorskip("torch")
        with refuses(TypeError, message.format("axis_name", "torch", "Pass `process_group`")):
            call(torch.tensor(x), torch.tensor(y), axis_name="i")
        jnp = pytest.importorskip("jax.numpy")
        with refuses(TypeError, message.format("process_group", "jax", "Pass `axis_name`")):
            call(jnp.asarray(x), jnp.asarray(y), process_group="i")

    def test_numpy_numbers_are_numbers(self, call):
        logits, labels = make()
        options = {"thresh": 0.5, "min_kept": 3, "ignore_index": 255, "axis": 1}
        kinds = {float: np.float64, int: np.int64}
        scalars = {name: kinds[type(value)](value) for name, value in options.items()}
        plain, converted = (_value(call(logits, labels, **kwargs)) for kwargs in (options, scalars))
        assert plain == converted

    def test_arrays_by_position_or_by_name_and_options_by_name(self, call):
        logits, labels = make("40% hard")
        assert _value(call(labels=labels, logits=logits)) == _value(call(logits, labels))
        with pytest.raises(TypeError, match="positional"):
            call(logits, labels, 0.7)


def _value(answer):
    answer = answer[0] if isinstance(answer, tuple) else answer
    return float(getattr(answer, "value", answer))
