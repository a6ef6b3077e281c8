"""
Speed and memory of the loss against what people use in its place: `python -m benchmarks`.

The loop is our own: the runners that exist time one case after the other, so that on a machine whose speed drifts each
variant meets another machine. Here the variants of a case are called in turn, in one process, and compared by rounds.
"""
