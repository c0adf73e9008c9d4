"""Causal language models: loading, adapters, hidden states and output head."""
