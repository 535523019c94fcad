"""E4 Certificates and forms to review: a person tells the project once; the quality review begins; and once a second person agrees, the
next of its kind needs nobody."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from blocks.repositories.extended_ecm import ExtendedEcmSession
from deployments.cli import app
from tests.world import World

MAP = "Process Library/Quality Review"


def certificate(year: int) -> bytes:
    return b"%PDF-1.7\n% ISO 9001, " + str(year).encode() + b"\ntrailer << >>\n%%EOF\n"


@pytest.fixture
def supplier(world: World) -> World:
    """Certificates are filed by project, and their names may tell it or not."""
    world.agree(
        classify=[
            {"pattern": r"(?P<project>P-\d+)_ISO_.*\.pdf", "doctype": "invoice"},
            {"pattern": r"ISO_.*\.pdf", "doctype": "invoice"},
        ],
        triage=["project"],
        workflow=MAP,
        target={
            "repository": "ecm",
            "folder": f"Tests/{world.remote.name}",
            "name": "{project} {name}",
            "categories": {"Partner Document": {"Reference": "{project}"}},
        },
        owner="procurement@example.com",
    )
    return world


def command(*words: str, by: str = "ann", fails: bool = False) -> str:
    ran = CliRunner().invoke(app, list(words), env={"LOGNAME": by})
    assert (ran.exit_code != 0) == fails, ran.output
    return ran.output


def reviews(world: World) -> dict[str, list[list[str]]]:
    """Name of what is filed -> its reviews, each with the steps that are open."""
    with world.repository() as session:
        assert isinstance(session, ExtendedEcmSession)
        found = {}
        for kept in session.look(("Tests", world.remote.name)):
            since = session.nodes.versions(int(kept.id))[0].created
            assert since is not None
            about = session.workflows.about(int(kept.id), MAP, since)
            found[kept.name] = [[step.name for step in process.current] for process, _ in about]
    return found


def test_the_project_is_told_once_and_the_quality_review_begins(supplier: World) -> None:
    supplier.leave("ISO_9001_2026.pdf", certificate(2026))
    assert supplier.run().name == "Nothing filed, 1 quarantined"
    (case,) = supplier.ledger.cases()
    assert (case.code, case.owner) == ("needs-triage", "procurement@example.com")
    assert case.journey[:8] in command("triage", "list", "--partner", "acme")

    told = command("triage", "assign", case.journey, "--fact", "project=P-77", "--comment", "their plant in Ulm")
    assert r"ISO_[0-9]+_[0-9]+\.pdf, as rule acme/price-lists/1: of 0 past files 0 fit its names" in told
    assert supplier.ledger.cases() == []
    assert reviews(supplier) == {"P-77 ISO_9001_2026.pdf": [["Quality review"]]}

    seen = command("triage", "rules", by="ben")
    assert seen.startswith("acme/price-lists/1  proposed")
    assert all(
        part in seen for part in ("project=P-77", "by ann: their plant in Ulm", "of 1 past files 1 fit", "1 had the same")
    )
    agreeing = ("triage", "agree", "acme/price-lists/1", "--comment", "their quality manager says so")
    assert "another person has to agree" in command(*agreeing, fails=True)
    assert "live" in command(*agreeing, by="ben")
    assert "agreed   by ben: their quality manager says so" in command("triage", "rules", "acme")

    supplier.leave("ISO_9001_2027.pdf", certificate(2027))
    assert supplier.run().name == "Filed"
    assert supplier.ledger.cases() == []
    assert set(reviews(supplier)) == {"P-77 ISO_9001_2026.pdf", "P-77 ISO_9001_2027.pdf"}
    assert all(one == [["Quality review"]] for one in reviews(supplier).values()), "one each"
    last = next(entries for entries in supplier.journeys().values() if entries[0].body["name"] == "ISO_9001_2027.pdf")
    judged = next(entry for entry in last if entry.kind == "judged")
    (note,) = judged.body["findings"]
    assert note["message"] == "Its project is P-77, as ann told of such a file, and ben agreed (rule acme/price-lists/1).", (
        "on record"
    )
    assert supplier.run().name == "Nothing new"
    assert len(reviews(supplier)) == 2


def test_another_pattern_and_a_retracted_one_come_to_triage_again(supplier: World) -> None:
    supplier.leave("ISO_9001_2026.pdf", certificate(2026))
    supplier.run()
    (case,) = supplier.ledger.cases()
    command("triage", "assign", case.journey, "--fact", "project=P-77", "--comment", "their plant in Ulm")
    supplier.leave("ISO_14001_audit.pdf", certificate(1))
    supplier.leave("P-12_ISO_9001.pdf", certificate(2))
    assert supplier.run().name == "Filed, 1 quarantined"
    assert [case.code for case in supplier.ledger.cases()] == ["needs-triage"]
    assert "P-12 P-12_ISO_9001.pdf" in reviews(supplier), "what the name tells counts"

    command("triage", "agree", "acme/price-lists/1", "--comment", "so it is", by="ben")
    assert "P-77" in command("triage", "rules", "acme", "price-lists")
    command("triage", "retract", "acme/price-lists/1", "--comment", "another project now")
    assert "P-77" not in command("triage", "rules", "acme", "price-lists")
    assert "retracted by ann: another project now" in command("triage", "rules", "acme", "--all")
    supplier.leave("ISO_9001_2028.pdf", certificate(2028))
    supplier.run()
    assert len(supplier.ledger.cases()) == 2


def test_what_cannot_be_told_changes_nothing(supplier: World) -> None:
    supplier.leave("ISO_9001_2026.pdf", certificate(2026))
    supplier.run()
    (case,) = supplier.ledger.cases()
    before = supplier.ledger.journey(case.journey)
    for fact in ("project=", "stream=other", "project", "project=a\nb"):
        refused = CliRunner().invoke(app, ["triage", "assign", case.journey, "--fact", fact, "--comment", "no"])
        assert refused.exit_code != 0, fact
        assert supplier.ledger.journey(case.journey) == before
    assert "ISO" not in command("triage", "rules", "acme", "price-lists")


def test_a_lost_answer_starts_no_second_review(supplier: World) -> None:
    supplier.leave("P-12_ISO_9001.pdf", certificate(2))
    # The first write is the document, the second one the workflow.
    supplier.faults(spare_writes=1, lost_answer=1)
    supplier.run()
    assert reviews(supplier) == {"P-12 P-12_ISO_9001.pdf": [["Quality review"]]}
