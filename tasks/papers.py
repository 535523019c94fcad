"""The papers that a partner must provide, as they are in the repository now. Before anything leaves the sender asks for itself."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from blocks.errors import ConfigurationError
from blocks.papers import Papers, look_for_papers
from blocks.profile import PartnerProfile, load_repositories
from blocks.settings import settings
from tasks.connections import ledger, repository_session
from tasks.rules.papers import PaperNow, lacks, papers_now


def papers_of(profile: PartnerProfile, papers: Papers) -> tuple[PaperNow, ...]:
    """How each of a partner's papers stands on the partner's day. Raises ``RepositoryError``, ``ConfigurationError``."""
    repositories = load_repositories(settings().profiles)
    if papers.repository not in repositories:
        there = ", ".join(sorted(repositories))
        raise ConfigurationError(f"{profile.name}: papers in '{papers.repository}'; repositories.yaml has {there}")
    with repository_session(repositories[papers.repository]) as session:
        found = look_for_papers(session, papers)
    return papers_now(papers, found, ledger().now().astimezone(ZoneInfo(profile.timezone)).date())


def lacking_papers(profile: PartnerProfile, stream: str) -> str:
    """Which papers a release of this stream would have to wait for, in one line; "" if it may be asked for."""
    papers = profile.papers
    if papers is None or not papers.holds_up(stream):
        return ""
    lacking = lacks(papers_of(profile, papers))
    return f"{profile.name} lacks papers that it must provide ({lacking})" if lacking else ""
