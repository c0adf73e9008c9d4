"""Audits: how honest a model is that one already has, from its answers, a log, or by asking it."""

from firstlib.results.audit.api import Audit, audit

__all__ = ["Audit", "audit"]
