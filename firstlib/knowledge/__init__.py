"""The teacher's concentrated knowledge: its top-k at every response position, taken once and kept in Parquet.

`position` is the index, in the tokenised example, of the token that is predicted: the distribution kept at
position t is the one over token t given the tokens before it.
"""

from firstlib.knowledge.extraction import extract_top_k, top_k_of_logits
from firstlib.knowledge.parts import Parts
from firstlib.knowledge.shards import check_complete, file_name, shard
from firstlib.knowledge.store import FORMAT, KnowledgeStore, Origin, bytes_by_k, write_store
from firstlib.knowledge.top_k import TopK

__all__ = [
    "FORMAT",
    "KnowledgeStore",
    "Origin",
    "Parts",
    "TopK",
    "bytes_by_k",
    "check_complete",
    "extract_top_k",
    "file_name",
    "shard",
    "top_k_of_logits",
    "write_store",
]
