"""FIRST, the laboratory for honest language models."""
