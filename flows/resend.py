"""Resend: recall -> preview, or a package of its own that a release asks for; or an order for the newest versions."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State

from blocks.errors import ConfigurationError
from tasks.order import load_release
from tasks.resend import order_again, order_latest, preview, recall


@flow(name="resend", flow_run_name="resend {partner}/{stream} {order}", validate_parameters=True)
def resend(
    partner: str,
    stream: str,
    order: str,
    comment: str,
    by: str = "",
    files: list[str] | None = None,
    dry_run: bool = False,
    latest: bool = False,
) -> State:
    """Send documents of a delivered order once more: the same bytes to the same places, once named people have signed that.

    Nothing is gathered or checked again, and nothing leaves without a sign-off of its own. Or, with ``latest``, correct it: the
    newest versions that may leave are gathered and checked, and the partner is told what they take the place of.

    Args:
        partner: Name of the partner's file in the profiles folder.
        stream: The outbound stream that sent it.
        order: The order that was delivered.
        comment: Why it goes again: approvers read it, and it stands in the certificate.
        by: Id of who asks for it; they never sign it themselves. As stated.
        files: Names of the documents, as the order's record has them. Empty: all of them.
        dry_run: Say what would be sent again and whether that can be; write nothing.
        latest: Send the newest approved versions instead of the bytes of then. What it would be, its form shows.
    """
    if latest and not dry_run:
        return order_latest(load_release(partner, stream), order, files or [], comment, by)
    if latest:
        raise ConfigurationError(
            "a dry run shows the bytes of then; what a correction would send, its form shows before it leaves"
        )
    recalled = recall(load_release(partner, stream), order, files or [])
    return preview(recalled) if dry_run else order_again(recalled, comment, by)
