"""N13 Blast-radius brake: a release that is far from its stream's usual ones asks for one more signature, and says why."""

from __future__ import annotations

import json

from tests.release_world import ReleaseWorld


def test_a_release_of_far_more_documents_than_usual_leaves_only_with_one_more_signature(release_world: ReleaseWorld) -> None:
    one = {"stages": [{"name": "release", "groups": ["pricing"]}], "proof": "code"}
    release_world.agree(braked=release_world.terms(signoff={**one, "brake": {"files": 3, "rows": {"most": 1000}}}))
    ann, bea, *others = [release_world.newcomer() for _ in range(5)]
    for approver in others:
        usual = release_world.order("braked", prices=f"sku,price\n{approver},1\n".encode())
        assert usual.start() is None
        assert "One more signature" not in usual.form and "**0 of 1** signed" in usual.form
        state = usual.sign(approver)
        assert state is not None and state.name == "Delivered", state

    parts = {f"part{number}": f"sku,price\n{number},1\n".encode() for number in range(1, 5)}
    large = release_world.order("braked", **parts, prices=b"sku,price\n" + b"a,1\n" * 1200)
    assert large.start() is None
    why = "**One more signature than usual**: 5 files, usually 1; 1,204 rows, above the bound of 1,000"
    assert why in large.form and "**0 of 1 in release** signed" in large.form
    assert large.sign(ann) is None
    assert large.received == {}
    assert why in large.form and "**0 of 1 in one more signature** signed" in large.form
    assert "waits for 1 of pricing" in large.told.name
    assert large.resume(large.answer(ann, "000000")) == "REJECT", "who has signed is not asked again"
    state = large.sign(bea)
    assert state is not None and state.name == "Delivered", state
    assert set(large.received) == {*(f"{name}.csv" for name in parts), "prices.csv"}
    filed = release_world.evidence(large.id)
    (certificate,) = [json.loads(content) for name, content in filed.items() if name.endswith(".signoff.json")]
    assert certificate["brake"] == ["5 files, usually 1", "1,204 rows, above the bound of 1,000"]
    assert [told["vote"]["approver"] for told in certificate["votes"]] == [ann, bea]
    (page,) = [content.decode() for name, content in filed.items() if name.endswith(".html")]
    assert "One more signature, for" in page
