"""FIRST, the laboratory for honest language models."""

import logging

# On a processor NF4 runs without a kernel of its own, and bitsandbytes says so at every import.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
