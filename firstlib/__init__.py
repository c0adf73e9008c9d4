"""FIRST, the laboratory for honest language models."""

import logging
import warnings

# On a processor NF4 runs without a kernel of its own, and bitsandbytes says so at every import.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)

# peft asks transformers by a name that is to go in its next version; nothing that a reader of a notebook can mend.
warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
