"""Credentials are references: ``env:NAME`` or ``file:/path``. The secret is read at the moment of use, and only there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import StringConstraints

from blocks.errors import ConfigurationError

Reference = Annotated[str, StringConstraints(pattern=r"^(env|file):\S.*$")]


def read(reference: str) -> str:
    """The secret behind a reference, without a final newline.

    Raises ``ConfigurationError`` that names the reference, never the secret.
    """
    where, _, name = reference.partition(":")
    if where == "env":
        value = os.environ.get(name)
        if value is None:
            raise ConfigurationError(f"{reference}: the environment variable {name} is not set; set it for the worker's user")
        return value
    if where == "file":
        try:
            return Path(name).read_text(encoding="utf-8").removesuffix("\n")
        except OSError as error:
            raise ConfigurationError(f"{reference}: cannot be read ({error.strerror}); check the path and its owner") from error
    raise ConfigurationError(f"{reference[:8]}…: a credential is written as env:NAME or file:/path, never in clear")
