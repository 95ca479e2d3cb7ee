"""What a person is shown."""

from __future__ import annotations

import pytest

from worker.cli.output import print_sheet


def test_lists_are_shown_item_by_item(capsys: pytest.CaptureFixture[str]) -> None:
    receipt = {"remarks": ["Look at it."], "labels": [{"code": "N"}, {"code": "NORS", "display": None}]}
    print_sheet(receipt, as_json=False)
    assert [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()] == [
        ["remarks.1", "Look at it."],
        ["labels.1.code", "N"],
        ["labels.2.code", "NORS"],
    ]
