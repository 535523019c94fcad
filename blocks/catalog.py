"""Every back-end there is, found by looking: a new protocol, repository or system is one file in its package, and nothing here.

Prefect registers the block types of this module (entry point ``prefect.collections``, or
``prefect block register -m blocks.catalog``).
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from types import ModuleType
from typing import Any, ClassVar

from prefect.blocks.core import Block
from pydantic import Field

from blocks import endpoints, repositories, systems
from blocks.endpoints import base as endpoint_contract
from blocks.repositories import base as repository_contract
from blocks.systems import base as system_contract


class PartnerMirror(Block):
    """A partner's reviewed terms, to be read in the Prefect UI. The file in git counts: editing this changes nothing."""

    _block_type_name: ClassVar[str | None] = "Countersign partner (mirror)"
    _block_type_slug: ClassVar[str | None] = "countersign-partner"

    partner: str = Field(description="The partner's name: deployments/<partner>.yaml")
    digest: str = Field(description="SHA-256 of the terms, as the ledger records it")
    terms: dict[str, Any] = Field(description="The whole profile as it is in force")


def _backends(package: ModuleType, contract: type[Block], word: str) -> dict[str, Any]:
    """The concrete classes of a package that keep a contract, by the word with which a profile chooses them."""
    found: dict[str, Any] = {}
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        for kind in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(kind) and issubclass(kind, contract) and not inspect.isabstract(kind):
                rival = found.setdefault(getattr(kind, word), kind)
                if rival is not kind:
                    raise TypeError(f"{rival.__name__} and {kind.__name__} are both chosen by {word}: {getattr(kind, word)}")
    return dict(sorted(found.items()))


ENDPOINTS: dict[str, type[endpoint_contract.Endpoint]] = _backends(endpoints, endpoint_contract.Endpoint, "protocol")
REPOSITORIES: dict[str, type[repository_contract.Repository]] = _backends(repositories, repository_contract.Repository, "kind")
SYSTEMS: dict[str, type[system_contract.System]] = _backends(systems, system_contract.System, "kind")

# Prefect registers the blocks that it finds by name in this module.
globals().update({kind.__name__: kind for kind in (*ENDPOINTS.values(), *REPOSITORIES.values(), *SYSTEMS.values())})
