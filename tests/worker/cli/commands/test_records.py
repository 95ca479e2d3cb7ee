"""`records` lists, shows and archives what is in the chart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.tasks.providers.odd_server import OddServer, Reply, Request
from tests.worker.cli.conftest import CommandLine, lines

LIST = "GET /v1/patients/4711/patient_attachments"
ONE = "/v1/patient_attachments/7"
RECORD: dict[str, Any] = {
    "id": "7",
    "filename": "referral.pdf",
    "description": "A referral (chartpost 0123)",
    "size": 1024,
    "content_type": "application/pdf",
    "created_at": "2026-11-21T10:00:00Z",
    "processed_at": "2026-11-21T10:00:05Z",
    "processing_completed": True,
}
SETTINGS = """
[accounts.cliniko_clinic]
provider = "cliniko"
base_url = "{base}/v1"
insecure = true
api_key = "key-au1"
contact = "A Clinic (it@clinic.example)"
"""


@pytest.fixture
def odd() -> Iterator[OddServer]:
    with OddServer() as server:
        yield server


@pytest.fixture
def chart(chartpost: CommandLine, config: Path, odd: OddServer, valkey: redis.Redis) -> CommandLine:
    """A command line whose settings have an account at Cliniko as well."""
    with config.open("a") as settings:
        settings.write(SETTINGS.format(base=odd.base))
    odd.answers[LIST] = Reply(body={"patient_attachments": [RECORD], "total_entries": 1, "links": {}})
    odd.answers[f"GET {ONE}"] = Reply(body=RECORD)
    odd.answers[f"POST {ONE}/archive"] = Reply(204)
    return chartpost


def of(*arguments: str) -> tuple[str, ...]:
    return ("records", *arguments, "--account", "cliniko_clinic")


def test_a_patients_records_are_listed_as_json_and_as_columns(chart: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "patient").write_text("4711\n")
    command = of("list", "--patient", f"@{tmp_path / 'patient'}")
    (row,) = chart.rows(*command)
    assert (row["id"], row["file_name"], row["size_bytes"], row["processed"]) == ("7", "referral.pdf", 1024, True)
    assert row["url"].endswith(ONE)
    in_a_pipe = chart(*command)
    assert in_a_pipe.stdout.split("\t")[:4] == ["7", "referral.pdf", "1024", "yes"]


def test_a_case_is_asked_for_together_with_its_patient(chart: CommandLine, odd: OddServer) -> None:
    odd.answers["GET /v1/patient_cases/12/patient_attachments"] = Reply(body={"patient_attachments": []})
    assert chart.rows(*of("list", "--patient", "4711", "--case", "12")) == []
    assert odd.requests[-1].query["q[]"] == ["patient_id:=4711"]


def test_a_record_is_shown_archived_or_not(chart: CommandLine, odd: OddServer) -> None:
    def archived(request: Request) -> Reply:
        return Reply(body=RECORD) if request.query.get("q[]") == ["archived_at:*"] else Reply(404)

    for answer, expected in ((Reply(body=RECORD), False), (archived, True)):
        odd.answers[f"GET {ONE}"] = answer
        result = chart(*of("show", "7", "--json"))
        assert result.exit_code == 0
        (shown,) = lines(result)
        assert (shown["file_name"], shown["archived"]) == ("referral.pdf", expected)


def test_a_record_is_archived_the_new_way(chart: CommandLine, odd: OddServer) -> None:
    result = chart(*of("archive", "7"))
    assert (result.exit_code, result.stdout) == (0, "7: archived\n")
    assert odd.paths() == [f"POST {ONE}/archive"]


@pytest.mark.parametrize("arguments", [("show", "8"), ("archive", "8"), ("list", "--patient", "8")])
def test_an_unknown_patient_or_record_is_exit_code_1(
    chart: CommandLine, odd: OddServer, arguments: tuple[str, ...]
) -> None:
    odd.otherwise = Reply(404, {"message": "Not Found: Anna Meier"})
    result = chart(*of(*arguments))
    assert result.exit_code == 1
    assert "Cliniko knows no such" in result.stderr
    assert "Meier" not in result.output


def test_a_refused_key_is_exit_code_1(chart: CommandLine, odd: OddServer) -> None:
    odd.answers[LIST] = Reply(401)
    result = chart(*of("list", "--patient", "4711"))
    assert result.exit_code == 1
    assert "api_key" in result.stderr
    assert "key-au1" not in result.output


def test_an_account_whose_provider_has_no_such_api_is_wrong_usage(chart: CommandLine, odd: OddServer) -> None:
    for arguments in (("list", "--patient", "4711"), ("show", "7"), ("archive", "7")):
        for account, says in (("north_clinic", "cliniko"), ("nobody", "not in the settings")):
            result = chart("records", *arguments, "--account", account)
            assert result.exit_code == 2
            assert says in result.stderr
    assert odd.requests == []


def test_an_empty_id_is_wrong_usage_and_not_the_whole_chart(chart: CommandLine, odd: OddServer) -> None:
    for arguments in (("list", "--patient", " "), ("list", "--patient", "4711", "--case", ""), ("show", "")):
        assert chart(*of(*arguments)).exit_code == 2
    assert odd.requests == []


def test_pages_are_read_to_their_end(chart: CommandLine, odd: OddServer) -> None:
    def page(request: Request) -> Reply:
        number = int(request.query["page"][0])
        said = {"patient_attachments": [RECORD | {"id": str(number)}], "total_entries": 3}
        links = {"next": f"{odd.base}/v1/patients/4711/patient_attachments?page={number + 1}"} if number < 3 else {}
        return Reply(body=said | {"links": links})

    odd.answers[LIST] = page
    assert [row["id"] for row in chart.rows(*of("list", "--patient", "4711"))] == ["1", "2", "3"]
