"""Redox: a file goes as a message to the hospital that is connected, small ones in it, larger ones uploaded before.

Vendor pages: https://docs.redoxengine.com/permalink/3GhpEsXocZLwS50DXzyQaR/ ("Send a file via the Redox FHIR API"), and
https://developer.redoxengine.com/api-reference ("Quotas and constraints", "Error handling and responses"). A 200 says
that the message is durably queued; whether the hospital's system took it is shown in Redox's dashboard alone. There is
no search, so after an unknown outcome a person decides, or the same message goes again, as the account's settings say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from config.accounts import RedoxAccount
from tasks.http.addresses import check_handed_out
from tasks.http.api import Body
from tasks.http.commit_gate import NoCommit
from tasks.http.exchange import Answer
from tasks.model.document import Document
from tasks.model.errors import Code, DocumentRefused, OutcomeUnknown, RetryLater
from tasks.model.job import Assurance, Facts, Job, Record, Stored
from tasks.model.names import check_file_name
from tasks.model.route import OnUnknownOutcome, Route, Stage, Step
from tasks.providers.auth.bearer import BearerApi
from tasks.providers.base import DocumentGate, Found, Registered
from tasks.providers.checks import check_patient, check_size
from tasks.providers.connection import Connection
from tasks.providers.document_body import DocumentBody
from tasks.providers.redox.answers import (
    CREATE_STATUSES,
    NAME,
    UPLOAD_STATUSES,
    Accepted,
    accepted_as,
    check_probe,
    location_of,
)
from tasks.providers.redox.message import (
    CONTENT_TYPE,
    check_parts,
    document_identifier,
    embedding_message,
    referring_message,
)
from tasks.providers.redox.token_server import TokenServer

_FRESH = timedelta(minutes=10)
_EMBEDDED_REMARK = (
    "It was too large to be embedded (413), and was uploaded instead: lower this account's embed_below_bytes."
)
_REFUSED_AGAIN = "The answer to an earlier sending was lost, and Redox refuses the same message now."


class Redox:
    """One destination in one environment."""

    kind = "redox"
    stages: tuple[Stage, ...] = (Stage.STORED, Stage.REGISTERED)
    assurance = Assurance.ACCEPTED

    def __init__(self, name: str, account: RedoxAccount, connection: Connection) -> None:
        self.limit_group = account.limit_group
        self._account = account
        self._on_unknown_outcome = (
            OnUnknownOutcome.RESEND if account.on_unknown_outcome == "resend" else OnUnknownOutcome.HOLD
        )
        tokens = TokenServer(name, account, connection).tokens
        self._api = BearerApi(connection, account.base_url, provider=NAME, tokens=tokens)
        # An organization with several sources says which: https://docs.redoxengine.com/permalink/6JuW9m4kL8FiiSa6YE1gLY
        self._headers = {"Redox-Source-Id": account.source_id} if account.source_id else {}

    # --- before any call -------------------------------------------------------------------------------------

    def route(self, document: Document) -> Route:
        """Small documents travel in the message that registers them, larger ones are uploaded before."""
        if self._is_embedded(document):
            return Route(
                (Stage.REGISTERED,), Step.REGISTER, together=False, on_unknown_outcome=self._on_unknown_outcome
            )
        return Route(self.stages, Step.POST, together=False, on_unknown_outcome=self._on_unknown_outcome)

    def check(self, document: Document) -> None:
        """Patient, size, name, options, and what the message needs. Raises DocumentRefused."""
        check_patient(document, NAME)
        check_size(document, self._account.max_bytes)
        check_file_name(document.file_name)
        check_parts(document, self._account)

    def before_sending(self, job: Job) -> Facts:
        """Nothing to note: the message's ids follow from the job's."""
        return job.facts

    # --- sending ---------------------------------------------------------------------------------------------

    def store(self, job: Job, gate: DocumentGate) -> Stored:
        """Upload the document as a Binary. Repeating it harms nothing: a Binary that no message names is never used."""
        path = ("redox", self._account.environment, "Binary")  # "redox" itself stands where messages have a destination
        body = DocumentBody(job.document, gate)
        no_commit = NoCommit(gate)
        try:
            answer = self._api.send(
                lambda api: api.create("POST", *path, body=body.raw(), gate=no_commit, headers=self._headers)
            )
        except OutcomeUnknown as error:
            raise RetryLater(str(error), unreachable=error.unreachable) from error
        location = location_of(UPLOAD_STATUSES.success(answer))
        # The message will make the hospital's system fetch this address: it must be Redox's.
        check_handed_out(location, hosts=self._account.upload_hosts, insecure=self._account.insecure, provider=NAME)
        return body.stored(location, location)

    def register(self, job: Job, gate: DocumentGate) -> Registered:
        """Send the message. Raises OutcomeUnknown if Redox may have taken it."""
        stored = self._uploaded(job, gate)
        if stored is not None:
            return self._registered(job, stored, gate)
        body = DocumentBody(job.document, gate)
        message = body.in_json(CONTENT_TYPE, lambda data: embedding_message(job, self._account, data))
        answer = self._create(message, gate)
        if answer.status == 413:  # nothing was taken: it goes as larger documents do
            return self._registered(job, self.store(job, gate), gate, _EMBEDDED_REMARK)
        identifier, accepted = document_identifier(job), self._accepted(job, answer)
        stored = body.stored(identifier, identifier)
        return Registered(accepted.record, processed=True, stored=stored, remarks=accepted.remarks)

    # --- finding ---------------------------------------------------------------------------------------------

    def find(self, jobs: Sequence[Job], owners: Mapping[str, str], *, thorough: bool = False) -> Mapping[str, Found]:
        """Redox has no search."""
        return {}

    def still_there(self, document: Document, record: Record) -> bool:
        """Redox has no search: what it has accepted is taken to stand."""
        return True

    def probe(self) -> None:
        """Ask the destination what it can do, with a token that is given now.

        A remembered token would hide that the key is refused. Raises AccountBlocked also where there is no FHIR API, no
        such destination or no such environment.
        """
        path = (self._account.destination, self._account.environment, "metadata")
        headers = {"Accept": f"{CONTENT_TYPE}, application/json", **self._headers}
        check_probe(self._api.send_fresh(lambda api: api.call("GET", *path, headers=headers)))

    # --- private: uploads and messages -----------------------------------------------------------------------

    def _is_embedded(self, document: Document) -> bool:
        return document.size_bytes < self._account.embed_below_bytes

    def _uploaded(self, job: Job, gate: DocumentGate) -> Stored | None:
        """The upload that the message will name; None if the document travels in the message."""
        stored = job.facts.stored
        if stored is None:
            return None if self._is_embedded(job.document) else self.store(job, gate)
        # An upload may be good for one message only, and the pages do not say for how long. So it is made again for a
        # message that is sent again, or late.
        stored_at = job.times.get(Stage.STORED)
        # If it seems to be still to come, a clock is wrong, and its age is not known.
        late = stored_at is not None and abs(datetime.now(UTC) - stored_at) > _FRESH
        return self.store(job, gate) if job.uncertainty.perhaps_sent or late else stored

    def _registered(self, job: Job, stored: Stored, gate: DocumentGate, *remarks: str) -> Registered:
        message = referring_message(job, self._account, stored.location or "")
        accepted = self._accepted(job, self._create(Body.of(message, CONTENT_TYPE), gate))
        return Registered(accepted.record, processed=True, stored=stored, remarks=(*remarks, *accepted.remarks))

    def _create(self, body: Body, gate: DocumentGate) -> Answer:
        path = (self._account.destination, self._account.environment, "DocumentReference", "$documentreference-create")
        return self._api.send(
            lambda api: api.create(
                "POST",
                *path,
                body=body,
                gate=gate,
                headers={"Accept": f"{CONTENT_TYPE}, application/json", **self._headers},
                # A 502 is a request that was dropped; any other 5xx may have been taken:
                # https://developer.redoxengine.com/api-reference/error-handling-and-responses
                not_processed={502},
            )
        )

    def _accepted(self, job: Job, answer: Answer) -> Accepted:
        """As what Redox has accepted the message. Raises what the answer means otherwise."""
        try:
            return accepted_as(CREATE_STATUSES.success(answer), document_identifier(job), self._api.base_url)
        except DocumentRefused as refusal:
            if not job.uncertainty.perhaps_sent:
                raise
            # It may be refused because the earlier message has arrived.
            hint = "Look into Redox's log or the chart; then chartpost resolve, or retry with --send-again."
            raise DocumentRefused(Code.OUTCOME_UNKNOWN, _REFUSED_AGAIN, hint=hint, detail=refusal.detail) from None
