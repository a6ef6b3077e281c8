"""The kernels for CUDA on a CPU: collected by a job of their own alone."""

import os

collect_ignore_glob = [] if os.environ.get("OHEMLOSS_TEST_KERNELS") == "1" else ["test_*.py"]
