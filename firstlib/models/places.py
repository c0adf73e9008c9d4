"""Where a base model is, what identifies it and what its file states, without reading its weights and without torch."""

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from firstlib.models import gguf_file
from firstlib.runtime.artefacts import MANIFEST, Artefacts
from firstlib.runtime.cache import cache_folder, remembered
from firstlib.runtime.errors import UserError
from firstlib.runtime.hashing import files_hash
from firstlib.runtime.paths import project_path
from firstlib.settings.schema import Model

GGUF = ".gguf"
IMPORT = 1  # bump when the same GGUF file gives another folder
SHRUNK = "shrink.json"  # beside a model that `first shrink` made


def base_location(model: Model) -> str:
    """Returns the base model's folder if it exists, else its hub name; a GGUF file is imported into a cached folder.

    Raises:
        UserError: The name is a path, but the folder does not exist; or a GGUF file cannot be imported.
    """
    folder = project_path(model.base)
    if folder.suffix == GGUF:
        return str(imported(folder))
    if (folder / "config.json").is_file():
        return str(folder)
    if model.base.count("/") != 1 or model.base.startswith((".", "/", "~", "data/")):
        raise UserError(f"base model {model.base!r}: no folder {folder} with a config.json; check the preset's `base`")
    return model.base


def imported(file: Path) -> Path:
    """Returns the folder of an imported GGUF file, in the user's cache under the file's hash; imports it if need be.

    Raises:
        UserError: As `import_gguf`.
    """
    if not file.is_file():
        raise UserError(f"{file}: there is no such file; check the path of the GGUF file")
    stat = file.stat()
    return _imported(file, stat.st_size, stat.st_mtime_ns)


@cache
def _imported(file: Path, size: int, changed: int) -> Path:
    """`size` and `changed` tell a file that was replaced from the one that was read."""
    place = cache_folder()
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place) as scratch:
        whole = gguf_file.joined([file], Path(scratch))
        inputs = {"format": IMPORT, **json.loads(remembered(whole, _provenance, f"gguf-{IMPORT}"))}
        return Artefacts(place).get(gguf_file.STAGE, inputs, lambda to: _convert(whole, to))


def _provenance(file: Path) -> str:
    return json.dumps(gguf_file.contents(file).provenance())  # a large vocabulary takes seconds to read


def _convert(file: Path, to: Path) -> None:
    from firstlib.models.gguf import convert  # here: it needs torch

    convert(gguf_file.contents(file), to)


def base_identity(model: Model) -> str:
    """Returns a string that identifies the base model: a hash of its folder, or its hub name and commit."""
    location = Path(base_location(model))
    if location.is_dir():
        parts = (p for p in location.iterdir() if p.suffix in (".json", ".safetensors", ".model"))
        return files_hash(p for p in parts if p.name != MANIFEST)  # which tells when an import was made
    from firstlib.models.loading import commit  # here: it needs transformers

    return f"{model.base}@{commit(model)}"


def licence(model: Model) -> str | None:
    """Returns the licence that a base model's GGUF file stated, also through `first shrink`; None where it is unknown.

    A hub model's licence is on its page.
    """
    found = _stated(model, "licence")
    return str(found) if found else None


def quantisation(model: Model) -> dict[str, int]:
    """Returns how many tensors of each type a base model's GGUF file had, most frequent first; empty if it had none."""
    return dict(_stated(model, "quantisation") or {})


def _stated(model: Model, what: str) -> Any:
    folder, stated = Path(base_location(model)), []
    for name in (MANIFEST, SHRUNK):
        if (folder / name).is_file():
            content = json.loads((folder / name).read_text(encoding="utf-8"))
            stated.append(content.get("inputs", content).get(what))
    return next((one for one in stated if one), None)
