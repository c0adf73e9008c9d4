"""What a GGUF file holds, read from its header; and how the parts of a split one become one file.

Models are split in two ways: by llama.cpp's `gguf-split`, whose parts are GGUF files of their own, and by cutting the
bytes anywhere, as packages with a size limit do. https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from string import ascii_lowercase, digits
from typing import Any

from firstlib.runtime.errors import UserError, first_line
from firstlib.runtime.hashing import file_hash

STAGE = "gguf"  # an import, in manifests and in the names of cached folders
MAGIC = b"GGUF"
JOINED = "joined.gguf"  # the whole of parts
_STRINGS = ("tokenizer.ggml.tokens", "tokenizer.ggml.merges")
_LARGEST_PADDING = 4096  # bytes after the last tensor: files are padded to their alignment
_LETTERS = 2  # at the end of the names that `split` gives
_DIGITS = str.maketrans(ascii_lowercase, (digits + ascii_lowercase)[:26])
_SPLIT_NAME = re.compile(r"(.*-)(\d{5})-of-(\d{5})\.gguf")


@dataclass(frozen=True)
class Contents:
    """A GGUF file's header.

    Attributes:
        path: The file.
        metadata: Every key; arrays of text other than tokens and merges are only counted.
        types: Name of each tensor -> its type, for example `Q4_K`.
    """

    path: Path
    metadata: Mapping[str, Any]
    types: Mapping[str, str]

    @property
    def architecture(self) -> str:
        """The family, as llama.cpp calls it."""
        return str(self.metadata["general.architecture"])

    @property
    def tied(self) -> bool:
        """Whether the output head is the embedding matrix."""
        return "output.weight" not in self.types

    def of_model(self, key: str) -> Any:
        """Returns a value from the architecture's own keys; None if there is none."""
        return self.metadata.get(f"{self.architecture}.{key}")

    def of_architecture(self) -> dict[str, Any]:
        """Returns the architecture's own keys, without its name."""
        prefix = f"{self.architecture}."
        return {key.removeprefix(prefix): value for key, value in self.metadata.items() if key.startswith(prefix)}

    def provenance(self) -> dict[str, Any]:
        """Returns what a manifest says about where weights come from."""
        return {
            "gguf": file_hash(self.path),
            "name": self.metadata.get("general.name"),
            "licence": self.metadata.get("general.license"),
            "architecture": self.architecture,
            "quantisation": dict(Counter(self.types.values()).most_common()),
            "head": "tied" if self.tied else "untied",
            "tokenizer": self.metadata.get("tokenizer.ggml.model"),
            "pre_tokenizer": self.metadata.get("tokenizer.ggml.pre"),
        }


def contents(path: Path) -> Contents:
    """Reads a file's header, and checks that all tensors that it announces are in the file.

    Raises:
        UserError: It is not a GGUF file, is damaged, is one part of several, or ends early.
    """
    _check_magic(path)
    try:
        metadata, tensors = _header(path)
    except Exception as error:  # a damaged header fails in any way
        raise UserError(f"{path}: cannot be read as GGUF ({first_line(error)[:200]}); get the file again") from error
    if (count := int(metadata.get("split.count") or 1)) > 1:
        raise UserError(f"{path}: is one of {count} parts; give all of them, in order")
    _check_length(path, tensors)
    return Contents(path, metadata, {one.name: one.type for one in tensors})


@dataclass(frozen=True)
class _Tensor:
    """A tensor's name, its type, and the position in the file after its last byte."""

    name: str
    type: str
    end: int


def _header(path: Path) -> tuple[dict[str, Any], list[_Tensor]]:
    """Reads keys and tensors; transformers' own `GgufHeader` refuses Q5_0, which its older loader reads."""
    from gguf import GGML_QUANT_SIZES, GGUF_DEFAULT_ALIGNMENT, GGMLQuantizationType
    from transformers.integrations.gguf.reader import _mapped, _read_metadata, _read_tensor_table  # takes seconds

    mapped = _mapped(str(path))
    metadata, count, at = _read_metadata(mapped, str(path), _STRINGS)
    entries, at = _read_tensor_table(mapped, count, at)
    alignment = metadata.get("general.alignment", GGUF_DEFAULT_ALIGNMENT)
    start = -(-at // alignment) * alignment
    tensors = []
    for name, shape, number, offset in entries:
        type_ = GGMLQuantizationType(number)
        values, size = GGML_QUANT_SIZES[type_]
        tensors.append(_Tensor(name, type_.name, start + offset + prod(shape) // values * size))
    return metadata, tensors


def _check_magic(path: Path) -> None:
    found = _begins_with(path)
    if found != MAGIC:
        raise UserError(
            f"{path}: is no GGUF file, for it begins with {found!r}; of a model in parts, give the first one first"
        )


def _begins_with(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give a GGUF file") from error


def _check_length(path: Path, tensors: Sequence[_Tensor]) -> None:
    size = path.stat().st_size
    ends = {one.name: one.end for one in tensors}
    if not ends:
        raise UserError(f"{path}: holds no weights; of a split model, give all parts")
    lost = [name for name, end in ends.items() if end > size]
    if lost:
        raise UserError(
            f"{path}: ends after {size:,} bytes, and {len(lost)} of its {len(ends)} tensors should follow, first "
            f"{lost[0]}; a part is missing, or the download was cut off"
        )
    if size - max(ends.values()) > _LARGEST_PADDING:
        raise UserError(
            f"{path}: {size - max(ends.values()):,} bytes follow its last tensor; a part that is not of this model, or "
            "is there twice, was joined to it; give the parts of one model once each"
        )


@contextmanager
def naming(files: Sequence[Path], whole: Path) -> Iterator[None]:
    """Lets an error name the parts that were given, not the file that they were joined into."""
    try:
        yield
    except UserError as error:
        if str(whole) not in str(error):
            raise
        parts = f"{files[0]}, joined with {len(files) - 1} more"
        raise UserError(str(error).replace(str(whole), parts)) from error


# -- parts -------------------------------------------------------------------------------------------------------


def joined(files: Sequence[Path], folder: Path) -> Path:
    """Returns one file that holds a whole model; parts are joined into a new file in `folder`.

    Parts that `gguf-split` wrote are looked for beside the one that is given.

    Raises:
        UserError: A part is missing or given twice, or parts are not in the order of their numbers.
    """
    files = all_of(files)
    for file in files:
        if not file.is_file():
            raise UserError(f"{file}: there is no such file; give the model's GGUF file, or all of its parts in order")
    if len(files) == 1:
        return files[0]
    _check_order(files)
    _check_repeats(files)
    whole = folder / JOINED
    if _begins_with(files[1]) == MAGIC:
        _merge(files, whole)
    else:
        _check_magic(files[0])
        with whole.open("wb") as to:
            for file in files:
                with file.open("rb") as part:
                    shutil.copyfileobj(part, to, 1 << 24)
    return whole


def all_of(files: Sequence[Path]) -> list[Path]:
    """Returns the files that hold a model: those given, or all parts of which one is given."""
    return with_siblings(files[0]) if len(files) == 1 else list(files)


def with_siblings(file: Path) -> list[Path]:
    """Returns all parts of a split file, in their order, by the name of one; of a whole file itself.

    Raises:
        UserError: A part is missing.
    """
    split = _SPLIT_NAME.fullmatch(file.name)
    if not split:
        return [file]
    count = int(split[3])
    found = [file.with_name(f"{split[1]}{number:05d}-of-{count:05d}.gguf") for number in range(1, count + 1)]
    if missing := [one.name for one in found if not one.is_file()]:
        raise UserError(f"{file}: is one of {count} parts, and {missing[0]} is not beside it; get it")
    return found


def _check_repeats(files: Sequence[Path]) -> None:
    seen: dict[str, Path] = {}
    for file in files:
        if (before := seen.setdefault(file_hash(file), file)) is not file:
            raise UserError(f"{file}: is the same as {before.name}; give each part once")


def _check_order(files: Sequence[Path]) -> None:
    """Parts whose paths differ in a number, or end as `split` names them (aa, ab, ...), must be in order, without gaps.

    A shell sorts 10 before 2.
    """
    if len(set(files)) < len(files):
        raise UserError(f"{files[0].name}: a part is given twice; give each once")
    numbers = [tuple(map(int, re.findall(r"\d+", str(file)))) for file in files]
    if len({len(each) for each in numbers}) > 1:
        return
    varying = [column for column in zip(*numbers, strict=True) if len(set(column)) > 1]
    at = varying[-1] if varying else _by_letters(files)
    shown = ", ".join(map(str, at)) if varying else ", ".join(file.name for file in files)
    if list(at) != sorted(at):
        raise UserError(f"parts {shown}: are not in order; give the files as their names say")
    if at and (gap := sorted({*range(min(at), max(at) + 1)} - {*at})):
        missing = f"part {gap[0]}" if varying else f"a part before {files[gap[0] - at[0]].name}"
        raise UserError(f"parts {shown}: {missing} is missing; give all of them, in order")


def _by_letters(files: Sequence[Path]) -> tuple[int, ...]:
    """The places of parts in the order of `split`: aa, ab, ..., az, ba; empty where names do not end so."""
    ends = [file.name[-_LETTERS:] for file in files]
    alike = len({str(file)[:-_LETTERS] for file in files}) == 1
    if not alike or not all(end.isascii() and end.isalpha() and end.islower() for end in ends):
        return ()
    return tuple(int(end.translate(_DIGITS), 26) for end in ends)


def _merge(files: Sequence[Path], whole: Path) -> None:
    """Joins the parts of `gguf-split`: metadata of the first, tensors of all."""
    from gguf import GGUFReader, GGUFWriter

    try:
        readers = [GGUFReader(file) for file in files]
        _check_parts(files, readers)
        writer = GGUFWriter(whole, str(readers[0].fields["general.architecture"].contents()))
        for field in readers[0].fields.values():
            if field.name != "general.architecture" and not field.name.startswith(("GGUF.", "split.")):
                kind = field.types[0]
                inner = field.types[-1] if len(field.types) > 1 else None
                writer.add_key_value(field.name, field.contents(), kind, sub_type=inner)
        tensors = [tensor for reader in readers for tensor in reader.tensors]
        for tensor in tensors:
            data = tensor.data
            writer.add_tensor_info(tensor.name, data.shape, data.dtype, data.nbytes, tensor.tensor_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in tensors:
            writer.write_tensor_data(tensor.data)
        writer.close()
    except (ValueError, KeyError, IndexError) as error:
        raise UserError(
            f"{files[0]}: its parts cannot be joined ({first_line(error)[:200]}); get them again"
        ) from error


def _check_parts(files: Sequence[Path], readers: Sequence[Any]) -> None:
    counts = [
        int(reader.fields["split.count"].contents()) if "split.count" in reader.fields else 1 for reader in readers
    ]
    places = [int(reader.fields["split.no"].contents()) if "split.no" in reader.fields else 0 for reader in readers]
    if set(counts) != {len(files)} or places != list(range(len(files))):
        raise UserError(
            f"{files[0]}: {len(files)} files are given, which say that they are parts "
            f"{', '.join(str(place + 1) for place in places)} of {counts[0]}; give all parts of one model, in order"
        )
