"""The faults: what is promised, how the code is broken, and which tests must notice."""

from __future__ import annotations

from dataclasses import dataclass

KILLS = "tests/acceptance/test_kills.py"
CALLS = "tests/acceptance/test_celery_door.py"
INBOX = "tests/acceptance/test_inbox.py"
CLINIKO = "tests/acceptance/test_cliniko.py"
REDOX = "tests/acceptance/test_redox.py"
NHN = "tests/acceptance/test_nhn.py"
OVOK = "tests/acceptance/test_ovok.py"
LEDGER = "tests/tasks/ledger/test_ledger.py"
MACHINES = "tests/tasks/dispatch/test_machines.py"
FORGOTTEN = "tests/tasks/folders/test_forgotten_commits.py"
STAGING = "tests/tasks/folders/test_staging.py"
RESTORED = "tests/acceptance/test_restored_redis.py"


@dataclass(frozen=True, slots=True)
class Mutant:
    """`old` in `file` becomes `new`; `tests` are arguments for pytest, of which at least one must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTANTS = (
    Mutant(
        "overwrite job.json with a document called JOB.JSON, where the disk ignores letter case",
        "tasks/folders/job_folder.py",
        "folded = name.casefold()",
        "folded = name",
        ("tests/tasks/folders/test_letter_case.py",),
    ),
    Mutant(
        "send again without a look when the answer was lost",
        "tasks/transfer/upload.py",
        'raise OutcomeUnknown("The whole file was sent, and the storage did not answer.") from error',
        "raise",
        (f"{KILLS}::test_a_lost_answer_is_looked_up_and_not_sent_again",),
    ),
    Mutant(
        "send again without a look after a kill",
        "tasks/pipeline/preflight.py",
        "if job.committed or self._may_have_committed(job):",
        "if False:",
        (f"{KILLS}::test_a_worker_killed_after_the_commit_point_looks_before_it_sends_again",),
    ),
    Mutant(
        "no fencing token",
        "tasks/ledger/scripts/move.lua",
        "if token ~= '' and current_token ~= token then return 'fenced' end",
        "",
        (LEDGER,),
    ),
    Mutant(
        "no lease: a running step is started again",
        "tasks/ledger/scripts/start.lua",
        "if row[2] and tonumber(row[2]) > now then return 'leased' end",
        "",
        (LEDGER,),
    ),
    Mutant(
        "the last block leaves before the commit",
        "tasks/http/commit_gate.py",
        "        self._commit()\n        self._stop_if_answered()  # committed, but the last block need not leave\n"
        "        self.may_be_whole = True\n        yield held\n",
        "        self.may_be_whole = True\n        yield held\n        self._commit()\n",
        ("tests/tasks/transfer",),
    ),
    Mutant(
        "a forward move leaves no due entry",
        "tasks/ledger/scripts/move.lua",
        "    redis.call('ZADD', due, now + change.due_in, id)\n",
        "    redis.call('ZREM', due, id)\n",
        (LEDGER,),
    ),
    Mutant(
        "delivered on the storage's 204",
        "tasks/pipeline/confirm.py",
        "if self._record_finding(lease, found.get(lease.job.id), account, renewal, calls_of_this):",
        "if self._record_finding(lease, found.get(lease.job.id) or "
        "Found(__import__('tasks.model.job', fromlist=['']).Record('204')), account, renewal, calls_of_this):",
        (f"{INBOX}::test_each_kind_of_wrong_file_fails_or_stays_and_the_good_one_behind_is_delivered",),
    ),
    Mutant(
        "a record proves two jobs",
        "tasks/ledger/scripts/move.lua",
        "if owner and owner ~= id then return 'owned_by_another' end",
        "",
        (LEDGER,),
    ),
    Mutant(
        "the file's name in a log",
        "tasks/intake/admission.py",
        'log.info("job_opened", job=job_id,',
        'log.info("job_opened", name=document.file_name, job=job_id,',
        (f"{CALLS}::test_neither_logs_nor_redis_nor_messages_name_patient_or_file",),
    ),
    Mutant(
        "the document unsealed in Redis",
        "tasks/ledger/codec.py",
        '"document": self.seal_document(job_id, document),',
        '"document": self.seal_document(job_id, document), "plain": document.file_name,',
        (LEDGER, CALLS),
    ),
    Mutant(
        "the file's name in a result",
        "tasks/closing/receipts.py",
        'for private in ("patient_id", "file_name"):',
        'for private in ("patient_id",):',
        (f"{CALLS}::test_a_foreign_call_is_delivered_and_its_result_is_the_receipt",),
    ),
    Mutant(
        "a call acknowledged before the ledger has it",
        "tasks/celery_tasks.py",
        'name="chartpost.upload", acks_late=True',
        'name="chartpost.upload", acks_late=False',
        ("tests/acceptance/test_entry_task.py",),
    ),
    Mutant(
        "a call leaves the queue before the ledger has it",
        "worker/celery/backlog.py",
        "            opened = [message for message in self._oldest() if self._open(message)]\n"
        "            self._remove(opened)\n",
        "            oldest = self._oldest()\n            self._remove(oldest)\n"
        "            opened = [message for message in oldest if self._open(message)]\n",
        ("tests/worker/celery/test_backlog.py", "-k", "kill"),
    ),
    Mutant(
        "a parked account is fed",
        "tasks/ledger/scripts/take_due.lua",
        "if state == 'parked' or state == 'down' then return true end",
        "",
        ("tests/acceptance/test_accounts.py", "-k", "park or down"),
    ),
    Mutant(
        "one account may hold every slot",
        "tasks/ledger/scripts/take_due.lua",
        "lane.free = lane.slots - taken_slots",
        "lane.free = window",
        ("tests/acceptance/test_accounts.py", "-k", "hang"),
    ),
    Mutant(
        "two documents of one name are sent at once",
        "tasks/ledger/scripts/reserve_name.lua",
        "if holder and holder ~= id and",
        "if false and",
        (LEDGER,),
    ),
    Mutant(
        "what was forgotten after a wipe is taken for never sent",
        "worker/inbox/opening.py",
        "maybe_sent = maybe_sent_of(job_file) if job_file.committed else None",
        "maybe_sent = None",
        ("tests/acceptance/test_inbox.py", "-k", "wiped"),
    ),
    Mutant(
        "keys follow a redirect",
        "tasks/http/clients.py",
        "follow_redirects=False,\n        cookies=_no_cookies(),\n        timeout=API_TIMEOUT",
        "follow_redirects=True,\n        cookies=_no_cookies(),\n        timeout=API_TIMEOUT",
        ("tests/tasks/transfer", "tests/tasks/providers"),
    ),
    Mutant(
        "a record that was made before the upload is not kept: a retry makes another",
        "tasks/pipeline/presign.py",
        "record = job.facts.record or self._commit_log.record_on_disk(job)",
        "record = None",
        (OVOK, "-k", "killed or wiped"),
    ),
    Mutant(
        "a lost create is repeated without a look",
        "tasks/http/api.py",
        "if sending.may_be_whole:\n                raise OutcomeUnknown",
        "if False:\n                raise OutcomeUnknown",
        (OVOK, "-k", "whatever"),
    ),
    Mutant(
        "old bytes of the same size are taken for a replacement",
        "tasks/providers/ovok/file.py",
        "return None not in (before.etag, file.etag) and before.etag != file.etag",
        "return True",
        ("tests/tasks/providers/test_ovok.py",),
    ),
    Mutant(
        "a record that others may be put into proves one job alone",
        "tasks/ledger/ledger.py",
        'return {"own_record": record.id} if record and not record.shared else {}',
        'return {"own_record": record.id} if record else {}',
        (LEDGER,),
    ),
    Mutant(
        "a document is registered without the token by which it is found again",
        "tasks/providers/cliniko/naming.py",
        'document, marker = job.document, f"({token(job)})"',
        'document, marker = job.document, "(chartpost)"',
        (f"{CLINIKO}::test_lost_answers_and_faults_are_ridden_out_with_one_copy",),
    ),
    Mutant(
        "what nobody saw is sent again where nobody can look",
        "tasks/providers/redox/client.py",
        'OnUnknownOutcome.RESEND if account.on_unknown_outcome == "resend" else OnUnknownOutcome.HOLD',
        "OnUnknownOutcome.RESEND",
        (f"{REDOX}::test_each_fault_of_a_document_ends_as_it_must_and_never_in_a_second_copy",),
    ),
    Mutant(
        "a second sending has other ids than the first",
        "tasks/providers/fhir.py",
        'return str(uuid.uuid5(_IDS, "\\0".join(parts)))',
        "return str(uuid.uuid4())",
        (f"{NHN}::test_faults_are_ridden_out_with_one_copy_of_each",),
    ),
    Mutant(
        "labels are taken for changed whatever the answer shows",
        "tasks/providers/nhn/answers.py",
        'return "" if shown.labels == {(label.system, label.code) for label in wanted} else None',
        'return ""',
        ("tests/tasks/providers/test_nhn.py", "-k", "labels"),
    ),
    Mutant(
        "a token in the clear in Redis",
        "tasks/ledger/cache.py",
        "sealed = self._seal.seal(value, place=digest)",
        "sealed = value",
        ("tests/tasks/providers/auth/test_tokens.py",),
    ),
    Mutant(
        "every worker renews the token by itself",
        "tasks/providers/auth/tokens.py",
        "            if token and token.usable and token.access != refused:\n                return token.access",
        "            if False:\n                return token.access",
        ("tests/tasks/providers/auth/test_tokens.py",),
    ),
    Mutant(
        "several machines: a worker starts steps whose files lie on another one",
        "tasks/ledger/scripts/start.lua",
        "  if row[3] and machine ~= '' and row[3] ~= machine then return 'elsewhere' end\n",
        "",
        (MACHINES,),
    ),
    Mutant(
        "several machines: a document does not say where its file lies",
        "tasks/ledger/codec.py",
        'return {**row, "home": document.bound_to} if document.bound_to else row',
        "return row",
        (MACHINES,),
    ),
    Mutant(
        "several machines: copied folders keep the name of the original",
        "tasks/ledger/scripts/hold_machine.lua",
        "if held and mark ~= '' and mark ~= held and mark ~= held_next then return 0 end",
        "",
        ("tests/tasks/folders/test_machines.py",),
    ),
    Mutant(
        "several machines: a closed job whose document is still in our care is opened again",
        "worker/inbox/claim.py",
        "if not self._opener.close_ended(orphan.job_file):",
        "if True:",
        ("tests/acceptance/test_machines.py", "-k", "closed_once"),
    ),
    Mutant(
        "a missing folder is taken for a missing file at once",
        "tasks/pipeline/runner.py",
        "if since is None or lease.now - since < timedelta(seconds=self._ledger.lease_seconds):",
        "if False:",
        ("tests/tasks/pipeline/test_runner.py", "-k", "folder"),
    ),
    Mutant(
        "older Redis: its commits stay forgotten",
        "tasks/folders/commit_journal.py",
        "elif entry.number > after and entry.run != not_of_run:",
        "elif False:",
        (FORGOTTEN,),
    ),
    Mutant(
        "older Redis: nobody waits for what the other machines know",
        "tasks/folders/forgotten_commits.py",
        "if others and int(age_ms) < _PATIENCE_SECONDS * 1000:",
        "if False:",
        (FORGOTTEN,),
    ),
    Mutant(
        "older Redis: a commit of a call is not noted on disk",
        "tasks/folders/commit_log.py",
        "        if self._journal and self.needs_journal(job):\n"
        "            self._journal.note(number, run, job.id, job.step, replace(facts, form=None))\n",
        "        if self._journal and self.needs_journal(job):\n",
        (f"{RESTORED}::test_what_was_sent_after_the_copy_is_found_and_not_sent_again",),
    ),
    Mutant(
        "older Redis: a receipt in delivered/ is not looked for",
        "tasks/closing/closing.py",
        "        if content is None:\n            return False\n",
        "        if True:\n            return False\n",
        (f"{RESTORED}::test_what_was_sent_after_the_copy_is_found_and_not_sent_again",),
    ),
    Mutant(
        "staging: a missing bucket fails the documents",
        "tasks/sources/objects.py",
        'raise StorageFault(_FAULTS.get(code, f"it answered {code}")) from None',
        "raise _not_readable() from None",
        ("tests/acceptance/test_staging.py", "-k", "missing_bucket"),
    ),
    Mutant(
        "staging: the sweep removes what another machine has staged",
        "tasks/folders/staging.py",
        "if not is_needed(job_id) and self._home_of(job_id) == home:",
        "if not is_needed(job_id):",
        (STAGING,),
    ),
)
