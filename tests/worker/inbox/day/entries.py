"""Everything that lies in the inbox after a day, with its verdict.

North has a folder for each patient; south's patients stand in the names of files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import count
from typing import Literal

from tasks.model.errors import Code
from worker.inbox.filter import Reason

NORTH, SOUTH, OVOK = "north_clinic", "south_clinic", "ovok_clinic"  # Ovok needs no patient
PATTERN = ("{patient_id}-{date}-{name}", "{patient_id}_{name}")
IGNORE = ("*.bak", "_old")
Kind = Literal["file", "folder", "link", "pipe", "growing", "unreadable", "unwritable"]


class Verdict(StrEnum):
    """What becomes of a file or folder."""

    SENT = "sent"
    FAILED = "failed"  # it lies in failed/ with its reason
    WAITS = "waits"  # and `check` says no, and what to do
    QUIET = "left"  # and `check` says yes: it belongs to such an inbox


@dataclass(frozen=True)
class Entry:
    """`group` is who made it. Sent: `patient_id` and `name` are those in the chart. Unwritable: its folder is."""

    group: str
    place: str
    verdict: Verdict
    reason: Reason | Code | None = None
    kind: Kind = "file"
    content: bytes | None = None  # else a whole file of its name's type
    patient_id: str | None = None
    name: str = ""

    @property
    def account(self) -> str:
        """Its account; empty for what lies outside the accounts' folders."""
        account = self.place.partition("/")[0]
        return account if account in (NORTH, SOUTH, OVOK) and self.place != account else ""


def entries() -> list[Entry]:
    """Two hundred odd files and folders."""
    return [
        *_scans(),
        *_names_with_patients(),
        *_sidecars(),
        *_nas(),
        *_windows_and_macs(),
        *_downloads(),
        *_synchronising(),
        *_odd_places(),
        *_rights(),
        *_cannot_be_sent(),
    ]


def sent(group: str, folder: str, *names: str) -> Iterator[Entry]:
    """Documents that arrive under their own names, in a patient's folder."""
    for name in names:
        yield Entry(group, f"{folder}/{name}", Verdict.SENT, patient_id=folder.rpartition("/")[2], name=name)


def left(group: str, verdict: Verdict, reason: Reason, folder: str, *names: str) -> Iterator[Entry]:
    for name in names:
        yield Entry(group, f"{folder}/{name}".removeprefix("/"), verdict, reason)


def _scans() -> Iterator[Entry]:
    group = "documents"
    for number in range(20):
        yield from sent(group, f"{NORTH}/p{number % 5}", f"scan {number:03}.pdf")
    yield from sent(
        group,
        f"{NORTH}/p-names",
        *("Überweisung Größe.pdf", "naïve café ☕.pdf", "日本語.pdf", "it's quoted.pdf", 'say "ah".pdf', "no-suffix"),
        *("dots...pdf", "UPPER.PDF", "100%25.pdf", "a+b&c=d.pdf", "semi;colon.pdf", "letter 12:30.pdf"),
        *("#4711 letter.pdf", "@home visit.pdf", "$5 receipt.pdf", "Thumbs.db.pdf", "scan.tmp.pdf", "part.pdf", "tmp"),
        *("Conflict in the family.pdf", "report.part2.pdf", "archive.tar.gz", "photo.jpg", "fax.tif", "note.txt"),
        *("x" * 200 + ".pdf", "metabolism.json", "Copy of letter.pdf", "letter (1).pdf", "letter - Copy.pdf"),
    )
    yield Entry(group, f"{OVOK}/without a patient.pdf", Verdict.SENT, name="without a patient.pdf")


def _names_with_patients() -> Iterator[Entry]:
    group = "names that tell the patient"
    for place, patient_id, name in (
        ("4711_letter.pdf", "4711", "letter.pdf"),
        ("4712_letter_2.pdf", "4712", "letter_2.pdf"),
        ("4713-20260131-lab.pdf", "4713", "lab.pdf"),
        ("A-12-2026-01-31-lab-2.pdf", "A-12", "lab-2.pdf"),
        ("4714_Überweisung 3.PDF", "4714", "Überweisung 3.PDF"),
        ("4715/4715_again.pdf", "4715", "again.pdf"),  # as it came back from failed/
        ("4716/4715_other.pdf", "4716", "4715_other.pdf"),  # the folder says whose it is
    ):
        yield Entry(group, f"{SOUTH}/{place}", Verdict.SENT, patient_id=patient_id, name=name)
    for place in ("letter.pdf", "_letter.pdf", "Müller_letter.pdf", "4711-20261331-lab.pdf"):
        yield Entry(group, f"{SOUTH}/{place}", Verdict.FAILED, Code.PATIENT_REQUIRED)
    two_dates = "4711-20260131-20260201-lab.pdf"
    yield Entry(group, f"{SOUTH}/{two_dates}", Verdict.FAILED, Code.INVALID_REQUEST)


WRONG_SIDECARS = (
    *("{stem}.meta.json", "{document}.META.JSON", "{document}.meta.json.txt", "{document}.meta (1).json"),
    *("{document} .meta.json", "{document}.meta - Copy.json", "Copy of {document}.meta.json", "{document}.meta"),
    *("{document}.metadata.json", "{stem}.PDF.meta.json", "{document}.meta.json.json", "{document}_meta.json"),
)


def _sidecars() -> Iterator[Entry]:
    group, folder, number = "sidecars", f"{NORTH}/p-sidecars", count()
    for encoding, bom in (("utf-8", ""), ("utf-8", "\ufeff")):
        document = f"right {next(number)}.pdf"
        name = f"Given {document}"
        yield Entry(group, f"{folder}/{document}", Verdict.SENT, patient_id="p-sidecars", name=name)
        yield sidecar_of(f"{folder}/{document}", f'{bom}{{"file_name": "{name}"}}'.encode(encoding), Verdict.SENT)
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "cp1252"):
        document = f"encoded {next(number)}.pdf"
        yield Entry(group, f"{folder}/{document}", Verdict.FAILED, Code.INVALID_REQUEST)
        content = '{"description": "Überweisung"}'.encode(encoding)
        yield sidecar_of(f"{folder}/{document}", content, Verdict.FAILED)
    document = f"faulty {next(number)}.pdf"
    yield Entry(group, f"{folder}/{document}", Verdict.FAILED, Code.INVALID_REQUEST)
    yield sidecar_of(f"{folder}/{document}", b'{"descripton": "a misspelt field"}', Verdict.FAILED)
    for wrong in WRONG_SIDECARS:
        stem = f"letter {next(number)}"
        document = f"{stem}.pdf"
        yield Entry(group, f"{folder}/{document}", Verdict.WAITS, Reason.SIDECAR_IN_DOUBT)
        name = wrong.format(stem=stem, document=document)
        yield Entry(group, f"{folder}/{name}", Verdict.WAITS, Reason.SIDECAR_MISNAMED, content=b"{}")
    for document in ("several.pdf", "several.tif", "several.docx"):
        yield Entry(group, f"{folder}/{document}", Verdict.WAITS, Reason.SIDECAR_IN_DOUBT)
    yield Entry(group, f"{folder}/several.meta.json", Verdict.WAITS, Reason.SIDECAR_MISNAMED, content=b"{}")
    for document in ("never came.pdf", "never came either"):
        place = f"{folder}/{document}.meta.json"
        yield Entry(group, place, Verdict.WAITS, Reason.SIDECAR_ALONE, content=b"{}")
    yield from left(group, Verdict.QUIET, Reason.UNFINISHED, folder, "half.pdf.meta.json.part")
    yield from left(group, Verdict.WAITS, Reason.SIDECAR_IN_DOUBT, folder, "half.pdf")


def sidecar_of(document: str, content: bytes, verdict: Verdict) -> Entry:
    """A right sidecar: it goes where its document goes."""
    return Entry("sidecars", f"{document}.meta.json", verdict, content=content)


def _nas() -> Iterator[Entry]:
    group = "NAS and file servers"
    for folder in (
        *("@eaDir", "@Recycle", "#recycle", "#snapshot", "@tmp", "@Recently-Snapshot", "lost+found", "trashbox"),
        *("Network Recycle Bin 1", ".snapshot", ".stversions", ".stfolder", ".AppleDouble", "~snapshot", ".sync"),
    ):
        reason = Reason.HIDDEN if folder.startswith((".", "~")) else Reason.SYSTEM_FILE
        for parent in ("", f"{NORTH}/", f"{NORTH}/p-nas/"):
            yield Entry(group, f"{parent}{folder}", Verdict.QUIET, reason, "folder")
    hidden = (
        ".letter.pdf.Xy12Zw",
        ".fuse_hidden0001",
        ".nfs0000001",
        ".smbdelete1",
        ".~lock.letter.odt#",
        "._letter.pdf",
    )
    yield from left(group, Verdict.QUIET, Reason.HIDDEN, f"{NORTH}/p-nas", *hidden, ".goutputstream-AB12")
    yield from left(group, Verdict.QUIET, Reason.IGNORED_BY_SETTINGS, f"{NORTH}/p-nas", "letter.bak", "LETTER.BAK")
    yield Entry(group, f"{NORTH}/_OLD", Verdict.QUIET, Reason.IGNORED_BY_SETTINGS, "folder")


def _windows_and_macs() -> Iterator[Entry]:
    group = "Windows and macOS"
    for folder in ("System Volume Information", "$RECYCLE.BIN", "RECYCLER", "__MACOSX", "Network Trash Folder"):
        for parent in ("", f"{NORTH}/"):
            yield Entry(group, f"{parent}{folder}", Verdict.QUIET, Reason.SYSTEM_FILE, "folder")
    system = ("Thumbs.db", "THUMBS.DB", "ehthumbs.db", "desktop.ini", "Desktop.ini:Zone.Identifier", "Icon\r")
    yield from left(group, Verdict.QUIET, Reason.SYSTEM_FILE, f"{NORTH}/p-desktop", *system)
    streams = ("Thumbs.db:encryptable", "letter.pdf:Zone.Identifier", "letter.pdf:com.dropbox.attributes")
    yield from left(group, Verdict.QUIET, Reason.SYSTEM_FILE, f"{NORTH}/p-desktop", *streams)
    yield from left(
        group, Verdict.QUIET, Reason.HIDDEN, f"{NORTH}/p-desktop", "~$letter.docx", "~WRL0001.tmp", ".DS_Store"
    )
    shortcuts = (
        "letter.pdf - Shortcut.lnk",
        "Laboratory.url",
        "Laboratory.webloc",
        "letter.gdoc",
        "letter.pdf.nextcloud",
    )
    yield from left(group, Verdict.WAITS, Reason.SHORTCUT, f"{NORTH}/p-desktop", *shortcuts)


def _downloads() -> Iterator[Entry]:
    group = "unfinished, locks and backups"
    endings = (
        *(
            ".part",
            ".tmp",
            ".TMP",
            ".crdownload",
            ".filepart",
            ".partial",
            ".download",
            ".!sync",
            ".!ut",
            ".opdownload",
        ),
        *(".inprogress", ".uploading", ".swp", ".lck", ".aria2", ".bts", ".unconfirmed", ".sb-1f2e3d4c-AbCdEf", "~"),
    )
    for ending in endings:
        yield from left(group, Verdict.QUIET, Reason.UNFINISHED, f"{NORTH}/p-downloads", f"letter.pdf{ending}")
    yield from left(group, Verdict.QUIET, Reason.UNFINISHED, f"{NORTH}/p-downloads", "#letter.txt#", "scan.tmp1")
    yield from sent(group, f"{NORTH}/p-downloads", "letter.pdf")
    yield Entry(group, f"{NORTH}/p-downloads/endless.txt", Verdict.WAITS, Reason.STILL_CHANGING, "growing")


def _synchronising() -> Iterator[Entry]:
    group = "versions in conflict"
    names = (
        "letter.sync-conflict-20260131-120000-ABCDEFG.pdf",
        "letter (Anna's conflicted copy 2026-01-31).pdf",
        "letter (conflicted copy 2026-01-31 120000).pdf",
        "letter (In Konflikt stehende Kopie von Anna 2026-01-31).pdf",
        "letter (copie en conflit de Anna 2026-01-31).pdf",
        "letter (SFConflict anna@clinic.example 2026-01-31-12-30-00).pdf",
        "letter_Desk-PC_Jan-31-0901-2026_CaseConflict_1.pdf",
        "letter_conflict-20260131-120000.pdf",
        "letter.Conflict.pdf",
        "letter(Conflict_anna (Web browser)_2026-01-31-22-50-36).pdf",
    )
    yield from left(group, Verdict.WAITS, Reason.SYNC_CONFLICT, f"{NORTH}/p-sync", *names)
    yield Entry(group, f"{NORTH}/4711 (conflicted copy 2026-01-31)", Verdict.WAITS, Reason.SYNC_CONFLICT, "folder")
    yield from sent(group, f"{NORTH}/p-sync", "letter.pdf")


def _odd_places() -> Iterator[Entry]:
    group = "odd places and kinds"
    yield from left(group, Verdict.WAITS, Reason.NO_ACCOUNT, "", "letter.pdf", "north_clinic.pdf", "4711_letter.pdf")
    for folder in ("east_clinic", "North_Clinic", "north clinic", "4711"):
        yield Entry(group, folder, Verdict.WAITS, Reason.UNKNOWN_ACCOUNT, "folder")
    yield Entry(group, f"{NORTH}/p-places/letters", Verdict.WAITS, Reason.TOO_DEEP, "folder")
    yield Entry(group, f"{NORTH}/p-places/link.pdf", Verdict.WAITS, Reason.NOT_A_REGULAR_FILE, "link")
    yield Entry(group, f"{NORTH}/p-places/pipe.pdf", Verdict.WAITS, Reason.NOT_A_REGULAR_FILE, "pipe")
    yield from left(group, Verdict.QUIET, Reason.OUTCOME_FILE, f"{NORTH}/p-places", "letter.pdf.error.json")
    yield from left(group, Verdict.QUIET, Reason.OUTCOME_FILE, f"{NORTH}/p-places", "old.pdf.receipt.json")
    yield from sent(group, f"{NORTH}/p-places", "letter.pdf")


def _rights() -> Iterator[Entry]:
    group = "rights"
    yield Entry(group, f"{NORTH}/p-theirs/a.pdf", Verdict.WAITS, Reason.FOLDER_NOT_WRITABLE, "unwritable")
    yield Entry(group, f"{NORTH}/p-theirs/b.pdf", Verdict.WAITS, Reason.FOLDER_NOT_WRITABLE, "unwritable")
    yield Entry(group, f"{NORTH}/p-secret/a.pdf", Verdict.WAITS, Reason.UNREADABLE, "unreadable")
    yield from sent(group, f"{NORTH}/p-secret", "b.pdf")


def _cannot_be_sent() -> Iterator[Entry]:
    group = "what cannot be sent"
    yield Entry(group, f"{NORTH}/p-faults/empty.pdf", Verdict.FAILED, Code.FILE_EMPTY, content=b"")
    yield Entry(group, f"{NORTH}/without a patient.pdf", Verdict.FAILED, Code.PATIENT_REQUIRED)
    yield Entry(group, f"{NORTH}/Müller, Hans/letter.pdf", Verdict.FAILED, Code.INVALID_REQUEST)
    yield Entry(group, f"{NORTH}/p-faults/M\udcfcller.pdf", Verdict.FAILED, Code.INVALID_REQUEST)
    yield Entry(group, f"{NORTH}/p-faults/back\\slash.pdf", Verdict.FAILED, Code.INVALID_REQUEST)
