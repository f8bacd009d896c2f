"""One run to its end, or one tick of it. Any number of drivers may do so at once: they meet in the journal."""

import logging
import os
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial

from pipeline.admission import Admission
from pipeline.again import draw_retries, draw_turns, plan_again
from pipeline.backends.base import Backend, Gone
from pipeline.backends.online import Online
from pipeline.collect import collect
from pipeline.errors import BadInput, Corrupt, Denied, NightshootError, Refused, Unavailable
from pipeline.money import dollars
from pipeline.night import cancel, until_next, watch
from pipeline.plan import Planner
from pipeline.poll import poll, sweep, swept_at
from pipeline.run import Run, job_of
from pipeline.shown import Shown
from pipeline.state import Batch, OverBudget, Stage, State, model_of, trouble_of
from pipeline.storage.base import NoRoom
from pipeline.submit import resolve, submit
from pipeline.tally import waiting

log = logging.getLogger(__name__)

FIRST, LATEST = timedelta(seconds=5), timedelta(minutes=5)
"""How soon something is looked for again, at first and at last."""

SELDOM = timedelta(minutes=50)
"""How seldom a batch at the provider is asked after at last: hourly at least, a fifth more or less. A whole night is a
few dozen calls for each. Google says that most are done in hours."""

EARLY = 0.1
"""What part of its wait before its time a batch is asked after along with another, whose time has come: a driver of
hundreds wakes for a few dozen at once, and not for each."""

SILENCE, PATIENCE = timedelta(minutes=1), timedelta(minutes=30)
"""When to ask a provider again that does not answer, and how long until that is said. Its jobs go on meanwhile."""

TICK = timedelta(minutes=8)
"""How long a tick works: shorter than the ten minutes between two of them."""

Listener = Callable[[Run], None]


class Driver:
    """Somebody who does whatever can be done for a run now."""

    def __init__(
        self,
        run: Run,
        backend: Backend,
        *,
        planner: Planner | None = None,
        listener: Listener = lambda run: None,
        workers: int | None = None,
    ) -> None:
        self.run = run
        self.backend = backend
        online = job_of(run).online
        self._online = Online(backend, run.storage, settings=online, clock=run.clock)
        self._shown = Shown(run, backend)
        self._planner = planner
        self.listener = listener
        self._workers = workers or min(16, 4 * (os.cpu_count() or 1))
        self._ask_at: dict[int, datetime] = {}
        self._interval: dict[int, timedelta] = {}
        self._over_budget: OverBudget | None = None
        # Nothing more is sent; what was sent is still brought home.
        self._refusal: NightshootError | None = None
        self._unclear: set[int] = set()  # batches of which nobody would say whether they were sent
        self._silent_since: datetime | None = None  # the provider, and nothing was heard since
        self._is_silent = False  # in this very step
        self._admission = Admission(run, backend)
        self._cancelled: set[int] = set()  # batches that this driver asked the provider to stop at
        self._damaged: dict[int, NightshootError] = {}  # batches that this driver could not settle
        self._unread: dict[
            int, tuple[datetime, Unavailable]
        ] = {}  # batches whose result is not there, and since when
        self._now = run.created_at  # when this driver last looked around
        self._turn = random.random()  # drivers that work side by side begin at different batches

    @property
    def answered(self) -> int:
        """How many requests are answered in jobs that go on, by the service's own count: none of it can be had yet."""
        there = (batch.submitted for batch in self.run.state.at(Stage.SUBMITTED))
        return sum(self.backend.answered(sent.ticket) for sent in there if sent is not None)

    def to_the_end(self) -> None:
        """Work and wait until every request is in the index. Raises where only a person can go on."""
        while not self.run.state.finished:
            moved = self.step()
            self._say_trouble_in_the_end()
            if not moved:
                self._complain_if_stuck()
                self.run.clock.sleep_until(self._next())
        _check_whole(self.run)

    def tick(self, *, limit: timedelta = TICK) -> None:
        """Work until there is nothing to do now, or the time is up. Waits for nothing."""
        until = self.run.clock.now() + limit
        while self.step(until=until) and self.run.clock.now() < until and not self.run.state.finished:
            pass
        self._say_trouble()
        if not self.run.state.finished:
            self._complain_if_stuck()
        _check_whole(self.run)

    def step(self, *, until: datetime | None = None) -> bool:
        """Everything that can be done now, once. False: nothing could."""
        self._look_around()
        self._over_budget = None
        self._is_silent = False
        moved = False
        for work in (self._watch, self._draw, self._submit, self._poll, self._collect, self._help):
            if moved and work == self._help:
                break  # others' unfinished plans are taken up only by who has nothing of its own to do
            moved |= work()
            self.listener(self.run)
            if until is not None and self.run.clock.now() >= until:
                break
        return moved

    def draw(self) -> bool:
        """Plan one more batch, or take up a plan that nobody finished."""
        self._look_around()
        return self._draw() or self._help()

    def submit(self) -> bool:
        """Send all that may be sent; of what is asked at once a batch."""
        self._look_around()
        self._over_budget = None
        moved = self._submit()
        self._say_trouble()
        return moved

    def poll(self) -> bool:
        """Ask after every batch that is at the provider."""
        self._look_around()
        self._ask_at.clear()
        return self._poll()

    def collect(self) -> bool:
        """Bring home all that has ended."""
        self._look_around()
        moved = self._collect()
        self._say_trouble()
        return moved

    def _look_around(self) -> None:
        """See what others did meanwhile, and what time it is."""
        self.run.catch_up()
        self._now = self.run.clock.now()

    def _watch(self) -> bool:
        """What the job wants done at this hour, and what was given up but may not be cancelled yet."""
        moved = watch(self.run, self.backend)
        for batch in self.run.state.at(Stage.SUBMITTED):
            if batch.withdrawn is None or batch.number in self._cancelled:
                continue
            if self._ask(cancel, batch):
                self._cancelled.add(batch.number)
                self._interval.pop(batch.number, None)  # it will end soon
                self._ask_at.pop(batch.number, None)
        return moved

    def _draw(self) -> bool:
        return self._planner is not None and self._planner.draw()

    def _submit(self) -> bool:
        state, moved = self.run.state, False
        planned = state.at(Stage.PLANNED) if state.stopped is None else []
        for batch in sorted(planned, key=lambda each: each.online):
            if not batch.sends or not self._admission.has_room(batch):
                continue
            if self._refusal is not None or self._is_silent:
                break
            sent = self._send(batch)
            moved |= sent
            if batch.online and sent:
                break  # that took minutes: what came of it is brought home, and a tick keeps its time
        for batch in state.at(Stage.SUBMITTING) + state.at(Stage.HELD):
            # The local clock only says when to look; what is found is judged by the provider's.
            if _is_over(batch, self._now) and self._is_due(batch):
                moved |= self._resolve(batch)
        return moved

    def _resolve(self, batch: Batch) -> bool:
        """Find out what became of an intent. Where that is refused, all else is brought home before it is said."""
        try:
            moved = self._ask(partial(resolve, shown=self._shown), batch)
        except (BadInput, Denied) as error:
            self._refusal = error
            self._unclear.add(batch.number)
            return False
        self._unclear.discard(batch.number)
        return moved

    def _send(self, batch: Batch) -> bool:
        try:
            return self._ask(partial(submit, shown=self._shown), batch)
        except OverBudget as error:
            self._over_budget = error
        except (BadInput, Denied) as error:
            self._refusal = error
        return False

    def _ask(self, verb: Callable[[Run, Backend, int], bool], batch: Batch) -> bool:
        """Do something with the provider, which may be silent for a while: nothing is lost by asking later."""
        try:
            moved = verb(self.run, self._online if batch.online else self.backend, batch.number)
        except NoRoom:
            raise  # it is not the provider who is silent, and nobody makes room but a person
        except Unavailable as error:
            now, self._is_silent = self.run.clock.now(), True
            if self._silent_since is None:
                log.warning("%s; trying again", error)
            self._silent_since = self._silent_since or now
            if batch.number in self._ask_at:  # a question without an answer is no reason to ask more seldom
                self._ask_at[batch.number] = min(self._ask_at[batch.number], now + SILENCE)
            if now - self._silent_since >= PATIENCE:
                raise
            return False
        self._silent_since = None
        return moved

    def _poll(self) -> bool:
        moved = False
        for batch in self.run.state.at(Stage.SUBMITTED):
            if self._is_due(batch):
                moved |= self._ask(poll, batch)
        for batch in self.run.state.at(Stage.ENDED):
            if batch.may_be_late:
                moved |= self._ask(sweep, batch)
        return moved

    def _collect(self) -> bool:
        if not self.run.state.may_settle:
            return False
        ready = [
            batch
            for batch in self.run.state.batches
            if (batch.stage is Stage.ENDED and not batch.may_be_late)
            or (
                batch.stage is Stage.PLANNED
                and not batch.waits
                and (not batch.sends or self.run.state.stopped)
            )
        ]
        start = int(self._turn * len(ready))
        moved = False
        with self._pool() as pool:
            for batch in ready[start:] + ready[:start]:
                moved |= self._bring_home(batch, pool)
                self.listener(self.run)
        return moved

    def _bring_home(self, batch: Batch, pool: ThreadPoolExecutor) -> bool:
        """One batch that cannot be settled keeps no other from coming home."""
        number = batch.number
        if number in self._damaged or (number in self._unread and not self._is_due(batch)):
            return False
        try:
            moved = self._ask(partial(collect, pool=pool), batch)
        except (BadInput, Corrupt, Denied) as error:
            self._damaged[number] = error
            return False
        except Gone as gone:
            self._miss(number, str(gone))
            return False
        self._unread.pop(number, None)
        return moved

    def _miss(self, number: int, why: str) -> None:
        """A result that was there is not, for now: it is looked for again, later and later."""
        if number not in self._unread:
            days = self.backend.life.days
            error = Unavailable(
                f"the result of batch {number} is not there: {why}",
                hint=f"run the same command again later; {days} days after its end it counts as lost, and as spent",
            )
            log.warning("%s; trying again", error.message)
            self._unread[number] = (self.run.clock.now(), error)
            self._ask_at[number] = self._now + FIRST

    @contextmanager
    def _pool(self) -> Iterator[ThreadPoolExecutor]:
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="pictures")
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)

    def _help(self) -> bool:
        """Plans that were begun and not finished, what came back for another attempt, and what comes after it."""
        state = self.run.state
        for batch in state.at(Stage.DRAWN):
            if plan_again(self.run, batch.number, planner=self._planner):
                return True
        if state.retries_due:
            return draw_retries(self.run)
        return draw_turns(self.run)

    def _is_due(self, batch: Batch) -> bool:
        """Whether to ask after it now; and if so, when next. Later each time, and not all at once."""
        now, interval = self._now, self._interval.get(batch.number, FIRST)
        if now + interval * EARLY < self._ask_at.get(batch.number, now):
            return False
        if batch.stage is not Stage.SUBMITTED:
            interval = min(interval, LATEST)
        self._ask_at[batch.number] = now + interval * random.uniform(0.8, 1.2)
        # Each wait is half as long again: about a third of the time that it is out already.
        self._interval[batch.number] = min(
            interval * 1.5, SELDOM if batch.stage is Stage.SUBMITTED else LATEST
        )
        return True

    def _next(self) -> datetime:
        """When something may have changed."""
        now, state = self._now, self.run.state
        waiting = {batch.number for batch in self._at_provider()} | self._unread.keys()
        times = [at for number, at in self._ask_at.items() if number in waiting]
        times += [b.submitting.until for b in state.at(Stage.SUBMITTING) if b.submitting is not None]
        times += [swept_at(b) for b in state.at(Stage.ENDED) if b.may_be_late]
        times += until_next(self.run)
        times += [self._admission.look_again] if self._admission.look_again is not None else []
        times += [b.put_back.not_before for b in state.at(Stage.PLANNED) if b.put_back is not None]
        # Who is silent is asked again soon, whatever else has its hour: a deadline may be all that has one.
        times += [self.run.clock.now() + SILENCE] if self._is_silent else []
        pause = FIRST if self._silent_since is None else SILENCE
        soonest = min((at for at in times if at > now), default=now + pause)
        return max(soonest, now + timedelta(seconds=0.1))

    def _say_trouble(self) -> None:
        """Raise what somebody has to look at, if anything."""
        unread = [error for _, error in self._unread.values()]
        for trouble in (self._refusal, *self._damaged.values(), *unread):
            if trouble is not None:
                raise trouble

    def _say_trouble_in_the_end(self) -> None:
        """The same, once all else is home."""
        under_way = any(
            self._is_mine(batch) and batch.number not in self._unclear for batch in self._at_provider()
        )
        patient = self.run.clock.now() - PATIENCE
        given_up = {number for number, (since, _) in self._unread.items() if since <= patient}
        given_up |= self._damaged.keys()
        ended = [batch for batch in self.run.state.at(Stage.ENDED) if batch.number not in given_up]
        if not under_way and not ended:
            self._say_trouble()

    def _at_provider(self) -> list[Batch]:
        return self.run.state.at(Stage.SUBMITTED) + self.run.state.at(Stage.SUBMITTING)

    def _complain_if_stuck(self) -> None:
        """Raise if waiting will not help, because only a person can."""
        state = self.run.state
        put_back = any(batch.put_back is not None for batch in state.at(Stage.PLANNED))
        sweeping = any(batch.may_be_late and self._is_mine(batch) for batch in state.at(Stage.ENDED))
        silent = self._silent_since is not None
        if (
            any(self._is_mine(b) for b in self._at_provider())
            or silent
            or sweeping
            or (put_back and not self._over_budget)
        ):
            return
        if self._over_budget is not None:
            raise self.no_room()
        self._complain_of_others()
        self._complain_of_answers()
        if state.needs_manifest and self._planner is None:
            raise BadInput(
                f"{self.run.name}: not all rows are planned yet, and the manifest is needed for that",
                hint=f"run it once more from its job: nightshoot run {self.run.created.job.get('name', 'JOB')}",
            )

    def _complain_of_answers(self) -> None:
        """A canary that came back wrong, and answers that came to nothing for one reason: money for a person."""
        state = self.run.state
        for lane in state.drawn:
            canary = state.canary(lane)
            waiting = [
                b for b in state.at(Stage.PLANNED) if b.sends and model_of(b) == lane and b is not canary
            ]
            if not waiting or canary is None or canary.collected is None or canary.cleared:
                continue
            if why := trouble_of(canary):
                raise Refused(
                    f"the {canary.planned.requests if canary.planned else 0} pictures that went first came back"
                    f" wrong: {why}; nothing else was sent",
                    hint=f"{_shown_by(self.run, canary)}; correct the job and run it anew, or send the rest all the"
                    " same: nightshoot run --no-canary",
                )
        if state.held_back and state.settled:
            raise common_trouble(state)
        if state.to_review and state.settled and not state.needs_manifest:
            raise _unjudged(self.run)

    def _is_mine(self, batch: Batch) -> bool:
        return batch.is_of(self.backend.account)

    def _complain_of_others(self) -> None:
        state = self.run.state
        held = state.at(Stage.HELD)
        if any(self._ask(partial(resolve, shown=self._shown), batch) for batch in held):
            return  # asked once more before anybody is bothered: it is clear now
        if held and not state.at(Stage.ENDED):
            said = held[0].held.why if held[0].held else ""
            raise Refused(
                f"batch {held[0].number} is held: {said}",
                hint="look at Google's batch jobs by hand; nothing is sent again until that is clear",
            )
        theirs = self._at_provider() + [batch for batch in state.at(Stage.ENDED) if batch.may_be_late]
        if theirs and theirs[0].submitting is not None:
            raise Denied(
                f"batch {theirs[0].number} was sent with another key: {theirs[0].submitting.account}",
                hint="only the key that sent a batch can see it; export that one and run again",
            )

    @property
    def has_no_room(self) -> bool:
        """Whether the cap kept something from being sent, when that was last tried."""
        return self._over_budget is not None

    def no_room(self) -> Refused:
        """What to say of it."""
        state = self.run.state
        waiting = [batch for batch in state.at(Stage.PLANNED) if batch.sends]
        left = sum(batch.planned.requests for batch in waiting if batch.planned)
        cost = sum(batch.high for batch in waiting)
        unread = f" ({dollars(state.unconfirmed)} of it cannot be read)" if state.unconfirmed else ""
        return Refused(
            f"the cap of {dollars(state.cap or 0)} has no room for more: {dollars(state.committed)} is spent or"
            f" reserved{unread}, and {left:,} requests are left for at most {dollars(cost)}",
            hint="raise it with --max-usd, or leave the rest unsent",
        )


def _check_whole(run: Run) -> None:
    """Raises Corrupt if a finished run lost rows that edit another's picture."""
    if run.state.finished and run.state.unreleased:
        raise Corrupt(
            f"{run.storage.url}: {run.state.unreleased} rows wait for a picture of a batch that is settled",
            hint="a file of plan/ or turns/ is not what it was",
        )


def _is_over(batch: Batch, now: datetime) -> bool:
    """Whether the author of an intent had its time. Before that there is nothing to find out."""
    return batch.submitting is not None and now >= batch.submitting.until


def common_trouble(state: State) -> Refused:
    """What to say of answers that came to nothing for one reason."""
    first = state.batches[state.held_back[0]]
    cost = sum(_again_costs(state.batches[number]) for number in state.held_back)
    assert state.created is not None
    assert first.collected is not None
    assert first.planned is not None
    name = state.created.name
    word = first.common_trouble or ""
    return Refused(
        f"{first.collected.again[word]:,} of {first.planned.requests:,} requests of batch {first.number} came to"
        f" nothing for one reason: {word}; asking for {state.requests_held_back:,} of them again would cost up"
        f" to {dollars(cost)}",
        hint=f"nightshoot index {name} --again shows them; nightshoot retry {name} asks again, nightshoot cancel {name}"
        " leaves it at that",
    )


def _shown_by(run: Run, batch: Batch) -> str:
    """The commands that show what came of a batch: of some requests it is final, and others wait to be asked again."""
    final, waiting = f"nightshoot index {run.name}", f"nightshoot index {run.name} --again"
    if batch.number not in run.state.retries:
        return f"{final} shows them"
    if batch.collected is None or not batch.collected.indexed:
        return f"{waiting} shows them"
    return f"{final} and {waiting} show them"


def _unjudged(run: Run) -> Refused:
    """What to say of follow-ups that a person keeps waiting."""
    return Refused(
        f"{waiting(run.state.to_review)}; all else is home",
        hint=f"nightshoot index {run.name} --columns key,shot,variant,turn,path,decision,decision_reason"
        " -o decisions.csv  lists the pictures: write approved or rejected into its column decision, then "
        f" nightshoot review apply decisions.csv {run.name}  and run again",
    )


def _again_costs(batch: Batch) -> int:
    """At most, taken from what the whole batch may have cost."""
    if batch.collected is None or batch.planned is None or not batch.planned.requests:
        return 0
    return batch.planned.high * batch.collected.retry // batch.planned.requests
