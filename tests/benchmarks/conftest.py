"""The sources, which only a checkout has, and one thread."""

import pytest

pytest.importorskip("benchmarks", reason="the sources are absent")


@pytest.fixture(scope="package")
def one_thread():
    """Of arrays as small as these, threads would only wait for each other."""
    torch = pytest.importorskip("torch")
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)
