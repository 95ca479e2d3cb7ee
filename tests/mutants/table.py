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
IDENTITY = "tests/tasks/ledger/test_identity.py"
RELOAD = "tests/acceptance/test_reload.py"
LEDGER = "tests/tasks/ledger/test_ledger.py"
CLOCK = "tests/tasks/ledger/test_clock.py"
LISTS = "tests/tasks/providers/test_patient_list.py"
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
        "a worker whose settings stage nothing fails a staged document",
        "tasks/pipeline/runner.py",
        "self._commit_log.require_staging(leases[0].job)",
        "pass",
        ("tests/tasks/pipeline/test_runner.py", "-k", "staged"),
    ),
    Mutant(
        "the watcher logs an outage each second, onto a disk that is full",
        "worker/inbox/chores.py",
        "if type(error).__name__ != put_off:",
        "if True:",
        ("tests/worker/inbox/test_chores.py",),
    ),
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
        "any success is taken for an upload that the storage has stored",
        "tasks/transfer/answers.py",
        "return stored if is_storages and _is_no_page(answer) else None",
        "return stored",
        (
            "tests/tasks/transfer/test_answers.py",
            "tests/tasks/providers/test_contract.py",
            "-k",
            "filter or stranger or storage_has_not_given",
        ),
    ),
    Mutant(
        "a page that lies in a bucket is taken for an answer to the upload",
        "tasks/transfer/answers.py",
        "return stored if is_storages and _is_no_page(answer) else None",
        "return stored if is_storages else None",
        ("tests/tasks/transfer/test_answers.py", "-k", "storage_has_not_given"),
    ),
    Mutant(
        "an error inside the storage is taken for a refusal of the whole file",
        "tasks/transfer/answers.py",
        "if may_be_whole and _may_have_been_stored(error):",
        "if False:",
        ("tests/tasks/transfer/test_answers.py", "-k", "inside_the_storage or internal_error"),
    ),
    Mutant(
        "a web filter's page is believed to be an answer of the provider",
        "tasks/http/api.py",
        "    return answer.is_page and believed",
        "    return False",
        ("tests/tasks/providers/test_contract.py", "-k", "web_filter_in_front_of_the_api"),
    ),
    Mutant(
        "a document fails for the page of a web filter",
        "tasks/pipeline/recovery.py",
        """        if error.never_the_document:
            return False
""",
        "",
        ("tests/tasks/pipeline/test_runner.py", "-k", "fails_no_document_however_often"),
    ),
    Mutant(
        "forms are judged by a clock that is known to be wrong",
        "tasks/http/provider_clock.py",
        "self._now() - (ahead if abs(ahead) > WRONG_SECONDS else 0.0)",
        "self._now()",
        ("tests/acceptance/test_wrong_clocks.py", "-k", "delivers_and_says_so or beside"),
    ),
    Mutant(
        "a document that has parked its account for its forms gets no other form",
        "tasks/pipeline/recovery.py",
        "        self._ledger.presign_again(lease, wait, calls)\n",
        "        self._ledger.blocked(lease, wait, calls)\n",
        ("tests/tasks/pipeline/test_runner.py", "-k", "forms"),
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
        "a clock of Redis that is set ends leases and budgets",
        "tasks/ledger/scripts/clock.lua",
        "  if moved < 0 or moved > LARGEST_MOVE then offset = offset - moved end\n",
        "",
        (CLOCK,),
    ),
    Mutant(
        "time that nobody saw passing never counts again",
        "tasks/ledger/scripts/clock.lua",
        "    if since_boot then offset = math.max(offset, since_boot + boot_ms - wall) end\n",
        "",
        (CLOCK,),
    ),
    Mutant(
        "calls of the future shut a vendor's gate for an hour",
        "tasks/ledger/scripts/take_call.lua",
        "while tonumber(redis.call('LINDEX', calls, 0) or 0) > wall do redis.call('LPOP', calls) end\n",
        "",
        (CLOCK,),
    ),
    Mutant(
        "a lock that was taken before the clock was set back stays for an hour",
        "tasks/ledger/scripts/take_lock.lua",
        "if lasts and redis.call('PTTL', KEYS[1]) > lasts then redis.call('DEL', KEYS[1]) end\n",
        "",
        (CLOCK, "-k", "lock"),
    ),
    Mutant(
        "a throttled account cannot be resumed",
        "tasks/ledger/scripts/open_gate.lua",
        "redis.call('DEL', prefix .. 'gate:' .. group)\n",
        "\n",
        ("tests/worker/cli/commands/test_accounts.py",),
    ),
    Mutant(
        "a clock that is a year ahead empties delivered/",
        "tasks/folders/retention.py",
        "limit = min(limit, before + _FASTEST * passed)",
        "pass",
        ("tests/tasks/folders/test_retention.py",),
    ),
    Mutant(
        "a search ends by the clock of whoever wrote job.json",
        "tasks/pipeline/reconciliation.py",
        "since = lease.now if search_for else job.unknown_since or lease.now",
        "since = committed_at or job.unknown_since or lease.now",
        ("tests/tasks/pipeline/test_runner.py", "-k", "clock"),
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
        "            if token and token.usable(age) and token.access != refused:\n                return token.access",
        "            if False:\n                return token.access",
        ("tests/tasks/providers/auth/test_tokens.py",),
    ),
    Mutant(
        "of two keys that come at once, both are taken",
        "tasks/ledger/scripts/adopt.lua",
        "if seal and seal ~= mark then return {'other_key'} end",
        "",
        (f"{IDENTITY}::test_of_many_that_come_at_once_with_two_keys_those_with_one_key_win",),
    ),
    Mutant(
        "a ledger from before the marks is anybody's",
        "tasks/ledger/identity.py",
        "            self._open_a_row()\n",
        "            pass\n",
        (f"{IDENTITY}::test_a_ledger_from_before_the_marks_is_known_by_its_rows",),
    ),
    Mutant(
        "the marks of a ledger are read once, at the start",
        "tasks/ledger/identity.py",
        "if self._clock() < self._confirm_at:",
        "if self._confirmed_before:",
        (
            f"{IDENTITY}::test_after_a_wipe_the_marks_are_made_again_and_another_installation_that_came_first_is_noticed",
        ),
    ),
    Mutant(
        "a message is rejected because its Redis belongs to another installation",
        "worker/stream/reader.py",
        "        except (*REDIS_ERRORS, LedgerRefused):\n            raise\n",
        "        except REDIS_ERRORS:\n            raise\n",
        ("tests/worker/stream/test_reader.py", "-k", "another_installation"),
    ),
    Mutant(
        "a new secret key beside an earlier ledger",
        "config/secret_key.py",
        "if earlier := _earlier_data(data_dir):",
        "if earlier := None:",
        ("tests/config/test_secret_key.py",),
    ),
    Mutant(
        "a damaged length takes all that follows out of the append-only file",
        "worker/supervisor/append_only_file.py",
        "if _COMMAND_BEGINS.search(data, position, size):",
        "if False:",
        ("tests/worker/supervisor/test_append_only_file.py", "-k", "length_too_large"),
    ),
    Mutant(
        "half a transaction stays in the append-only file",
        "worker/supervisor/append_only_file.py",
        "if not in_transaction:",
        "if True:",
        ("tests/worker/supervisor/test_append_only_file.py", "-k", "wherever"),
    ),
    Mutant(
        "a corrected key file is not noticed",
        "worker/reload/reloader.py",
        "if asked or requested or self._files_changed():",
        "if asked or requested:",
        (f"{RELOAD}::test_an_account_parked_for_its_key_goes_on_once_its_key_file_is_corrected",),
    ),
    Mutant(
        "a part that is stopped while it reloads comes back",
        "worker/reload/reloader.py",
        "if not self._for_good:",
        "if True:",
        (f"{RELOAD}::test_a_part_that_is_stopped_while_it_reloads_does_not_come_back",),
    ),
    Mutant(
        "a full disk is said to be writable",
        "tasks/folders/free_space.py",
        "            file.write(bytes(_TEST_BYTES))\n",
        "",
        ("tests/acceptance/test_full_disk.py", "-k", "check_and_health"),
    ),
    Mutant(
        "a file that is open for writing counts as finished",
        "tasks/sources/writers.py",
        "return True if error.errno == errno.EAGAIN else None",
        "return False",
        ("tests/worker/inbox/test_wholeness.py", "tests/tasks/sources/test_writers.py"),
    ),
    Mutant(
        "no second look for writers after the claim's rename",
        "worker/inbox/claim.py",
        "                has_writer=self._has_writer,\n",
        "",
        ("tests/worker/inbox/test_wholeness.py",),
    ),
    Mutant(
        "after a kill a claimed document is sent while it is still written",
        "worker/inbox/claim.py",
        "if not orphan.job_file.committed and self._has_writer(orphan.path):",
        "if False:",
        ("tests/worker/inbox/test_wholeness.py",),
    ),
    Mutant(
        "a program that opens a file for writing ends the process that looks at it",
        "tasks/sources/writers.py",
        "        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)\n",
        "",
        ("tests/tasks/sources/test_writers.py",),
    ),
    Mutant(
        "the inbox takes a file whose end is missing",
        "worker/inbox/claim.py",
        "found = None if sidecar.as_it_is else missing_end(candidate.path)",
        "found = None",
        ("tests/worker/inbox/test_wholeness.py",),
    ),
    Mutant(
        "a caller's document is sent although its end is missing",
        "tasks/pipeline/preflight.py",
        "        if examination.incomplete:\n            raise",
        "        if False:\n            raise",
        (
            "tests/acceptance/test_whole_documents.py::test_a_callers_cut_file_is_refused_unless_the_call_says_otherwise",
        ),
    ),
    Mutant(
        "what changed after it was sent is filed beside its receipt",
        "tasks/folders/outcomes.py",
        "if document is None or sent is None or sent.is_at(document):",
        "if True:",
        ("tests/tasks/folders/test_set_aside.py",),
    ),
    Mutant(
        "a wipe after a kill files what changed beside its receipt",
        "tasks/folders/outcomes.py",
        "            job.write(job_file)\n        return job_file\n",
        "            pass\n        return job_file\n",
        ("tests/tasks/folders/test_set_aside.py",),
    ),
    Mutant(
        "what a limit has stopped is read again from its beginning",
        "tasks/providers/patient_list.py",
        "_KEPT_SECONDS = 600.0",
        "_KEPT_SECONDS = 0.001",
        (LISTS,),
    ),
    Mutant(
        "a list that has moved is taken for one that has grown",
        "tasks/providers/patient_list.py",
        "return page.total is None or kept.announced is None or page.total - kept.announced == len(new)",
        "return True",
        (LISTS,),
    ),
    Mutant(
        "a record that the list had not shown is taken for the document",
        "tasks/providers/pracsuite.py",
        "    if shown <= known.announced - announced:\n",
        "    if True:\n",
        (LISTS,),
    ),
    Mutant(
        "sent again after a search that trusts what was read before",
        "tasks/providers/pracsuite.py",
        ".read_alone()",
        ".latest()",
        (LISTS,),
    ),
    Mutant(
        "long lists use up the limit of everybody",
        "tasks/accounts/rate_limit.py",
        "_SHARE_OF_PAGES = 2",
        "_SHARE_OF_PAGES = 1",
        ("tests/tasks/accounts/test_rate_limit.py",),
    ),
    Mutant(
        "sent again though the record may be there under another name",
        "tasks/pipeline/reconciliation.py",
        "                if doubt:\n",
        "                if False:\n",
        ("tests/tasks/pipeline/test_runner.py",),
    ),
    Mutant(
        "one look at a list that hides a record decides that it is sent again",
        "tasks/pipeline/preflight.py",
        "_LOOKS_FOR_EARLIER = 5",
        "_LOOKS_FOR_EARLIER = 1",
        ("tests/acceptance/test_large_charts.py", "-k", "duplicate"),
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
    Mutant(
        "a NAS's folder is taken for a patient",
        "worker/inbox/filter.py",
        "        if name.startswith(_SYSTEM_FOLDER_MARKS):\n            return Reason.SYSTEM_FILE\n",
        "",
        ("tests/worker/inbox/test_scan.py",),
    ),
    Mutant(
        "a second version that a synchronising program made is sent",
        "worker/inbox/filter.py",
        'if "onfli" in name and _CONFLICT.search(name):',
        "if False:",
        ("tests/worker/inbox/test_scan.py",),
    ),
    Mutant(
        "a document goes without its sidecar, which has a wrong name",
        "worker/inbox/scan.py",
        "Reason.SIDECAR_IN_DOUBT if name in in_doubt else rights.why_held(name, status)",
        "rights.why_held(name, status)",
        ("tests/worker/inbox/test_scan.py",),
    ),
    Mutant(
        "a sidecar under a wrong name is sent as a document",
        "worker/inbox/sidecar_names.py",
        'return "meta" in name and bool(_LOOKS_LIKE.fullmatch(name))',
        "return False",
        ("tests/worker/inbox/test_scan.py",),
    ),
    Mutant(
        "a file that is written without end is never named",
        "worker/inbox/report.py",
        "self._since = {key: self._since.get(key, now) for key in keys.values()}",
        "self._since = dict.fromkeys(keys.values(), now)",
        ("tests/worker/inbox/test_left_alone.py",),
    ),
    Mutant(
        "the sticky bit is not looked at",
        "worker/inbox/rights.py",
        "if self._sticky and status.st_uid != self._user_id:",
        "if False:",
        ("tests/worker/inbox/test_left_alone.py",),
    ),
    Mutant(
        "a name that can be read in two ways is guessed",
        "worker/inbox/name_patterns.py",
        "if len(readings) > 1:",
        "if False:",
        ("tests/worker/inbox/test_name_patterns.py",),
    ),
    Mutant(
        "a document whose name tells no patient goes without one",
        "worker/inbox/claim.py",
        "        if candidate.patient_id is None:\n            return reader.read(candidate.path.name)\n",
        "",
        ("tests/worker/inbox/test_patients_in_names.py",),
    ),
    Mutant(
        "after a killed claim the sidecar goes into the patient's folder, and its document without it",
        "tasks/folders/claims.py",
        'patient_folder = "" if job_file.in_account_folder else job_file.patient_id or ""',
        'patient_folder = job_file.patient_id or ""',
        ("tests/worker/inbox/test_patients_in_names.py",),
    ),
    Mutant(
        "a name that is not in UTF-8 comes into the chart as rubbish",
        "worker/inbox/claim.py",
        "        if job_file.file_name == clean(job_file.disk_name):\n            check_is_text(job_file.disk_name)\n",
        "",
        ("tests/worker/inbox/test_watcher.py", "-k", "not_text"),
    ),
    Mutant(
        "any locale will do",
        "config/load.py",
        "    check_file_system_encoding(sys.getfilesystemencoding())\n",
        "",
        ("tests/worker/cli/test_locale.py", "-k", "another_locale and jobs"),
    ),
)
