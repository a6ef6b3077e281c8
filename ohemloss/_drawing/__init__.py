"""Pictures of arrays of any library: what `Trace.plot` and the commands draw. It needs matplotlib, and NumPy."""
