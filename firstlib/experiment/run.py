"""A preset under one seed, with its folder: what the functions of this package work on."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from firstlib.experiment.data import RunData
from firstlib.runtime.artefacts import Artefacts
from firstlib.settings.schema import Settings


@dataclass(frozen=True)
class Run:
    """Settings, seed, data and finished stages of one run.

    Attributes:
        changed: Whether the settings differ from those of the preset, whose folder the run shares.
    """

    settings: Settings
    seed: int
    artefacts: Artefacts
    data: RunData
    changed: bool = False

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.artefacts.folder

    def under(self, settings: Settings) -> "Run":
        """Returns the run under other settings. It shares the folder: stages that do not change are reused."""
        if settings == self.settings:
            return self
        return replace(self, settings=settings, data=self.data.changed(settings), changed=True)

    def stage(
        self, name: str, content: dict[str, Any], make: Callable[[Path], None], *, together: bool = False
    ) -> Path:
        """Returns a stage's folder, computing it with the settings' CPU threads if it does not exist yet."""
        return self.artefacts.get(name, content, make, together=together, threads=self.settings.threads)
