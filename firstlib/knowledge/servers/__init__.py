"""Teachers behind a server: what model servers answer, read into a knowledge store."""
