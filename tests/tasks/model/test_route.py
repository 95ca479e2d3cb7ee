"""What a route says of the steps on it."""

from __future__ import annotations

from tasks.model.route import Route, Stage


def test_an_upload_creates_nothing_where_the_document_must_be_registered() -> None:
    assert Route((Stage.PRESIGNED, Stage.STORED)).upload_creates
    assert not Route((Stage.PRESIGNED, Stage.STORED, Stage.REGISTERED)).upload_creates
