"""The teacher's concentrated knowledge: its top-k at every response position, extracted once, stored as Parquet.

`position` is the index of the predicted token in the tokenised example: the distribution stored at position t is
the one over token t given the tokens before it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from firstlib.knowledge.row_groups import RowGroupCache
from firstlib.knowledge.shards import file_name, shard
from firstlib.knowledge.store import FORMAT, KnowledgeStore, Origin, bytes_by_k, check_complete, write_store
from firstlib.knowledge.top_k import TopK, tempered

if TYPE_CHECKING:
    from firstlib.knowledge.distributions import extract_mean_top_k, extract_sampled
    from firstlib.knowledge.extraction import extract_top_k, top_k_of_logits

__all__ = [
    "FORMAT",
    "KnowledgeStore",
    "Origin",
    "RowGroupCache",
    "TopK",
    "bytes_by_k",
    "check_complete",
    "extract_mean_top_k",
    "extract_sampled",
    "extract_top_k",
    "file_name",
    "shard",
    "tempered",
    "top_k_of_logits",
    "write_store",
]


_OF_TORCH = {
    "extract_mean_top_k": "distributions",
    "extract_sampled": "distributions",
    "extract_top_k": "extraction",
    "top_k_of_logits": "extraction",
}


def __getattr__(name: str) -> Any:
    """Imports what extracts when it is first used: it needs torch, and reading a store does not."""
    if name not in _OF_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_OF_TORCH[name]}"), name)
