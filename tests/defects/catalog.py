"""The defects: what somebody in a hurry could write, and who must notice."""

from tests.defects.plant import Defect

STATE = "pipeline/state.py"
SUBMIT = "pipeline/submit.py"
COLLECT = "pipeline/collect.py"
DEVELOPER = "pipeline/backends/developer.py"
WIRE = "pipeline/backends/wire.py"
LOCAL = "pipeline/storage/local.py"
GCS = "pipeline/storage/gcs.py"

DEFECTS = (
    Defect(
        "a take-over does not wait for the intent's end",
        STATE,
        "if event.seen is None or event.seen < old.until + GRACE:",
        "if event.seen is None:",
        ("tests/test_state.py",),
    ),
    Defect(
        "a take-over shares the input file it should have fenced off",
        STATE,
        "if event.input == old.input:",
        "if False:",
        ("tests/test_state.py",),
    ),
    Defect(
        "the cap is asked after what is reserved",
        STATE,
        "if state.cap is not None and state.committed + batch.high > state.cap:",
        "if state.cap is not None and state.committed > state.cap:",
        ("tests/test_state.py",),
    ),
    Defect(
        "what cannot be read is not counted as spent",
        STATE,
        "return self.spent + self.unconfirmed + self.reserved",
        "return self.spent + self.reserved",
        ("tests/test_state.py",),
    ),
    Defect(
        "rows may be drawn with a gap",
        STATE,
        "if start != state.drawn[lane] or not start < stop <= state.created.rows:",
        "if start < state.drawn[lane] or not start < stop <= state.created.rows:",
        ("tests/test_state.py",),
    ),
    Defect(
        "books need not balance",
        STATE,
        "if event.indexed + event.retry != batch.planned.requests:",
        "if event.indexed + event.retry > batch.planned.requests:",
        ("tests/test_state.py",),
    ),
    Defect(
        "a record that lost its race counts as written",
        "pipeline/journal.py",
        "        except AlreadyThere as error:\n            raise Taken(",
        "        except AlreadyThere as error:\n            return record\n            raise Taken(",
        ("tests/test_journal.py",),
    ),
    Defect(
        "a driver that lost a race does not look what happened",
        "pipeline/run.py",
        "                tries += 1\n                self.catch_up()",
        "                tries += 1\n                self.state.next += 1",
        ("tests/test_journal.py",),
    ),
    Defect(
        "intent after create",
        SUBMIT,
        "        intent = run.record(event).number\n",
        "        backend.submit(label, batch.planned.model, staged)\n        intent = run.record(event).number\n",
        ("tests/test_submit.py", "tests/stories/test_power_cut.py"),
    ),
    Defect(
        "a create call without a clear answer is sent again",
        SUBMIT,
        '        log.debug("batch %d: %s", batch.number, doubt)\n',
        "        backend.submit(label, batch.planned.model, staged)\n",
        ("tests/test_submit.py",),
    ),
    Defect(
        "a listing that is not complete counts as evidence",
        SUBMIT,
        "if not found.complete or found.at is None:",
        "if found.at is None:",
        ("tests/test_submit.py",),
    ),
    Defect(
        "a listing that lags counts as evidence",
        SUBMIT,
        "return all(tickets[intent] in found.seen for intent in known if intent is not None)",
        "return True",
        ("tests/test_submit.py",),
    ),
    Defect(
        "a listing that ends early counts as evidence",
        SUBMIT,
        "known = {before, after, max(tickets, default=None)} - {None}",
        "known = {before, max(tickets, default=None)} - {None}",
        ("tests/test_submit.py",),
    ),
    Defect(
        "an author cancels the job that another driver adopted for it",
        SUBMIT,
        "    if batch.intent != intent:\n        _disown(",
        "    if True:\n        _disown(",
        ("tests/test_submit.py",),
    ),
    Defect(
        "an author who comes too late sends all the same",
        SUBMIT,
        "if run.clock.now() > event.until - MARGIN:",
        "if False:",
        ("tests/test_submit.py",),
    ),
    Defect(
        "a refusal keeps what was sent before at the provider",
        "pipeline/drive.py",
        "        if self._refusal is not None and not under_way and not self.run.state.at(Stage.ENDED):",
        "        if self._refusal is not None:",
        ("tests/test_submit.py",),
    ),
    Defect(
        "a row that was read ahead is drawn although others drew it",
        "pipeline/plan.py",
        "if ours and row >= self._start:",
        "if ours:",
        ("tests/test_plan.py",),
    ),
    Defect(
        "a cut that could not be recorded is thrown away",
        "pipeline/plan.py",
        "if self._stop is None or self._start != start:",
        "if True:",
        ("tests/test_plan.py",),
    ),
    Defect(
        "first page of the listing only",
        DEVELOPER,
        '            token = body.get("nextPageToken") or ""\n',
        '            token = ""\n',
        ("tests/contracts/test_backend.py",),
    ),
    Defect(
        "success before the result is there",
        DEVELOPER,
        'if how == "succeeded" and (not files or files[0].size is None):',
        "if False:",
        ("tests/contracts/test_backend.py",),
    ),
    Defect(
        "an unknown state counts as done",
        DEVELOPER,
        "        if how is None:\n            return None\n        answer",
        '        how = how or "failed"\n        answer',
        ("tests/contracts/test_backend.py",),
    ),
    Defect(
        "a server that ignores ranges is read as if it had not",
        DEVELOPER,
        "        while behind < self._position:",
        "        while False:",
        ("tests/contracts/test_backend.py",),
    ),
    Defect(
        "a cut download starts again in the middle of a line",
        DEVELOPER,
        "        self._position += count\n        return count",
        "        return count",
        ("tests/contracts/test_backend.py",),
    ),
    Defect(
        "record before file",
        "pipeline/plan.py",
        '        run.storage.put(requests_file(number), stored, content_type="application/jsonl")\n',
        "",
        ("tests/test_collect.py",),
    ),
    Defect(
        "join by position",
        COLLECT,
        "    place = place_of(wire, batch) if wire is not None else None\n",
        "    place = asked.next_place() if wire is not None else None  # type: ignore[attr-defined]\n",
        ("tests/test_collect.py",),
    ),
    Defect(
        "first picture instead of last",
        COLLECT,
        '        pictures[-1]["final"] = True\n',
        '        pictures[0]["final"] = True\n',
        ("tests/test_collect.py",),
    ),
    Defect(
        "a blocked row is sent again",
        COLLECT,
        'AGAIN = frozenset({"text_only",',
        'AGAIN = frozenset({"blocked", "text_only",',
        ("tests/test_collect.py",),
    ),
    Defect(
        "attempts without end",
        COLLECT,
        'if answer["outcome"] in AGAIN and row["attempt"] < run.created.attempts:',
        'if answer["outcome"] in AGAIN and row["attempt"] < run.created.attempts + 1:',
        ("tests/test_collect.py",),
    ),
    Defect(
        "a second answer replaces the first",
        COLLECT,
        'elif answers[place]["outcome"] != "ok" and row["outcome"] == "ok":',
        'elif row["outcome"] == "ok":',
        ("tests/test_collect.py",),
    ),
    Defect(
        "surplus answers cost nothing",
        COLLECT,
        '        books.spent += stray.row["spent"] or 0\n',
        "        pass\n",
        ("tests/test_collect.py",),
    ),
    Defect(
        "split on U+2028",
        "pipeline/results.py",
        '        stripped = raw.rstrip(b"\\r\\n")\n',
        '        stripped = raw.decode(errors="replace").splitlines()[0].encode() if raw.strip() else b""\n',
        ("tests/test_results.py",),
    ),
    Defect(
        "a line that straddles two parts is read by both",
        "pipeline/results.py",
        "        offset = start - 1 + len(stream.readline())",
        "        stream.readline()",
        ("tests/test_results.py",),
    ),
    Defect(
        "a thought picture is taken for a result",
        WIRE,
        'answer = [part for part in parts if part.get("thought") is not True]',
        "answer = parts",
        ("tests/test_wire.py",),
    ),
    Defect(
        "a refusal without candidates is an empty answer",
        WIRE,
        "    if refused is not None and not drawings:",
        "    if False:",
        ("tests/test_wire.py",),
    ),
    Defect(
        "words are priced as thoughts, pictures not at all",
        WIRE,
        'if d.get("modality") == "IMAGE")',
        'if d.get("modality") == "TEXT")',
        ("tests/test_wire.py",),
    ),
    Defect(
        "a half-written file has its name already",
        LOCAL,
        "                self._link(staged, path)\n",
        "                path.write_bytes(staged.read_bytes())\n",
        ("tests/contracts/test_storage.py",),
    ),
    Defect(
        "a bucket's file may be overwritten",
        GCS,
        "            if_generation_match=0,\n",
        "",
        ("tests/contracts/test_storage.py",),
    ),
    Defect(
        "a lost reply counts as somebody else's file",
        GCS,
        "                    if is_there():\n                        return\n",
        "                    is_there()\n",
        ("tests/contracts/test_storage.py",),
    ),
    Defect(
        "variants are the same request",
        "pipeline/prompt.py",
        '        mark = fingerprint(asked, variant=variant) if asked else ""\n',
        '        mark = fingerprint(asked) if asked else ""\n',
        ("tests/test_prompt.py",),
    ),
    Defect(
        "references in any order are the same request",
        "pipeline/prompt.py",
       '"references": marks,'
        '"references": sorted(marks),',
        ("tests/test_prompt.py",),
    ),
)
"""Later issues add theirs here."""

IN_CI = (
    "a take-over does not wait for the intent's end",
    "first page of the listing only",
    "join by position",
    "split on U+2028",
    "a lost reply counts as somebody else's file",
)
"""Tried with every run of the tests; `make defects` tries all."""
