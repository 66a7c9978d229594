"""Notices that capacity will be taken back: read where providers and operators leave them, kept while they hold."""

from workloadplane.agent.notices.sources import NoticeEndpoint, sources_of
from workloadplane.agent.notices.watch import NoticeWatch

__all__ = ["NoticeEndpoint", "NoticeWatch", "sources_of"]
