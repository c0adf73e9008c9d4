"""Causal language models: loaded, adapted, and read for their hidden states and output head."""
