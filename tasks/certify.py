"""Certify: write down who let what leave and what came of it, sealed by the sender, and file it where evidence is kept."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client

from blocks.errors import LeaseLost, RepositoryError
from blocks.ledger import Entry
from blocks.outbound import Delivered, sha256
from blocks.sender import Arrived
from blocks.settings import settings
from blocks.values import Filed, Stage
from tasks.await_answer import answered, await_answer
from tasks.connections import ledger
from tasks.evidence import file_evidence, written
from tasks.order import Order, parted, sender
from tasks.retrying import task
from tasks.rules.certificate import certificate, certificate_hash, certificate_name, page, weakest
from tasks.rules.dialog import arrivals
from tasks.since_last import certificates


@task(task_run_name="certify {order.id}")
def certify(order: Order, arrived: Sequence[Arrived]) -> None:
    """The package's certificate: made once, chained to the stream's last one, sealed, and filed with its page to print."""
    if order.last("certified"):
        return
    deliveries = [file for one in arrived for file in one.files]
    text = _sealed(order, deliveries)
    name = certificate_name(order.matter.package)
    to_print = page(text)
    filed = _file(order, [(name, text, "application/json"), (name.removesuffix(".json") + ".html", to_print, "text/html")])
    facts = {
        "certificate": certificate_hash(text),
        "weakest": weakest(deliveries),
        "repository": order.agreed.evidence.address,
        "repository_id": filed[0].id,
        "page_id": filed[1].id,
        "page": sha256(to_print),
    }
    order.write("certified", facts, once=f"certified/{order.matter.package.digest}")


@task(task_run_name="part {order.id}")
def part(order: Order) -> None:
    """What was left out becomes a package of its own, with a run of its own that asks for it. Asked twice, it is the same run."""
    package, now = order.matter.package, order.standing()
    child = package.remainder(now.left_out)
    if child is None:
        return
    parted(order, child)
    with get_client(sync_client=True) as client:
        ours = client.read_flow_run(UUID(order.run))
        if ours.deployment_id is None:
            raise RepositoryError(f"run {order.run} has no deployment, so no run can be made for the remainder {child.order}")
        run = client.create_flow_run_from_deployment(
            ours.deployment_id,
            parameters={"partner": package.partner, "stream": package.stream, "order": child.order},
            idempotency_key=child.digest,
        )
    order.write(
        "parted", {"child": child.digest, "child_order": child.order, "child_run": str(run.id)}, once=f"parted/{child.digest}"
    )


@task(task_run_name="close {order.id}")
def finish(order: Order, arrived: Sequence[Arrived]) -> None:
    """Delivered, proven and certified: the order is done."""
    files = [file for one in arrived for file in one.files]
    await_answer(order)
    create_markdown_artifact(
        f"{arrivals(order.matter.package, files)}\nThe partner: {answered(order)}\n", key=f"delivered-{order.journey}"
    )
    collected = sum(file.collected for file in files)
    told = sum(file.said is not None for file in files)
    name = "Delivered" + (f", {collected} collected before proof" if collected else "")
    name += f", {told} told by a person" if told else ""
    order.close(name, f"order {order.id}: {len(files)} placed; weakest proof: {weakest(files)}")
    order.tell("delivered", files=len(files), weakest=weakest(files))


# --------------------------------------------------------------------------------------------- the chain


def _sealed(order: Order, deliveries: Sequence[Delivered]) -> str:
    """The certificate's text: the one that is in the chain already, or a new one at its end."""
    package, chain = order.matter.package, certificates(order)
    with _alone(chain):
        links = ledger().journey(chain)
        mine = next((link.body["certificate"] for link in links if link.body["package"] == package.digest), None)
        if mine is not None:
            return next(str(entry.body["text"]) for entry in order.each("sealed") if entry.body["certificate"] == mine)
        text = _made(order, deliveries, links[-1].body["certificate"] if links else None)
        facts = {"certificate": certificate_hash(text), "package": package.digest, "release": order.journey}
        order.write("sealed", {**facts, "text": text}, once=f"sealed/{facts['certificate']}")
        # The number in the key is what keeps the chain one line, whoever else writes.
        link = Entry(chain, "certified", facts, f"{chain}/{len(links) + 1}", Stage.CLEARED)
        if ledger().append([link])[0].body["package"] != package.digest:
            raise LeaseLost(f"order {order.id}: another certificate of the stream was made at the same moment; run it again")
        return text


def _made(order: Order, deliveries: Sequence[Delivered], previous: str | None) -> str:
    agreed = order.agreed
    with sender() as sealing:
        return certificate(
            order.matter,
            agreed.terms,
            order.policies,
            order.people,
            order.standing(),
            deliveries,
            issued=ledger().now(),
            zone=order.people.timezone,
            previous=previous,
            public_key=sealing.health().public,
            seal=lambda message: sealing.seal("certificate", message.decode("ascii")),
        )


@contextmanager
def _alone(chain: str) -> Iterator[None]:
    """One certificate of a stream at a time."""
    seconds = settings().lease_seconds
    give_up = time.monotonic() + 2 * seconds
    while (lease := ledger().lease([chain], owner="certificates", seconds=seconds)) is None:
        if time.monotonic() > give_up:
            raise LeaseLost(f"{chain}: another release is being certified for long; nothing is lost, run this one again")
        time.sleep(min(0.2, seconds / 10))
    with ledger().holding(lease, seconds):
        yield


def _file(order: Order, documents: Sequence[tuple[str, str, str]]) -> list[Filed]:
    """File texts (name, text, media type) at the stream's place for evidence, each under a journey of its own."""
    package = order.matter.package
    about = [(file.shown, file.sha256) for file in package.files]
    pieces = [
        written(f"{package.digest}/{name}", name, name.rpartition(".")[2], text, media_type, about)
        for name, text, media_type in documents
    ]
    return file_evidence(order, order.agreed.terms.evidence, order.agreed.evidence, pieces)
