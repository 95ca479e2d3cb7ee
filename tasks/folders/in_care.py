"""Documents in processing/, found by their jobs' ids: wherever `data_dir` lies, and whatever address a job names."""

from __future__ import annotations

from tasks.folders.layout import Folders
from tasks.sources.base import Located, changed, empty, missing
from tasks.sources.files import OpenFile, open_place


class DocumentsInCare:
    """Every method raises DocumentRefused and RetryLater."""

    def __init__(self, folders: Folders) -> None:
        self._folders = folders

    def locate(self, job_id: str) -> Located:
        with self._open(job_id) as file:
            if not file.size:
                raise empty()
            return Located(file.size, file.identity, file.path.rpartition("/")[2])

    def open(self, job_id: str, identity: str) -> OpenFile:
        file = self._open(job_id)
        if file.identity != identity:
            with file:
                raise changed()
        return file

    def parts(self, job_id: str, identity: str) -> OpenFile:
        return self.open(job_id, identity)

    def _open(self, job_id: str) -> OpenFile:
        path = self._folders.document(job_id)
        if path is None:
            raise missing()
        return open_place(path.absolute())
