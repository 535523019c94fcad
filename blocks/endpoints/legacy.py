"""What we do not speak any more, unless it was agreed with one partner up to a day."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, date, datetime

from pydantic import BaseModel, ConfigDict, Field

from blocks.errors import ConfigurationError


class Legacy(BaseModel):
    """An exception for one server. It ends by itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    algorithms: tuple[str, ...] = Field(min_length=1, description="Exactly these are offered too, by their names on the wire")
    until: date = Field(description="Last day (UTC) on which they are")
    reason: str = Field(min_length=1, description="Why, and when the partner will have mended it")

    def must_be_among(self, known: Collection[str]) -> None:
        """Raises ``ValueError`` for a name that is no such algorithm."""
        unknown = sorted(set(self.algorithms) - set(known))
        if unknown:
            raise ValueError(f"{', '.join(unknown)}: not among those that an exception can allow: {', '.join(sorted(known))}")


def allowed(legacy: Legacy | None, address: str, today: date | None = None) -> frozenset[str]:
    """What an exception allows today. Raises ``ConfigurationError`` once it has ended."""
    if legacy is None:
        return frozenset()
    if (today or datetime.now(UTC).date()) > legacy.until:
        raise ConfigurationError(
            f"{address}: the exception for {', '.join(legacy.algorithms)} ended on {legacy.until} ({legacy.reason}); nothing was sent. "
            "Ask the partner whether it is mended and remove 'legacy', or agree on another date"
        )
    return frozenset(legacy.algorithms)
