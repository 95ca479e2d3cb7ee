"""Decides which entries of the inbox are documents: by name, kind and depth, without reading any content.

Where the names of others come from: the exclude lists of Nextcloud's, OneDrive's and Synk's clients; the vendors' pages
on conflicts (Syncthing, Dropbox, Nextcloud, Seafile, Resilio, Synology Drive, FileCloud); the systems themselves.
"""

from __future__ import annotations

import re
import stat
import unicodedata
from collections.abc import Collection, Sequence
from enum import StrEnum
from fnmatch import translate

# Under these endings programs write a file before it gets its own name, or lock it. Compared without regard to case.
UNFINISHED = (
    # browsers, download managers and file transfer
    *(".part", ".partial", ".crdownload", ".download", ".opdownload", ".unconfirmed", ".filepart", ".ucdownload"),
    *(".aria2", ".!ut", ".!qb", ".!bt", ".!sync", ".bts", ".bc!", ".xltd", ".td", ".dctmp", ".fdmdownload", ".jc!"),
    # scanners, copiers, editors and file servers
    *(".tmp", ".temp", ".inprogress", ".uploading", ".copying", ".writing", ".incomplete", ".unfinished"),
    *(".swp", ".swo", ".swx", ".lck", ".lock", ".ffs_tmp", ".ffs_lock", ".davfs", "~"),
)
# macOS writes to `letter.pdf.sb-1f2e3d4c-AbCdEf` first, older scanners to `.tmp1`, Emacs to `#letter.txt#`.
_UNFINISHED_FORM = re.compile(r"#.+#|[^.].*\.(sb-[0-9a-f]{6,8}-[a-z0-9]{6}|tmp_?[0-9]{1,4})")

ERROR_FILE_ENDING = ".error.json"
_OUTCOME_FILES = (".receipt.json", ERROR_FILE_ENDING)

_SYSTEM_NAMES = frozenset(
    (
        # Windows
        *("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "autorun.inf", "folder.htt"),
        *("system volume information", "recycler", "recycled", "recycle bin", "msocache", "dfsrprivate"),
        # macOS, and netatalk, which serves Macs
        *("__macosx", "icon\r", "temporary items", "network trash folder", "thevolumesettingsfolder"),
        *("desktop db", "desktop df", "desktopfolderdb"),
        # Linux and its file servers
        *("lost+found", "aquota.user", "aquota.group", "quota.user", "quota.group", "trashbox", "_gsdata_"),
    )
)
_SYSTEM_FORM = re.compile(r"found\.[0-9]{3}|network recycle bin( [0-9]+)?|recycle bin - .+|_nas_recycle_.*")
# Synology's @eaDir, @tmp, #recycle and #snapshot, QNAP's @Recycle, Windows' $RECYCLE.BIN: only for folders. No
# provider's ids begin so, while people do begin the names of files with # or @.
_SYSTEM_FOLDER_MARKS = ("@", "#", "$")
# A stream that Windows keeps beside a file. On other systems it becomes a file, with U+F022 where : is not allowed.
_STREAM = re.compile(
    r"[^:\uf022]+[:\uf022](zone\.identifier|encryptable|smartscreen|favicon|afp_(afpinfo|resource)|com\.(apple|dropbox)\..+"
    r"|\$data|[^:]+:\$data)(:\$data)?|(thumbs\.db|desktop\.ini)[:\uf022].+"
)

# `letter.sync-conflict-20260101-120000-ABCDEFG.pdf` is Syncthing's, `letter_PC_Jan-03-0901-2026_CaseConflict_1.pdf`
# Synology Drive's, `letter_conflict-20260101-120000.pdf` ownCloud's, `letter.Conflict.pdf` Resilio's.
_CONFLICT = re.compile(
    r"\.sync-conflict-[0-9]{8}-[0-9]{6}"
    r"|_[a-z]{3}-[0-9]{2}-[0-9]{4,6}-[0-9]{4}_[a-z]*conflict"
    r"|_conflict-[0-9]{8}-[0-9]{6}"
    r"|\.conflict[0-9]*(\.|$)"
    # in brackets: Dropbox in several languages, Nextcloud, Seafile, FileCloud
    r"|[(\[][^()\[\]]*(conflicted copy|case conflict|sfconflict|conflict_|\bin konflikt stehende kopie|konfliktkopi"
    r"|copie en conflit|copia en conflicto|copia in conflitto|cópia em conflito|conflicterende kopie)"
)

# They only point at a document: shortcuts, links to web pages, and what clients put where a file is not loaded yet.
_SHORTCUTS = (
    *(".lnk", ".url", ".webloc", ".website", ".desktop", ".alias", ".gdoc", ".gsheet", ".gslides"),
    *(".nextcloud", ".owncloud"),
)


class Reason(StrEnum):
    """Why an entry is left in the inbox. The values stand in logs and metrics."""

    HIDDEN = "hidden"  # begins with . or ~: editors, Office lock files, and the senders that hide unfinished files
    UNFINISHED = "unfinished"  # named as unfinished downloads and locks are
    OUTCOME_FILE = "of_ours"  # a receipt, an error file or a note that was moved here together with its document
    SYSTEM_FILE = "of_the_system"  # Windows, macOS or a NAS puts it into every folder
    IGNORED_BY_SETTINGS = "in_the_settings"  # inbox.ignore names it
    SYNC_CONFLICT = "sync_conflict"  # a synchronising program's second version of a file
    SHORTCUT = "shortcut"  # it only points at a document
    NOT_A_REGULAR_FILE = "not_a_regular_file"
    TOO_DEEP = "too_deep"  # a folder in a patient's folder
    NO_ACCOUNT = "no_account"  # a file beside the accounts' folders
    UNKNOWN_ACCOUNT = "unknown_account"
    SIDECAR_ALONE = "sidecar_alone"  # no document of its name lies beside it
    SIDECAR_MISNAMED = "sidecar_misnamed"  # it is a sidecar, but its name is not <document>.meta.json
    SIDECAR_IN_DOUBT = "sidecar_in_doubt"  # a document beside which lies a sidecar that may be meant for it
    UNREADABLE = "unreadable"
    FOLDER_NOT_WRITABLE = "folder_not_writable"  # taking a file out of a folder needs the right to write to the folder
    HARD_LINK = "hard_link"  # it has another name, and here anyone may give one to a file that is not theirs
    FOLDER_STICKY = "folder_sticky"  # only its owner may take a file out of a folder with the sticky bit
    # --- what only trying or time shows ---
    STILL_CHANGING = "still_changing"
    OPEN_FOR_WRITING = "open_for_writing"  # another program has it open
    INCOMPLETE = "incomplete"  # its own format says that its end is missing
    EARLIER_TRY = "earlier_try"  # an earlier try of the same document is on its way
    NAME_TOO_LONG = "name_too_long"
    NOT_CLAIMED = "not_claimed"  # the system refused to move it; the log has the system's reason
    WAITING = "waiting"  # it can be taken, and was not yet: a backlog, an outage, or no watcher


EXPECTED = frozenset(
    (Reason.HIDDEN, Reason.UNFINISHED, Reason.OUTCOME_FILE, Reason.SYSTEM_FILE, Reason.IGNORED_BY_SETTINGS)
)
"""In every inbox that people and programs use. Behind each other reason a document may wait in vain."""

MOMENTARY = frozenset(
    (
        *(Reason.STILL_CHANGING, Reason.OPEN_FOR_WRITING, Reason.INCOMPLETE, Reason.EARLIER_TRY, Reason.WAITING),
        Reason.SIDECAR_ALONE,
        Reason.HARD_LINK,  # some programs move a file by a second name for it
    )
)
"""What every document may go through, one after the other, before it is taken: worth a word only after a minute."""


class InboxFilter:
    """One method for each level of the inbox. `mode` is `st_mode` of the entry itself, also where it is a link.

    `ignore` are the shell patterns of `inbox.ignore`.
    """

    def __init__(self, accounts: Collection[str], ignore: Sequence[str] = ()) -> None:
        self._accounts = frozenset(accounts)
        patterns = "|".join(translate(folded(pattern)) for pattern in ignore)
        self._ignored = re.compile(patterns) if patterns else None

    def why_ignored_in_inbox(self, name: str, mode: int) -> Reason | None:
        """For an entry of inbox/: None for an account's folder."""
        if not stat.S_ISDIR(mode):
            return self._why_file_ignored(name, mode) or Reason.NO_ACCOUNT
        if name in self._accounts:
            return None
        return self._why_folder_ignored(name) or Reason.UNKNOWN_ACCOUNT

    def why_ignored_in_account_folder(self, name: str, mode: int) -> Reason | None:
        """For an entry of inbox/<account>/: None for a patient's folder or a file."""
        return self._why_folder_ignored(name) if stat.S_ISDIR(mode) else self._why_file_ignored(name, mode)

    def why_ignored_in_patient_folder(self, name: str, mode: int) -> Reason | None:
        """For an entry of inbox/<account>/<patient id>/: None for a file."""
        if stat.S_ISDIR(mode):
            return self._why_folder_ignored(name) or Reason.TOO_DEEP
        return self._why_file_ignored(name, mode)

    def _why_folder_ignored(self, name: str) -> Reason | None:
        if name.startswith(_SYSTEM_FOLDER_MARKS):
            return Reason.SYSTEM_FILE
        return why_name_ignored(name) or self._why_settings_ignore(name)

    def _why_file_ignored(self, name: str, mode: int) -> Reason | None:
        # A link could point to a file outside the inbox, and a pipe would block the reader.
        irregular = None if stat.S_ISREG(mode) else Reason.NOT_A_REGULAR_FILE
        return why_name_ignored(name) or self._why_settings_ignore(name) or irregular

    def _why_settings_ignore(self, name: str) -> Reason | None:
        return Reason.IGNORED_BY_SETTINGS if self._ignored and self._ignored.match(folded(name)) else None


def why_name_ignored(name: str) -> Reason | None:
    """Why a file or folder of this name is left alone; None for a name that a document may have."""
    if name.startswith((".", "~")):
        return Reason.HIDDEN
    name = folded(name)
    # A conflict first: the second version of an unfinished file is no less a conflict, and is to be named.
    if "onfli" in name and _CONFLICT.search(name):  # in every form of it; most names need no regular expression
        return Reason.SYNC_CONFLICT
    if name.endswith(UNFINISHED) or _UNFINISHED_FORM.fullmatch(name):
        return Reason.UNFINISHED
    if name.endswith(_OUTCOME_FILES):
        return Reason.OUTCOME_FILE
    if name in _SYSTEM_NAMES or _SYSTEM_FORM.fullmatch(name) or _STREAM.fullmatch(name):
        return Reason.SYSTEM_FILE
    return Reason.SHORTCUT if name.endswith(_SHORTCUTS) else None


def folded(name: str) -> str:
    """The name for comparison: Windows and macOS ignore case, and compose the same letters differently."""
    return name.lower() if name.isascii() else unicodedata.normalize("NFC", name).casefold()
