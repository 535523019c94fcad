"""Settings of this installation, from the environment (``COUNTERSIGN_...``) or a ``.env`` file. Profiles are elsewhere."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="COUNTERSIGN_", env_file=".env", extra="ignore")

    home: Path = Field(default=Path(".countersign"), description="Folder for ledger, spool, quarantine and keys")
    ledger_url: str | None = Field(default=None, description="SQLAlchemy URL; default: SQLite file in the home folder")
    profiles: Path = Field(default=Path("deployments"), description="Folder with the reviewed partner files")
    spool_floor_bytes: int = Field(default=1024**3, ge=0, description="Free disk below which nothing more is fetched")
    retry_seconds: float = Field(
        default=10.0, gt=0, description="First pause before a task is tried again; it doubles, with jitter"
    )
    pause_seconds: float = Field(default=4.0, gt=0, description="Longest pause before a call to a repository is made again")
    lease_seconds: float = Field(default=60.0, gt=0, description="How long a silent worker keeps its work")

    sender_socket: Path = Field(
        default_factory=lambda known: known["home"] / "sender.sock",
        description="Where the sender listens; default: in the home folder",
    )
    sender_state: Path = Field(
        default_factory=lambda known: known["home"] / "sender",
        description="Folder that only the sender may read: seeds, seal key, deliveries; default: in the home folder",
    )

    @property
    def ledger(self) -> str:
        return self.ledger_url or f"sqlite:///{self.home.absolute() / 'ledger.sqlite'}"

    @property
    def spool(self) -> Path:
        return self.home / "spool"

    @property
    def quarantine(self) -> Path:
        return self.home / "quarantine"

    @property
    def keys(self) -> Path:
        return self.home / "keys"


@cache
def settings() -> Settings:
    """Read once per process."""
    return Settings()
