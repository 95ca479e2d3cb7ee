"""The names of our keys in Redis. What type each has, `key_types.py` says; what it holds, stands here.

The scripts make the same names from the prefix, their first argument. `(scripts)` marks those that they alone use.
"""

from __future__ import annotations

from datetime import date

PREFIX = "chartpost:"

CLOSING_LANE = "~closing"  # ~ cannot begin an account's name, so no account's lane is called so
"""The lane of closing work. It belongs to no account, so an open circuit never stops it."""
CALLBACK_LANE = "~callbacks"
"""The lane of callbacks, with few slots: addresses that do not answer must hold up no other closing work."""
OWN_LANES = (CLOSING_LANE, CALLBACK_LANE)
"""The lanes that belong to no account."""

# --- the ledger ------------------------------------------------------------------------------------------------------

JOBS = PREFIX + "jobs"  # every job, by when it was opened
FINISHED = PREFIX + "finished"  # those that have ended, by when
ACCOUNTS = PREFIX + "accounts"  # every account that ever had a job
CLOSING_GIVEN_UP = PREFIX + "closing-given-up"  # jobs whose closing went on without one of its steps, by when
FAILURES = PREFIX + "failures"  # jobs whose failure may need a person's attention, by when they were closed
COMMITS = PREFIX + "commits"  # the number of the last commit (scripts)
EVENTS = PREFIX + "events"  # the stream of what has happened to documents, which other programs read (scripts)
TURN = PREFIX + "turn"  # the number of the last round of a feeder, by which lanes take turns (scripts)
CLOCK = PREFIX + "clock"  # the ledger's clock (`scripts/parts/clock.lua`)
RUN = PREFIX + "run"  # which run of Redis this is (`scripts/see_run.lua`)
RUN_REPORTED = PREFIX + "run:reported"  # the machines that have compared their commits with this run (scripts)
SEAL_CHECK = PREFIX + "seal-check"  # a digest under the secret key
SCHEMA = PREFIX + "schema"  # the number of the rows' form
SCHEMA_VERSION = PREFIX + "schema-version"  # the version that wrote that number
WRITE_TEST = PREFIX + "writable"  # set for a moment to find out whether Redis accepts writes


def counts(day: date) -> str:
    """How many documents ended on a day of UTC, and how (`reporting/roll_up.py`)."""
    return f"{PREFIX}counts:{day.isoformat()}"


def job(job_id: str) -> str:
    """A job's row."""
    return f"{PREFIX}job:{job_id}"


def sealed(part: str, job_id: str) -> str:
    """One of what is sealed of a job (`codec.SEALED_PARTS`)."""
    return f"{PREFIX}{part}:{job_id}"


def alias(call: str) -> str:
    """The job for which another id stands."""
    return f"{PREFIX}alias:{call}"


def aliases(job_id: str) -> str:
    """The ids of other calls whose result is this job's outcome."""
    return f"{PREFIX}aliases:{job_id}"


def name(digest: str) -> str:
    """The job that holds a document's name (`codec.name_key`)."""
    return f"{PREFIX}name:{digest}"


def name_queue(digest: str) -> str:
    """The jobs that wait for that name, the next one first (scripts)."""
    return f"{PREFIX}name-queue:{digest}"


def sent(digest: str) -> str:
    """What was delivered under a name (`codec.sent_key`): SHA-256 -> job id (scripts)."""
    return f"{PREFIX}sent:{digest}"


def idempotency(digest: str) -> str:
    """The job that an idempotency key (`codec.idempotency_key`) has opened, and what it asked for (scripts)."""
    return f"{PREFIX}idem:{digest}"


def waiting(patient: str) -> str:
    """The jobs of a patient that wait for a search, by the patient's HMAC (scripts)."""
    return f"{PREFIX}waiting:{patient}"


def record_owners(scope: str) -> str:
    """Which job each of the provider's records proves, for a patient or an account."""
    return f"{PREFIX}claims:{scope}"


def record_owners_since(scope: str) -> str:
    """Since when each of these records proves its job (scripts)."""
    return f"{PREFIX}claimed-at:{scope}"


def forgotten(job_id: str) -> str:
    """A commit that Redis had forgotten."""
    return f"{PREFIX}forgotten:{job_id}"


def due(lane: str, machine: str | None = None) -> str:
    """The due entries of a lane: those that any machine can work on, or those of one machine."""
    return f"{PREFIX}due:{lane}@{machine}" if machine else f"{PREFIX}due:{lane}"


def flying(lane: str) -> str:
    """The jobs of a lane that are in flight, by when their slots are free at the latest."""
    return f"{PREFIX}flying:{lane}"


def open_jobs(account_name: str) -> str:
    """The jobs of an account that have not ended, by when they were opened."""
    return f"{PREFIX}open:{account_name}"


def cached(digest: str) -> str:
    """A value of the providers' cache."""
    return f"{PREFIX}cached:{digest}"


def lock(digest: str) -> str:
    """A lock of the providers' cache."""
    return f"{PREFIX}turn:{digest}"


# --- accounts --------------------------------------------------------------------------------------------------------


def account(account_name: str) -> str:
    """An account's circuit breaker, when it answered last, and how long its last validations took."""
    return f"{PREFIX}account:{account_name}"


def remark(account_name: str) -> str:
    """A sentence about an account, for people."""
    return f"{PREFIX}remark:{account_name}"


def gate(limit_group: str) -> str:
    """Until when nothing is sent for a limit group."""
    return f"{PREFIX}gate:{limit_group}"


def gate_reason(limit_group: str) -> str:
    """Why, if there is more to say than that its limit is used up."""
    return f"{PREFIX}gate-reason:{limit_group}"


def calls_of(limit_group: str) -> str:
    """When a limit group's last requests were counted."""
    return f"{PREFIX}calls-of:{limit_group}"


# --- machines and processes ------------------------------------------------------------------------------------------

MACHINES = PREFIX + "machines"  # every machine that ever had a document in its care
WORKERS = PREFIX + "workers"  # the workers that have ever beaten
INBOXES = PREFIX + "inboxes"  # the machines that have told of their inboxes
PARTS = PREFIX + "parts"  # the processes that can be asked to reload
RELOAD = PREFIX + "reload"  # the number of the last request to reload


def machine(machine_name: str) -> str:
    """When and where a machine was last in use, and the mark of its folders."""
    return f"{PREFIX}machine:{machine_name}"


def watcher(machine_name: str) -> str:
    """There while a watcher runs on a machine."""
    return f"{PREFIX}watcher:{machine_name}"


def inbox(machine_name: str) -> str:
    """What a machine's inbox holds."""
    return f"{PREFIX}inbox:{machine_name}"


def left_to(machine_name: str) -> str:
    """The jobs whose files a machine must close."""
    return f"{PREFIX}home:{machine_name}"


def worker(worker_name: str) -> str:
    """A worker's slots, for as long as it lives."""
    return f"{PREFIX}worker:{worker_name}"


def feeder(worker_name: str) -> str:
    """What hinders a worker's feeder."""
    return f"{PREFIX}feeder:{worker_name}"


def part(part_name: str) -> str:
    """A process that can be asked to reload, for as long as it lives."""
    return f"{PREFIX}part:{part_name}"


def reload_answers(number: int) -> str:
    """What the processes have answered to a request to reload."""
    return f"{PREFIX}reload:{number}"


# --- messages --------------------------------------------------------------------------------------------------------

INTAKE = PREFIX + "intake"  # the stream of documents to deliver
INTAKE_REJECTED = PREFIX + "intake:rejected"  # the stream of messages that became no job
DEAD_LETTERS = PREFIX + "dead"  # messages of queues that no worker takes
CALLS_LOCK = PREFIX + "calls:turn"  # held by the process that opens waiting calls in batches


def producer_stream(producer: str) -> str:
    """A producer's own stream of documents to deliver."""
    return f"{INTAKE}:{producer}"


def rejected(job_id: str) -> str:
    """The entry of a message that was rejected under this id."""
    return f"{PREFIX}rejected:{job_id}"


# --- the page --------------------------------------------------------------------------------------------------------


def web_session(digest: str) -> str:
    """A session of the page, by the HMAC of its token."""
    return f"{PREFIX}web-session:{digest}"


def web_logins(digest: str) -> str:
    """How often passwords were tried lately, under a name or from an address."""
    return f"{PREFIX}web-logins:{digest}"


def acts(job_id: str) -> str:
    """What people have done about a job: who, what and when."""
    return f"{PREFIX}acts:{job_id}"
