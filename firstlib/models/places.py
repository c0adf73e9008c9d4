"""Where a base model is, what identifies it and under which licence, without reading its weights and without torch."""

import json
from pathlib import Path

from firstlib.runtime.artefacts import MANIFEST
from firstlib.runtime.errors import UserError
from firstlib.runtime.hashing import files_hash
from firstlib.runtime.paths import project_path
from firstlib.settings.schema import Model

GGUF = ".gguf"
SHRUNK = "shrink.json"  # beside a model that `first shrink` made


def base_location(model: Model) -> str:
    """Returns the base model's folder if it exists, else its hub name; a GGUF file is imported into a cached folder.

    Raises:
        UserError: The name is a path, but the folder does not exist; or a GGUF file cannot be imported.
    """
    folder = project_path(model.base)
    if folder.suffix == GGUF:
        from firstlib.models import gguf  # here: it needs transformers

        return str(gguf.cached(folder))
    if (folder / "config.json").is_file():
        return str(folder)
    if model.base.count("/") != 1 or model.base.startswith((".", "/", "~", "data/")):
        raise UserError(f"base model {model.base!r}: no folder {folder} with a config.json; check the preset's `base`")
    return model.base


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
    folder, stated = Path(base_location(model)), []
    for name in (MANIFEST, SHRUNK):
        if (folder / name).is_file():
            content = json.loads((folder / name).read_text(encoding="utf-8"))
            stated.append(content.get("inputs", content).get("licence"))
    return next((str(one) for one in stated if one), None)
