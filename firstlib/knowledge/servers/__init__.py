"""API-only teachers: responses of model servers with top log-probabilities, imported into a knowledge store."""
