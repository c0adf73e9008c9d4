"""A smaller sibling with the same tokens: the least influential layers dropped, the rest healed by distillation.

The model is its own teacher: its top k on a text become the targets of what is left of it, by the loss of Eq. 5.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from firstlib.experiment import stages
from firstlib.experiment.stages import ExtractionInputs, TargetInputs, TrainingInputs
from firstlib.knowledge import KnowledgeStore, Origin
from firstlib.models.places import SHRUNK, base_identity, base_location, licence, quantisation
from firstlib.runtime.artefacts import MANIFEST, Artefacts, check_replaceable, write_manifest
from firstlib.runtime.errors import UserError
from firstlib.runtime.files import write_json
from firstlib.runtime.hashing import content_hash
from firstlib.settings.schema import Knowledge, Model, Training
from firstlib.tasks.encoding import Encoded

STAGE = "shrunk"
_HELD_OUT = 10  # one part in so many of the text measures, and is not trained on
_MOST_MEASURED = 16  # passages that measure: each is read once for every layer


@dataclass(frozen=True)
class Shrinking:
    """How a model is shrunk.

    Attributes:
        base: A folder, a GGUF file or a hub name.
        layers: How many layers are left.
        text: A UTF-8 text file.
        passage: Tokens of each passage that the text is cut into.
        passages: The most passages that are used; None: all.
        learning_rate: Peak, of full tuning.
        epochs: Passes over the text.
        k: Tokens of the original's distribution that are matched at each position.
        batch_size: Passages in one optimiser step.
        seed: Of the passages' order.
    """

    base: str
    layers: int
    text: Path
    passage: int = 256
    passages: int | None = None
    learning_rate: float = 1e-4
    epochs: int = 1
    k: int = 20
    batch_size: int = 8
    seed: int = 0

    @property
    def model(self) -> Model:
        """The base model's settings."""
        return Model(base=self.base)


@dataclass(frozen=True)
class Shrunk:
    """What each layer changes, and what the text costs in nats a token.

    Attributes:
        influence: Of each layer of the base, 1 minus the cosine of its input and output.
        without: Cost without this layer alone.
        dropped: Layers that were dropped.
        base: Cost of the whole model.
        cut: Cost without the dropped layers.
        healed: Cost after distillation.
    """

    influence: list[float]
    without: list[float]
    dropped: list[int]
    base: float
    cut: float
    healed: float


def shrink(how: Shrinking, to: str | Path) -> Shrunk:
    """Writes a smaller sibling of a model as a plain transformers folder; returns what each layer cost.

    A killed call resumes: its finished stages, and the checkpoints of the training, are kept beside the folder until
    it is complete.

    Raises:
        UserError: The model, the text, the rate or the number of layers does not fit, or the folder holds something
            else.
    """
    if not 0 < how.learning_rate < 1:
        raise UserError(f"--rate: must be a number between 0 and 1, such as 1e-4, not {how.learning_rate}")
    to = Path(to).expanduser().resolve()
    check_replaceable(to, STAGE)
    if Path(base_location(how.model)).resolve() == to:
        raise UserError(f"--to {to}: is the base model itself; name another folder")
    kept = Artefacts(to.parent / f".{to.name}.shrinking")
    measured, texts = _passages(how)
    kind = {"layers": how.layers, "measured": content_hash(measured), "base": base_identity(how.model)}
    cut = kept.get("cut", kind, lambda folder: _cut(how, measured, folder))
    store = _knowledge(how, kept, texts)
    content = {**asdict(how), **kind, "text": content_hash([vars(one) for one in texts])}
    healed = kept.get("healed", content, lambda folder: _heal(how, cut, store, texts, folder))
    found = Shrunk(**_report(cut), healed=_cost_of(healed, measured))
    stated = {"licence": licence(how.model), "quantisation": quantisation(how.model)}
    _publish(cut, healed, to, {**asdict(found), **stated})
    shutil.rmtree(kept.folder)
    return found


def _passages(how: Shrinking) -> tuple[list[list[int]], list[Encoded]]:
    """Returns passages that measure, and those that are trained on."""
    from firstlib.models.loading import context_length, load_tokenizer  # here, as below: it needs torch

    try:
        text = how.text.expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{how.text}: is not a text in UTF-8 that can be read ({error}); give another") from error
    tokenizer = load_tokenizer(how.model)
    if (limit := context_length(how.model)) and how.passage > limit:
        raise UserError(f"--passage: {how.base} reads {limit} tokens at most, not {how.passage}")
    first = [tokenizer.bos_token_id] if tokenizer("")["input_ids"][:1] == [tokenizer.bos_token_id] else []
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    step = how.passage - len(first)
    pieces = [[*first, *ids[at : at + step]] for at in range(0, len(ids) - step + 1, step)][: how.passages]
    if len(pieces) < _HELD_OUT:
        raise UserError(
            f"{how.text}: gives {len(pieces)} passages of {how.passage} tokens, and {_HELD_OUT} are needed; give a "
            "longer text, or shorter passages"
        )
    measured = pieces[::_HELD_OUT][:_MOST_MEASURED]
    trained = [Encoded(str(at), piece, 1) for at, piece in enumerate(pieces) if at % _HELD_OUT]
    return measured, trained


def _cut(how: Shrinking, measured: Sequence[Sequence[int]], to: Path) -> None:
    """Writes the model without its least influential layers, not healed yet."""
    from firstlib.models.layers import drop_layers, influences, layers_of, nll_without_each, text_nll
    from firstlib.models.loading import load_base, load_tokenizer

    model = load_base(how.model).eval()
    count = len(layers_of(model))
    if not 0 < how.layers < count:
        raise UserError(f"--layers: {how.base!r} has {count} layers, so from 1 to {count - 1} can be left")
    influence = influences(model, measured)
    dropped = sorted(np.argsort(influence, kind="stable")[: count - how.layers].tolist())
    report: dict[str, Any] = {
        "influence": influence.tolist(), "without": nll_without_each(model, measured).tolist(), "dropped": dropped,
        "base": text_nll(model, measured),
    }  # fmt: skip
    report["cut"] = text_nll(drop_layers(model, dropped), measured)
    model.save_pretrained(to)
    load_tokenizer(how.model).save_pretrained(to)
    write_json(to / SHRUNK, report)


def _report(cut: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((cut / SHRUNK).read_text(encoding="utf-8"))
    return found


def _knowledge(how: Shrinking, kept: Artefacts, texts: Sequence[Encoded]) -> KnowledgeStore:
    """Returns the whole model's top k on the text."""
    from firstlib.models.loading import vocabulary_size

    identity = base_identity(how.model)
    origin = Origin(identity, identity, content_hash([vars(one) for one in texts]), how.k)
    inputs = ExtractionInputs(
        how.model, (Path(base_location(how.model)),), origin, Knowledge(k=how.k, batch_size=how.batch_size),
        lambda: vocabulary_size(how.model), lambda: texts,
    )  # fmt: skip
    return KnowledgeStore(kept.get("knowledge", asdict(origin), lambda to: stages.extract(inputs, to)), origin)


def _heal(how: Shrinking, cut: Path, store: KnowledgeStore, texts: Sequence[Encoded], to: Path) -> None:
    from firstlib.models.loading import vocabulary_size

    model = Model(base=str(cut))
    stages.train(
        TrainingInputs(
            model=model, base=cut.name, learning_rate=how.learning_rate, seed=how.seed, threads=None,
            training=Training(epochs=how.epochs, global_batch_size=how.batch_size), data=None, examples=lambda: texts,
            vocabulary=lambda: vocabulary_size(model),
            targets=TargetInputs(store, "", "stored", 1.0, tail="ghost", student="full"),
        ), to,
    )  # fmt: skip


def _cost_of(folder: Path, measured: Sequence[Sequence[int]]) -> float:
    from firstlib.models.layers import text_nll
    from firstlib.models.loading import load_trained

    return text_nll(load_trained(Model(base=str(folder)), folder), measured)


def _publish(cut: Path, healed: Path, to: Path, report: dict[str, Any]) -> None:
    """Writes weights, tokenizer and report to the folder, which is complete or absent."""
    made = to.parent / f".{to.name}.making"
    shutil.rmtree(made, ignore_errors=True)
    shutil.copytree(cut, made, ignore=shutil.ignore_patterns(MANIFEST, "*.safetensors*", SHRUNK))
    for path in healed.glob("*.safetensors*"):
        shutil.copy2(path, made)
    write_json(made / SHRUNK, report)
    write_manifest(made, stage=STAGE, key=content_hash(report), inputs={}, seconds=0)
    shutil.rmtree(to, ignore_errors=True)
    made.rename(to)
