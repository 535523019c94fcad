"""S2 Approved and versioned delivery: when the window opens, what is approved goes, and what is withheld is listed with its reason."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

from tests.release_world import ReleaseWorld


def values(until: object) -> dict[str, dict[str, str]]:
    return {"Partner Document": {"Reference": "Approved", "Document Date": str(until)}}


def test_two_go_and_the_one_whose_approval_expired_is_withheld_with_its_reason(release_world: ReleaseWorld) -> None:
    window = f"window-{release_world.remote.name}"
    admits = [{"category": "Partner Document", "attribute": "Reference", "values": ["Approved"]}]
    until = {"category": "Partner Document", "attribute": "Document Date"}
    release_world.agree(
        window=release_world.terms(
            gather={"repository": "ecm", "folder": f"Outbox/{window}", "admits": admits, "valid_until": until},
            freshness="pinned",
        )
    )
    bea = release_world.newcomer()
    today = datetime.now(UTC).date()  # not when the file is read: a run of the suite may begin the day before
    yesterday, tomorrow = today - timedelta(days=1), today + timedelta(days=1)
    for name, last_day in (("one.pdf", tomorrow), ("two.pdf", today), ("three.pdf", yesterday)):
        release_world.keep(window, name, name.encode(), categories=values(last_day))
    release = release_world.order("window")
    # The window opens: a schedule starts the run, nobody in particular asks.
    assert release.start(order=None, requester="") is None
    (release_world.remote / release.ordered_as).mkdir()
    release.id = release.ordered_as

    assert [file.shown for file in release.package.files] == ["one.pdf", "two.pdf"]
    reason = f"its approval ended on {yesterday}"
    assert "`three.pdf`" in release.form and reason in release.form
    key = ArtifactFilter(key=ArtifactFilterKey(any_=[f"release-{release.package.journey}"]))
    (listing,) = release_world.client.request(
        "POST", "/artifacts/filter", json={"artifacts": key.model_dump(mode="json")}
    ).json()
    assert "three.pdf" in listing["data"] and reason in listing["data"]

    state = release.sign(bea)
    assert state is not None and state.name == "Delivered", state
    assert release.received == {"one.pdf": b"one.pdf", "two.pdf": b"two.pdf"}
    findings = release.last("frozen")["checked"]["findings"]
    assert [(found["code"], found["file"]) for found in findings] == [("approval-expired", "three.pdf")]
