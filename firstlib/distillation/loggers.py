"""The Trainer's loggers, checked before anything costly starts."""

from collections.abc import Sequence

from firstlib.runtime.errors import UserError


def check_loggers(names: Sequence[str]) -> None:
    """Checks `training.report_to`.

    Raises:
        UserError: A logger is unknown to transformers, or its package is not installed.
    """
    if not names:
        return
    from transformers.integrations.integration_utils import (
        INTEGRATION_TO_CALLBACK,
        get_available_reporting_integrations,
    )

    for name in names:
        if name not in INTEGRATION_TO_CALLBACK:
            known = ", ".join(sorted(INTEGRATION_TO_CALLBACK))
            raise UserError(f"training.report_to: {name!r} is not a logger of transformers; choose among {known}")
        if name not in get_available_reporting_integrations():
            raise UserError(
                f"training.report_to: the package of {name!r} is not installed; install it (tensorboard: "
                "`pip install -e .[tensorboard]`), or leave the logger out"
            )
