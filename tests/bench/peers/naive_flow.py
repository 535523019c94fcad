"""The peer that a tutorial teaches: a Prefect flow with a task for every step of every file, one file after the other.

paramiko's ``get`` to the disk, sha256, pandas and pandera, ``httpx.post``, ``rename``. Takes jobs as ``scripts`` does,
in a process of its own with our environment, which has all that it needs, and talks to the same Prefect server as ours.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import pandas
import pandera.pandas as pa
import paramiko
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

Job: TypeAlias = Mapping[str, Any]
"""The fields of ``scripts.Job``."""

PRICES = pa.DataFrameSchema(
    {
        "sku": pa.Column(str, pa.Check.str_matches(r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,39}$")),
        "description": pa.Column(str, pa.Check.str_length(max_value=500), nullable=True),
        "currency": pa.Column(str, pa.Check.str_matches(r"^[A-Z]{3}$")),
        "price": pa.Column(float, pa.Check.in_range(0, 10_000_000), coerce=True),
        "valid_from": pa.Column("datetime64[ns]", coerce=True),
    },
    strict=True,
)


@task(cache_policy=NO_CACHE)
def check_name(name: str) -> None:
    if not re.fullmatch(r"prices_\d{6}\.csv", name):
        raise ValueError(f"{name}: not a name that was agreed")


@task(cache_policy=NO_CACHE)
def fetch(sftp: paramiko.SFTPClient, remote: str, local: Path) -> Path:
    sftp.get(remote, str(local))
    return local


@task(cache_policy=NO_CACHE)
def digest(local: Path) -> str:
    return hashlib.sha256(local.read_bytes()).hexdigest()


@task(cache_policy=NO_CACHE)
def validate(local: Path) -> None:
    PRICES.validate(pandas.read_csv(local, dtype={"sku": str, "description": str, "currency": str}))


@task(cache_policy=NO_CACHE)
def upload(job: Job, ticket: str, local: Path, sha256: str) -> int:
    body = json.dumps({"type": 144, "parent_id": job["parent"], "name": local.name, "description": sha256})
    with local.open("rb") as file:
        answer = httpx.post(
            f"{job['url']}/api/v2/nodes",
            headers={"OTCSTicket": ticket},
            data={"body": body},
            files={"file": (local.name, file, "text/csv")},
            timeout=60,
        )
    return int(answer.raise_for_status().json()["results"]["data"]["properties"]["id"])


@task(cache_policy=NO_CACHE)
def rename(sftp: paramiko.SFTPClient, remote: str, done: str) -> None:
    sftp.rename(remote, done)


@flow(name="naive intake", validate_parameters=False)
def intake(job: Job) -> int:
    signed_in = httpx.post(
        f"{job['url']}/api/v1/auth", data={"username": job["login"], "password": job["password"]}, timeout=60
    )
    ticket = signed_in.raise_for_status().json()["ticket"]
    with paramiko.SSHClient() as ssh, tempfile.TemporaryDirectory() as folder:
        ssh.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        ssh.connect(
            job["host"],
            job["port"],
            job["username"],
            key_filename=job["key"],
            allow_agent=False,
            look_for_keys=False,
        )
        sftp = ssh.open_sftp()
        names = sorted(name for name in sftp.listdir(job["source"]) if name.endswith(".csv"))
        for name in names:
            check_name(name)
            local = fetch(sftp, f"{job['source']}/{name}", Path(folder) / name)
            sha256 = digest(local)
            validate(local)
            upload(job, ticket, local, sha256)
            rename(sftp, f"{job['source']}/{name}", f"{job['done']}/{name}")
    return len(names)


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps({"files": intake(json.loads(line))}), flush=True)
