"""Hide a share: people outside are shown a package no more, before its days are over, because somebody says so."""

from __future__ import annotations

from tasks.order import Order, in_hand, sender

HIDDEN = "hidden"
"""Kind of the entry about a package that a person has ended the shares of."""


def hide(order: Order, comment: str) -> tuple[str, ...]:
    """Have the sender end all shares of what an order delivered, and write down who said so; the places. Safe to repeat.

    Raises ``SendRefused`` where nothing of it is shown in a share, or not all of it is yet, and if the sender does not take the
    caller's word; ``LeaseLost`` while a run works on the order.
    """
    package = order.matter.package
    with in_hand(order) as held, sender() as asked:
        hidden = asked.hide(package)
        facts = {"places": list(hidden.places), "by": hidden.by, "comment": comment}
        held.write(HIDDEN, facts, once=f"{HIDDEN}/{package.digest}")
    return hidden.places
