"""Upper bounds of numbers in settings."""

LARGEST_COUNT = 10_000_000  # of anything counted: catches typos before memory runs out
LARGEST_SEED = 2**32 - 1  # NumPy's, which the Trainer seeds too
