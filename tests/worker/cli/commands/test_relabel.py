"""`relabel` opens a job for the new labels; wrong usage opens none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.model.document import Door, Label, LabelCoding
from tasks.model.route import Stage, Step
from tests.worker.cli.conftest import SETTINGS, CommandLine
from tests.worker.cli.jobs import Jobs

NORMAL = "urn:oid:2.16.840.1.113883.5.25|N|Normal"
BLOCKED = "urn:oid:2.16.578.1.12.4.1.1.9603|NORS|Sperret"
HOSPITAL = """
[accounts.hospital]
provider = "nhn"
base_url = "http://127.0.0.1:1/R4/fhir"
issuer = "http://127.0.0.1:1/helseid"
insecure = true
client_id = "c"
key_id = "k"
private_key = '''{key}'''
source_system = "EPJ 1.0"
home_community_id = "2.999"
organization = {{ child = "200000002" }}
"""


@pytest.fixture
def config(tmp_path: Path, valkey_url: str, private_key: str) -> Path:
    (tmp_path / "documents").mkdir()
    path = tmp_path / "chartpost.toml"
    path.write_text(SETTINGS.format(folder=tmp_path, url=valkey_url) + HOSPITAL.format(key=private_key))
    return path


def relabel(chartpost: CommandLine, *arguments: str, account: str = "hospital") -> tuple[int, str]:
    result = chartpost("relabel", "--account", account, "--document", "doc-1", *arguments)
    return result.exit_code, result.output


def test_the_whole_new_list_becomes_a_job(chartpost: CommandLine, jobs: Jobs) -> None:
    code, output = relabel(chartpost, "--label", NORMAL, "--label", BLOCKED, "--payload", "json-patch")
    assert code == 0, output
    job = jobs.get(output.split()[0])
    assert (job.stage, job.step, job.document.door) == (Stage.RECEIVED, Step.REGISTER, Door.COMMAND)
    relabeling = job.document.relabeling
    assert relabeling is not None
    assert (relabeling.document_id, relabeling.payload) == ("doc-1", "json-patch")
    assert relabeling.labels == (
        Label("urn:oid:2.16.840.1.113883.5.25", "N", "Normal"),
        Label("urn:oid:2.16.578.1.12.4.1.1.9603", "NORS", "Sperret"),
    )
    (row,) = chartpost.rows("jobs")
    assert (row["provider"], row["file_name"], row["size_bytes"], row["patient_id"]) == ("nhn", None, None, None)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--label", "N"],
        ["--label", "|N"],
        ["--label", "system|"],
        ["--label", "a|b|c|d"],
        ["--label", f"{BLOCKED}||"],
        ["--label", f"{BLOCKED}||a"],
        ["--label", f"{BLOCKED}|||a|b"],
        ["--label", BLOCKED, "--payload", "xml"],
    ],
)
def test_a_malformed_label_is_wrong_usage(chartpost: CommandLine, jobs: Jobs, arguments: list[str]) -> None:
    code, output = relabel(chartpost, *arguments)
    assert code == 2, output
    assert chartpost.rows("jobs") == []


@pytest.mark.parametrize("label", [NORMAL, "urn:oid:2.999|NORS"])
def test_a_list_that_would_unblock_the_document_must_be_allowed(chartpost: CommandLine, jobs: Jobs, label: str) -> None:
    code, output = relabel(chartpost, "--label", label)
    assert code == 2
    assert "NORS" in output
    assert "--allow-unblock" in output
    assert chartpost.rows("jobs") == []
    code, output = relabel(chartpost, "--label", label, "--allow-unblock")
    assert code == 0, output


def test_a_label_may_have_further_codings_and_a_bare_oid_is_its_uri(chartpost: CommandLine, jobs: Jobs) -> None:
    blocked = BLOCKED.removeprefix("urn:oid:")
    for given in (f"2.999|a||urn:oid:2.998|b|B||{blocked}", f"{blocked}||2.999|a||2.998|b|B"):
        code, output = relabel(chartpost, "--label", given)
        assert code == 0, output  # any of a label's codings may be the one that blocks
        relabeling = jobs.get(output.split()[0]).document.relabeling
        assert relabeling is not None
        (label,) = relabeling.labels
        assert set(label.codings) == {
            LabelCoding("urn:oid:2.999", "a"),
            LabelCoding("urn:oid:2.998", "b", "B"),
            LabelCoding("urn:oid:2.16.578.1.12.4.1.1.9603", "NORS", "Sperret"),
        }
        assert len(label.further) == 2


def test_an_account_without_labels_or_without_settings_is_wrong_usage(chartpost: CommandLine, jobs: Jobs) -> None:
    for account, words in (("north_clinic", "no labels"), ("nobody", "the settings know")):
        code, output = relabel(chartpost, "--label", BLOCKED, account=account)
        assert code == 2
        assert words in " ".join(output.split())
    assert chartpost.rows("jobs") == []


def test_a_document_id_may_come_from_a_file(chartpost: CommandLine, jobs: Jobs, tmp_path: Path) -> None:
    (tmp_path / "id").write_text("doc-2\n")
    result = chartpost("relabel", "--account", "hospital", "--document", f"@{tmp_path / 'id'}", "--label", BLOCKED)
    relabeling = jobs.get(result.output.split()[0]).document.relabeling
    assert relabeling is not None
    assert relabeling.document_id == "doc-2"


def test_a_relabeling_that_failed_can_be_retried_and_one_that_waits_cancelled(
    chartpost: CommandLine, jobs: Jobs
) -> None:
    _, output = relabel(chartpost, "--label", BLOCKED)
    job_id = output.split()[0]
    assert chartpost("cancel", job_id).exit_code == 0
    assert jobs.get(job_id).stage is Stage.CANCELLED
    assert chartpost("retry", job_id).exit_code == 0
    again = jobs.get(job_id)
    assert (again.stage, again.step) == (Stage.RECEIVED, Step.REGISTER)
