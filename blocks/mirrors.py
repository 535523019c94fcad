"""Mirrors: what people see of the reviewed files in Prefect. The file counts; a mirror that differs is worth a look."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prefect.blocks.core import Block
from prefect.client.schemas.objects import BlockDocument

from blocks.catalog import PartnerMirror
from blocks.profile import PartnerProfile
from blocks.repositories.base import Repository


def mirrors(profiles: Mapping[str, PartnerProfile], repositories: Mapping[str, Repository]) -> Iterator[tuple[str, Block]]:
    """What people shall see in Prefect, under the name of its block document."""
    yield from repositories.items()
    for name, profile in profiles.items():
        for endpoint_name, endpoint in profile.endpoints.items():
            yield f"{name}-{endpoint_name}", endpoint
        yield name, PartnerMirror(partner=name, digest=profile.digest, terms=profile.terms)


def differs(there: BlockDocument, block: Block) -> list[str]:
    """Names of the fields in which Prefect's document is not what the file says, in order."""
    fields = set(type(block).model_fields)
    ours = {key: value for key, value in block.model_dump(mode="json", include=fields).items() if key in fields}
    data = {key: value for key, value in there.data.items() if key in fields}
    return sorted(key for key in {*ours, *data} if (key in ours, ours.get(key)) != (key in data, data.get(key)))
