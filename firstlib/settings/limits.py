"""Upper bounds of numbers in settings."""

LARGEST_COUNT = 10_000_000  # of anything counted: catches typos before memory runs out
LARGEST_SEED = 2**32 - 1  # NumPy's, which the Trainer seeds too
MOST_BINS = 1000  # of an audit's ECE; each takes memory in every resample
