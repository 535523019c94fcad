"""The papers that a partner must provide, as the sender itself reads them in the repository, just before anything leaves.

No worker is asked: which papers there must be stands in the reviewed profile, how they stand in the repository, and the day is that
of our own clock. So the sender needs a repository account that can read the folder of papers; whoever may write values there decides.
What cannot be asked is lacking.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from blocks.errors import ConfigurationError, RepositoryError
from blocks.papers import look_for_papers
from blocks.profile import PartnerProfile, load_repositories
from tasks.rules.papers import lacks, papers_now


def lacking_papers(profile: PartnerProfile, stream: str, profiles: Path) -> str:
    """Why nothing of an outbound stream may leave for now; "" if the partner's papers are good, or nothing waits for them."""
    papers = profile.papers
    if papers is None or not papers.holds_up(stream):
        return ""
    try:
        repository = load_repositories(profiles).get(papers.repository)
        if repository is None:
            return f"{profile.name}: repositories.yaml has no '{papers.repository}', where its papers are"
        with repository.session() as session:
            found = look_for_papers(session, papers)
    except (RepositoryError, ConfigurationError) as error:
        return f"{profile.name}: whether its papers are good cannot be asked just now ({error})"
    lacking = lacks(papers_now(papers, found, datetime.now(UTC).astimezone(ZoneInfo(profile.timezone)).date()))
    return f"{profile.name} lacks papers that it must provide ({lacking})" if lacking else ""
