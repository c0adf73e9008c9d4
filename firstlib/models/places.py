"""Where a base model is, what identifies it and what its file states, without reading its weights and without torch."""

import json
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from firstlib.models import gguf_file
from firstlib.runtime.artefacts import MANIFEST, Artefacts
from firstlib.runtime.cache import cache_folder, remembered
from firstlib.runtime.errors import UserError
from firstlib.runtime.files import write_text
from firstlib.runtime.hashing import content_hash, file_hash, files_hash
from firstlib.runtime.paths import project_path
from firstlib.settings.schema import Model

GGUF = ".gguf"
IMPORT = 2  # bump when the same GGUF file gives another folder
SHRUNK = "shrink.json"  # beside a model that `first shrink` made


def trusts_remote_code(model: Model) -> bool:
    """Returns whether the model's own code runs on this machine, and warns where it does."""
    if model.trust_remote_code:
        message = f"base model {model.base!r}: trust_remote_code is set, so code from the model is run on this machine"
        warnings.warn(message, stacklevel=3)
    return model.trust_remote_code


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
    parts = gguf_file.with_siblings(file)
    stats = [part.stat() for part in parts]
    return _imported(tuple(parts), tuple((stat.st_size, stat.st_mtime_ns) for stat in stats))


@cache
def _imported(parts: tuple[Path, ...], seen: tuple[tuple[int, int], ...]) -> Path:
    """`seen`, sizes and times of change, tells files that were replaced from those that were read."""
    place = cache_folder()
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place) as scratch:
        whole = cache(lambda: gguf_file.joined(parts, Path(scratch)))  # copies all parts, so not before it is needed
        with gguf_file.naming(parts, Path(scratch) / gguf_file.JOINED):
            inputs = {"format": IMPORT, **json.loads(_known(parts, whole))}
            return Artefacts(place).get(gguf_file.STAGE, inputs, lambda to: _convert(whole(), to))


def _known(parts: tuple[Path, ...], whole: Callable[[], Path]) -> str:
    """Returns the provenance of a whole file; that of a split one is kept under the hashes of its parts."""
    what = f"gguf-{IMPORT}"
    if len(parts) == 1:
        return remembered(whole(), _provenance, what)
    kept = cache_folder() / what / content_hash([file_hash(part) for part in parts])
    with suppress(OSError):
        return kept.read_text(encoding="utf-8")
    found = _provenance(whole())
    with suppress(OSError):  # a cache that cannot be written costs time, nothing else
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_text(kept, found)
    return found


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
