"""Resend: recall -> preview, or a package of its own that a release asks for."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.order import load_release
from tasks.resend import order_again, preview, recall


@flow(name="resend", flow_run_name="resend {partner}/{stream} {order}", validate_parameters=True)
def resend(
    partner: str,
    stream: str,
    order: str,
    comment: str,
    by: str = "",
    files: list[str] | None = None,
    dry_run: bool = False,
) -> State:
    """Send documents of a delivered order once more: the same bytes to the same places, once named people have signed that.

    Nothing is gathered or checked again, and nothing leaves without a sign-off of its own.

    Args:
        partner: Name of the partner's file in the profiles folder.
        stream: The outbound stream that sent it.
        order: The order that was delivered.
        comment: Why it goes again: approvers read it, and it stands in the certificate.
        by: Id of who asks for it; they never sign it themselves. As stated.
        files: Names of the documents, as the order's record has them. Empty: all of them.
        dry_run: Say what would be sent again and whether that can be; write nothing.
    """
    recalled = recall(load_release(partner, stream), order, files or [])
    return preview(recalled) if dry_run else order_again(recalled, comment, by)
