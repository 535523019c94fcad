"""Bring one large file to a partner or from there in a process of its own, as often as the line breaks::

    python -m tests.soak.carry down|up PROTOCOL ENDPOINT FOLDER NAME SPOOL [SOURCE SIZE DIGEST]

Prints how often it broke, the file's digest as we know it, and this process's peak memory.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from blocks.endpoints.base import Endpoint
from blocks.endpoints.ftp import Ftp, Ftps
from blocks.endpoints.sftp import Sftp
from blocks.errors import EndpointBusy, EndpointUnreachable
from blocks.spool import Spool
from blocks.values import Fetched, Outgoing, Placed
from tests.driver import peak_mib

MOST_BREAKS = 20


def down(end: Endpoint, folder: str, name: bytes, spool: Spool) -> str:
    with end.session() as session, spool.batch() as batch:
        files = [file for file in session.look(folder) if file.name == name]
        (answer,) = session.fetch(files, batch)
    assert isinstance(answer, Fetched), answer
    return answer.digest


def up(end: Endpoint, folder: str, file: Outgoing) -> str:
    with end.session() as session:
        (answer,) = session.put([file], folder)
    assert isinstance(answer, Placed), answer
    return answer.digest


def main(way: str, protocol: str, agreed: str, folder: str, name: str, place: str, *source: str) -> None:
    kinds: dict[str, type[Endpoint]] = {"ftp": Ftp, "ftps": Ftps, "sftp": Sftp}
    end, spool = kinds[protocol].model_validate(json.loads(agreed)), Spool(Path(place), floor_bytes=0)
    for breaks in range(MOST_BREAKS):
        try:
            if way == "down":
                digest = down(end, folder, name.encode(), spool)
            else:
                digest = up(end, folder, Outgoing(Path(source[0]), name.encode(), int(source[1]), source[2]))
        except (EndpointUnreachable, EndpointBusy) as error:
            print(error, file=sys.stderr)
            continue
        print(json.dumps({"breaks": breaks, "digest": digest, "peak_mib": peak_mib()}))
        return
    sys.exit(f"it broke {MOST_BREAKS} times")


if __name__ == "__main__":
    main(*sys.argv[1:])
