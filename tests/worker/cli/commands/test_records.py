"""`records` lists, shows, downloads and changes what is in the chart."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tasks.providers.base import ChartRecord
from tests.tasks.providers.odd_server import OddServer, Reply, Request
from tests.worker.cli.conftest import CommandLine, lines
from worker.cli.commands.records.command import print_records

LIST = "GET /v1/patients/4711/patient_attachments"
ALL = "GET /v1/patient_attachments"
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
[accounts.practice]
provider = "ovok"
base_url = "{base}"
insecure = true
email = "chartpost@practice.example"
password = "p"
client_id = "5e505642-9024-474d-9434-e5a44f505cc5"
"""
CONTENT = "what is in the file"
FILE = "GET /files/referral.pdf"
S3 = {"x-amz-request-id": "GQ6Z", "ETag": '"' + hashlib.md5(CONTENT.encode(), usedforsecurity=False).hexdigest() + '"'}


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


@pytest.mark.parametrize(
    ("arguments", "account", "says"),
    [
        (("list", "--all"), "north_clinic", "one patient only"),
        (("list", "--patient", "4711", "--archived"), "north_clinic", "no archived records"),
        (("list", "--patient", "4711"), "practice", "one patient's records"),
        (("archive", "7"), "north_clinic", "Accounts at cliniko do"),
        (("delete", "7", "--yes"), "north_clinic", "Accounts at ovok do"),
        (("delete", "7", "--yes"), "cliniko_clinic", "`chartpost records archive` hides a record"),
        (("rename", "7", "a.pdf"), "cliniko_clinic", "Accounts at ovok do"),
        (("show", "7"), "nobody", "not in the settings"),
        (("list", "--patient", "4711"), "nobody", "not in the settings"),
    ],
)
def test_what_an_accounts_provider_does_not_have_is_wrong_usage(
    chart: CommandLine, odd: OddServer, arguments: tuple[str, ...], account: str, says: str
) -> None:
    result = chart("records", *arguments, "--account", account)
    assert result.exit_code == 2
    assert says in " ".join(result.stderr.split())
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


# --- lists of all patients -------------------------------------------------------------------------------------------


def test_the_whole_accounts_records_are_listed_with_their_patients(chart: CommandLine, odd: OddServer) -> None:
    patient = {"links": {"self": f"{odd.base}/v1/patients/4712"}}
    odd.answers[ALL] = Reply(body={"patient_attachments": [RECORD | {"patient": patient}], "total_entries": 1})
    command = of("list", "--all", "--filter", "created_at:>2026-11-20T00:00:00Z", "--filter", "size:>5")
    (row,) = chart.rows(*command, "--sort", "created_at:desc")
    assert (row["id"], row["patient_id"]) == ("7", "4712")
    (request,) = odd.requests
    assert request.query["q[]"] == ["created_at:>2026-11-20T00:00:00Z", "size:>5"]
    assert request.query["sort"] == ["created_at:desc"]
    assert chart(*command).stdout.rstrip("\n").split("\t")[-1] == "4712"


def test_a_filter_may_come_from_a_file_so_that_no_patient_stands_in_the_process_list(
    chart: CommandLine, odd: OddServer, tmp_path: Path
) -> None:
    (tmp_path / "filter").write_text("filename:~Meier\n")
    odd.answers[ALL] = Reply(body={"patient_attachments": [], "total_entries": 0})
    assert chart.rows(*of("list", "--all", "--filter", f"@{tmp_path / 'filter'}")) == []
    assert odd.requests[0].query["q[]"] == ["filename:~Meier"]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--all", "--patient", "4711"),
        ("--all", "--filter", "nothing:=1"),
        ("--all", "--sort", "sideways"),
        ("--all", "--per-page", "1000"),
        ("--all", "--case", "5"),
        ("--all", "--limit", "0"),
    ],
)
def test_a_list_that_cannot_be_asked_for_is_wrong_usage_and_nothing_is_asked(
    chart: CommandLine, odd: OddServer, arguments: tuple[str, ...]
) -> None:
    assert chart(*of("list", *arguments)).exit_code == 2
    assert odd.requests == []


def test_a_limit_ends_the_reading_of_pages(chart: CommandLine, odd: OddServer) -> None:
    def page(request: Request) -> Reply:
        first = int(request.query["page"][0]) * 100
        rows = [RECORD | {"id": str(number)} for number in range(first, first + 100)]
        return Reply(body={"patient_attachments": rows, "total_entries": 100_000, "links": {}})

    odd.answers[ALL] = page
    assert len(chart.rows(*of("list", "--all", "--limit", "120"))) == 120
    assert len(odd.requests) == 2
    assert len(chart.rows(*of("list", "--all", "--page", "9", "--per-page", "100"))) == 100
    assert odd.requests[-1].query["page"] == ["9"]
    assert len(odd.requests) == 3


def test_what_came_before_a_list_broke_off_is_printed(chart: CommandLine, odd: OddServer) -> None:
    odd.answers[ALL] = Reply(body={"patient_attachments": [RECORD], "total_entries": 2, "links": {}})
    result = chart(*of("list", "--all", "--json"))
    assert (result.exit_code, [row["id"] for row in lines(result)]) == (1, ["7"])
    assert "fewer records than it announced" in result.stderr


def test_at_a_terminal_a_table_says_whether_there_is_more(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    rows = [
        ChartRecord(id=str(number), file_name="[bold]a.pdf", created_at="2026-11-21T10:00:00Z").fields()
        for number in range(3)
    ]
    print_records(rows, 2)
    printed, said = capsys.readouterr()
    assert [line.split()[0] for line in printed.splitlines()] == ["id", "0", "1"]
    assert "2026-11-21 10:00" in printed
    assert "[bold]a.pdf" in printed
    assert "--limit N" in said
    print_records([], 2)
    assert "No record fits." in capsys.readouterr().err


# --- downloads -------------------------------------------------------------------------------------------------------


@pytest.fixture
def with_file(chart: CommandLine, odd: OddServer) -> CommandLine:
    """Record 7 has a file."""
    odd.answers[f"GET {ONE}"] = Reply(body=RECORD | {"size": len(CONTENT)})
    address = f"{odd.base}/files/referral.pdf?X-Amz-Signature=secret"
    odd.answers[f"GET {ONE}/content"] = Reply(302, headers={"Location": address})
    odd.answers[FILE] = Reply(200, CONTENT, S3)
    return chart


def test_a_file_is_saved_for_its_owner_alone_with_size_and_hash_printed(with_file: CommandLine, tmp_path: Path) -> None:
    out = tmp_path / "saved.pdf"
    result = with_file(*of("download", "7", "--out", str(out), "--json"))
    assert result.exit_code == 0, result.output
    assert lines(result) == [
        {
            "id": "7",
            "path": str(out),
            "size_bytes": len(CONTENT),
            "sha256": hashlib.sha256(CONTENT.encode()).hexdigest(),
            "etag_verified": True,
        }
    ]
    assert out.read_text() == CONTENT
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir() if "saved" in path.name] == ["saved.pdf"]
    assert "X-Amz" not in result.output


def test_a_file_that_is_there_stays_unless_it_is_to_be_replaced(
    with_file: CommandLine, odd: OddServer, tmp_path: Path
) -> None:
    out = tmp_path / "saved.pdf"
    out.write_text("mine")
    result = with_file(*of("download", "7", "--out", str(out)))
    assert (result.exit_code, out.read_text(), odd.requests) == (2, "mine", [])
    assert "--force" in result.stderr
    assert with_file(*of("download", "7", "--out", str(out), "--force")).exit_code == 0
    assert out.read_text() == CONTENT
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_a_symlink_is_replaced_and_not_written_through(with_file: CommandLine, tmp_path: Path) -> None:
    target, out = tmp_path / "target", tmp_path / "saved.pdf"
    target.write_text("mine")
    out.symlink_to(target)
    assert with_file(*of("download", "7", "--out", str(out))).exit_code == 2
    assert with_file(*of("download", "7", "--out", str(out), "--force")).exit_code == 0
    assert (target.read_text(), out.is_symlink(), out.read_text()) == ("mine", False, CONTENT)


def test_a_file_that_another_program_makes_meanwhile_stays(
    with_file: CommandLine, odd: OddServer, tmp_path: Path
) -> None:
    out = tmp_path / "saved.pdf"

    def answer(_: Request) -> Reply:
        out.write_text("mine")
        return Reply(200, CONTENT, S3)

    odd.answers[FILE] = answer
    result = with_file(*of("download", "7", "--out", str(out)))
    assert (result.exit_code, out.read_text()) == (1, "mine")
    assert "another program" in result.stderr


@pytest.mark.parametrize("unnamed", [True, False])
@pytest.mark.parametrize(
    ("file", "says"),
    [
        (Reply(200, CONTENT + "!", S3), "more than|bytes"),
        (Reply(200, CONTENT[:5], {**S3, "Content-Length": str(len(CONTENT)), "Connection": "close"}), "broke off"),
        (Reply(403, "<Error/>", S3), "403"),
        (Reply(0), "No answer"),
    ],
)
def test_a_download_that_fails_leaves_nothing(
    with_file: CommandLine,
    odd: OddServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    file: Reply,
    says: str,
    unnamed: bool,
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    if not unnamed:
        monkeypatch.setattr(os, "O_TMPFILE", os.O_DIRECTORY, raising=False)  # as where the file system has none
    odd.answers[FILE] = file
    result = with_file(*of("download", "7", "--out", str(folder / "saved.pdf")))
    assert result.exit_code == 1
    assert re.search(says, result.stderr)
    assert list(folder.iterdir()) == []
    assert "X-Amz" not in result.output


def test_where_files_without_names_are_unknown_a_file_is_saved_all_the_same(
    with_file: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "O_TMPFILE", os.O_DIRECTORY, raising=False)
    folder = tmp_path / "out"
    folder.mkdir()
    out = folder / "saved.pdf"
    assert with_file(*of("download", "7", "--out", str(out))).exit_code == 0
    assert (out.read_text(), list(folder.iterdir())) == (CONTENT, [out])
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_a_file_has_no_name_while_it_is_being_written(with_file: CommandLine, odd: OddServer, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    seen: list[list[str]] = []

    def answer(_: Request) -> Reply:
        seen.append([path.name for path in folder.iterdir() if not path.name.endswith(".part")])
        return Reply(200, CONTENT, S3)

    odd.answers[FILE] = answer
    assert with_file(*of("download", "7", "--out", str(folder / "saved.pdf"))).exit_code == 0
    assert seen == [[]]


def test_a_file_larger_than_was_allowed_is_not_saved(with_file: CommandLine, odd: OddServer, tmp_path: Path) -> None:
    out = tmp_path / "saved.pdf"
    result = with_file(*of("download", "7", "--out", str(out), "--max-bytes", "5"))
    assert (result.exit_code, out.exists()) == (1, False)
    assert "--max-bytes" in result.stderr
    assert f"GET {ONE}/content" not in odd.paths()


def test_a_folder_that_is_not_there_is_wrong_usage(with_file: CommandLine, odd: OddServer, tmp_path: Path) -> None:
    assert with_file(*of("download", "7", "--out", str(tmp_path / "no" / "saved.pdf"))).exit_code == 2
    assert odd.requests == []


# --- deleting and renaming, at Ovok ----------------------------------------------------------------------------------


@pytest.fixture
def practice(chart: CommandLine, odd: OddServer) -> OddServer:
    odd.answers |= {
        "POST /v2/auth/login": Reply(body={"accessToken": "t", "refreshToken": "r", "expiresIn": 3600}),
        "GET /document": Reply(body={"resources": [{"id": "d-1", "fileName": "scan.pdf"}], "total": 1}),
        "GET /document/d-1": Reply(307, headers={"Location": f"{odd.base}/files/d-1"}),
        "GET /files/d-1": Reply(206, "w", {"Content-Range": "bytes 0-0/19"}),
        "DELETE /document/d-1": Reply(body={"message": "Document deleted successfully"}),
        "PATCH /document/d-1": Reply(body={"id": "d-1", "fileName": "new.pdf"}),
    }
    return odd


def test_nothing_is_deleted_before_somebody_has_said_yes(
    chart: CommandLine, practice: OddServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete = ("records", "delete", "d-1", "--account", "practice")
    result = chart(*delete)
    assert (result.exit_code, "--yes" in result.stderr, practice.requests) == (2, True, [])
    monkeypatch.setattr("worker.cli.commands.records.command.is_answered", lambda: True)
    refused = chart(*delete, stdin="n\n")
    assert refused.exit_code == 1
    assert "scan.pdf" in refused.stdout
    assert "DELETE /document/d-1" not in practice.paths()
    assert chart(*delete, stdin="y\n").stdout.endswith("d-1: deleted\n")
    assert "DELETE /document/d-1" in practice.paths()


def test_a_program_deletes_without_being_asked(chart: CommandLine, practice: OddServer) -> None:
    result = chart("records", "delete", "d-1", "--account", "practice", "--yes")
    assert (result.exit_code, result.stdout) == (0, "d-1: deleted\n")
    assert practice.paths() == ["POST /v2/auth/login", "DELETE /document/d-1"]


def test_a_file_gets_another_name_from_a_file(chart: CommandLine, practice: OddServer, tmp_path: Path) -> None:
    (tmp_path / "name").write_text("new.pdf\n")
    result = chart("records", "rename", "d-1", f"@{tmp_path / 'name'}", "--account", "practice")
    assert (result.exit_code, result.stdout) == (0, "d-1: renamed\n")
    assert practice.requests[-1].body == b'{"fileName":"new.pdf"}'
