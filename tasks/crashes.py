"""What may be said of an error that nobody foresaw."""

from __future__ import annotations


def crash_site(error: BaseException) -> dict[str, str]:
    """The class of an exception and where it was raised, without its words, which may name the patient."""
    last = error.__traceback__
    while last and last.tb_next:
        last = last.tb_next
    place = f"{last.tb_frame.f_code.co_filename}:{last.tb_lineno}" if last else ""
    return {"error": type(error).__name__, "place": place}
