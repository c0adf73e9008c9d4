"""What a model answers, and how honest its answers are."""
