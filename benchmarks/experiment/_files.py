"""What the files are called."""

NUMBERS, TEXT = "experiment.json", "experiment.md"
CURVES, CLASSES, MASKS = "experiment-curves.png", "experiment-classes.png", "experiment-masks.png"
ALL = (NUMBERS, TEXT, CURVES, CLASSES, MASKS)
