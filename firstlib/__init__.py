"""FIRST, the laboratory for honest language models.

>>> from firstlib import Experiment
>>> Experiment("smoke").main_task
'csqa'
"""

import logging
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from firstlib.experiment import Experiment
    from firstlib.results.audit import audit

__all__ = ["Experiment", "audit"]

# On a CPU bitsandbytes warns at every import that NF4 has no kernel of its own there.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)

# peft uses a name that the next version of transformers removes; a notebook's reader cannot do anything about it.
warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)


def __getattr__(name: str) -> Any:
    """Imports `Experiment` and `audit` when they are first used, so that importing the package costs nothing."""
    if name == "Experiment":
        from firstlib.experiment import Experiment

        return Experiment
    if name == "audit":
        from firstlib.results.audit import audit

        return audit
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
