"""PyTorch on a CUDA device: what no interpreter can show."""

import math

import pytest

torch = pytest.importorskip("torch")

import ohemloss
from ohemloss_torch import OhemCELoss
from tests._cases import make, make_small

if not torch.cuda.is_available():
    pytest.skip("torch: no CUDA device", allow_module_level=True)

pytestmark = pytest.mark.filterwarnings("ignore:Synchronization debug mode:UserWarning")


def batch(regime="40% hard", dtype=torch.float32, device="cuda", make=make, **options):
    logits, labels = make(regime, **options)
    return torch.tensor(logits).contiguous().to(dtype).to(device), torch.tensor(labels).to(device)


def step(criterion, logits, labels):
    """Give the value and the gradient of a training step."""
    leaf = logits.detach().requires_grad_()
    value = criterion(leaf, labels)
    return value.detach(), torch.autograd.grad(value, leaf)[0]


def check_like_cpu(found, criterion, logits, labels):
    expected = step(criterion, logits.cpu(), labels.cpu())
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.cpu(), theirs, rtol=1e-5, atol=1e-8)


@pytest.fixture
def nobody_waits():
    """Make each wait of the host an error."""

    def run(function, *arguments):
        function(*arguments)  # compiles
        torch.cuda.synchronize()
        try:
            torch.cuda.set_sync_debug_mode("error")
            return function(*arguments)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    return run


OPTIONS = [
    {},
    {"weight": [0.5, 2.0, 0.0, 1.0, 3.0]},
    {"thresh": torch.tensor(0.6), "min_kept": torch.tensor(0.2)},
    {"label_smoothing": 0.1},
    {"rule": ohemloss.MiningRule(rank_by="prob", ties="keep")},
    {"rule": ohemloss.MiningRule(per_image="mean"), "min_kept": 9},
    {"reduction": "sum"},
    {"resize": "bilinear"},
    {"resize": "bilinear", "align_corners": True, "weight": [0.5, 2.0, 0.0, 1.0, 3.0]},
]


@pytest.mark.parametrize("regime", ["40% hard", "3% hard"])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options) or "usual")
def test_host_never_waits(nobody_waits, regime, options):
    resized = {"make": make_small, "align_corners": "align_corners" in options} if "resize" in options else {}
    logits, labels = batch(regime, **resized)
    found = nobody_waits(step, OhemCELoss(**options).cuda(), logits, labels)
    check_like_cpu(found, OhemCELoss(**options), logits, labels)


@pytest.mark.parametrize("regime", ["40% hard", "3% hard"])
def test_host_never_waits_for_a_process_group(nobody_waits, regime, tmp_path):
    """The digits are always counted, since the host would have to wait to learn whether they are needed."""
    logits, labels = batch(regime)
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("nccl", store=store, rank=0, world_size=1)
    try:
        criterion = OhemCELoss(process_group=torch.distributed.group.WORLD)
        found = nobody_waits(step, criterion, logits, labels)
    finally:
        torch.distributed.destroy_process_group()
    check_like_cpu(found, OhemCELoss(), logits, labels)


def test_value_and_grad_and_explain_never_wait(nobody_waits):
    logits, labels = batch("3% hard")
    nobody_waits(ohemloss.value_and_grad, logits, labels)
    nobody_waits(ohemloss.explain, logits, labels)
    nobody_waits(lambda: ohemloss.hard_mean(logits, min_kept=5))


def check_replays(criterion, leaf, labels, others):
    """Record a step, and compare what it gives for other numbers, bit by bit, with a step that is not recorded."""

    def record():
        value = criterion(leaf, labels)
        return value.detach(), torch.autograd.grad(value, leaf)[0]

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        record()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        recorded = record()
    for logits, targets in others:
        with torch.no_grad():
            leaf.copy_(logits)
            labels.copy_(targets)
        graph.replay()
        fresh = step(criterion, logits, targets)
        assert all(torch.equal(a, b) for a, b in zip(recorded, fresh, strict=True))


@pytest.mark.parametrize("regime", ["95% hard", "3% hard"])
def test_recorded_step_replays_on_new_data(regime):
    logits, labels = batch(regime)
    others = [batch(other, seed=7) for other in ("3% hard", "95% hard")]
    check_replays(OhemCELoss(), logits.requires_grad_(), labels, others)


def test_resized_step_replays_with_the_same_bits():
    logits, labels = batch("3% hard", make=make_small, small=(4, 19, 32, 32), size=(256, 256))
    others = [(scale * logits, labels.clone()) for scale in (1.0, -0.5)]
    check_replays(OhemCELoss(resize="bilinear"), logits.requires_grad_(), labels, others)


# Blocks of all kinds: ratios of 8, 4, 3.7, 2, 1.2 and 1/2, one axis alone, and more columns around a logit than a block
# has.
SIZES = [
    ((2, 19, 9, 17), (72, 136)),
    ((2, 150, 9, 40), (36, 160)),
    ((2, 5, 10, 36), (37, 133)),
    ((1, 2, 70, 70), (140, 140)),
    ((1, 5, 100, 120), (120, 144)),
    ((2, 5, 64, 300), (32, 150)),
    ((1, 5, 6, 9), (48, 9)),
    ((1, 5, 6, 9), (6, 70)),
    ((1, 5, 2, 3), (17, 700)),
    ((2, 5, 9), (80,)),
]


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_resized_logits(sizes, align_corners):
    small, size = sizes
    options = {"resize": "bilinear" if len(size) == 2 else "linear", "align_corners": align_corners, "thresh": 0.9}
    logits, labels = batch(make=make_small, small=small, size=size)
    wide = step(OhemCELoss(**options), logits.cpu().double(), labels.cpu())
    for x in (logits, logits.bfloat16(), logits.contiguous(memory_format=_channels_last(logits))):
        value, gradient = step(OhemCELoss(**options), x, labels)
        torch.testing.assert_close(value.cpu().double(), wide[0], rtol=1e-5, atol=1e-6)
        rtol = 8e-3 if x.dtype == torch.bfloat16 else 1e-5
        largest = float(wide[1].abs().max())
        torch.testing.assert_close(gradient.cpu().double(), wide[1], rtol=rtol, atol=1e-5 * largest)


def _channels_last(logits):
    return torch.channels_last if logits.ndim == 4 else torch.contiguous_format


@pytest.mark.parametrize("resize", [None, "bilinear"])
def test_peak_memory(resize):
    """The gradient of the logits, and 12 bytes a pixel of the labels."""
    logits, labels = batch(shape=(2, 512, 512), n_classes=19)
    if resize:
        logits, labels = batch(make=make_small, small=(2, 19, 64, 64), size=(512, 512))
    criterion = OhemCELoss(resize=resize)
    step(criterion, logits, labels)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step(criterion, logits, labels)
    assert torch.cuda.max_memory_allocated() - before <= logits.nbytes + 12 * labels.numel() + 2**20


def test_on_a_stream_of_its_own():
    logits, labels = batch(shape=(4, 256, 256))
    expected = step(OhemCELoss(), logits, labels)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(10_000_000)  # whoever ran on another stream would be ahead
        doubled = logits * 2
        found = step(OhemCELoss(), doubled / 2, labels)
    torch.cuda.current_stream().wait_stream(stream)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_on_a_device_that_is_not_the_current_one():
    if torch.cuda.device_count() < 2:
        pytest.skip("torch: one CUDA device")
    logits, labels = batch("3% hard", device="cuda:1")
    found = step(OhemCELoss(), logits, labels)
    assert found[0].device == found[1].device == logits.device
    check_like_cpu(found, OhemCELoss(), logits, labels)


def test_same_bits_every_time():
    logits, labels = batch("3% hard", shape=(4, 128, 128))
    first, *others = (step(OhemCELoss(), logits, labels) for _ in range(5))
    for other in others:
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_more_logits_than_32_bits_count():
    shape = (2, 2, 2**15, 2**14 + 1)
    if torch.cuda.mem_get_info()[0] < 24e9:
        pytest.skip("torch: less than 24 GB of memory")
    logits = torch.zeros(shape, dtype=torch.float16, device="cuda")
    labels = torch.ones((2, *shape[2:]), dtype=torch.uint8, device="cuda")
    logits[1, 1, -1, -1] = 3
    value, gradient = step(OhemCELoss(min_kept=0, reduction="sum"), logits, labels)
    n = labels.numel() - 1  # the last pixel is easy
    assert float(value) == pytest.approx(n * math.log(2), rel=1e-5)
    assert gradient[1, :, -1, -1].tolist() == [0, 0]
    assert gradient[1, :, -1, -2].tolist() == gradient[0, :, 0, 0].tolist() == [0.5, -0.5]


def test_under_amp():
    logits, labels = batch(dtype=torch.float32)
    weight = torch.eye(5, device="cuda").requires_grad_()
    with torch.autocast("cuda", dtype=torch.bfloat16):
        mixed = torch.einsum("nchw,cd->ndhw", logits, weight)
        value = OhemCELoss()(mixed, labels)
    assert mixed.dtype == torch.bfloat16
    assert value.dtype == torch.float32
    value.backward()
    assert torch.isfinite(weight.grad).all()
    assert weight.grad.any()


def test_compiled_as_one_graph():
    logits, labels = batch("3% hard")
    compiled = torch.compile(OhemCELoss(), fullgraph=True)
    check_like_cpu(step(compiled, logits, labels), OhemCELoss(), logits, labels)


def test_benchmark_finds_that_nobody_waits():
    pytest.importorskip("benchmarks", reason="the sources are not here")
    from benchmarks import _gpu

    assert "0 host" in _gpu.check_that_nobody_waits(ohemloss.ohem_cross_entropy, *batch("3% hard"))
