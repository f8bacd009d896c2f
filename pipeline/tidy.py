"""What a run left at its provider and nobody needs any more. Nothing here is removed without being asked for."""

import re
from collections.abc import Iterator

from pipeline.backends.base import Backend, Remote
from pipeline.run import Run
from pipeline.shown import entries
from pipeline.state import Stage

_LABEL = re.compile(r"nightshoot-([0-9a-f]+)-(\d+)-[0-9a-f]+")


def needless(run: Run, backend: Backend) -> Iterator[Remote]:
    """The files of this run at the provider that have done their duty.

    What was sent and written for a batch, once its pictures are home; what was shown, once the run is finished. Files
    of other runs are left alone, whatever became of those.
    """
    shown = _shown(run, backend) if run.state.finished else frozenset()
    home = f"{run.storage.url}/"
    for remote in backend.remote():
        label = _LABEL.fullmatch(remote.label)
        if label is not None:
            if label[1] == run.created.run and _is_home(run, int(label[2])):
                yield remote
        elif remote.name in shown:
            yield remote
        elif run.state.finished and not remote.label and not remote.name.startswith(home):
            yield remote  # a reference beside a run that lives elsewhere; what lies in the run is the run's own


def _is_home(run: Run, number: int) -> bool:
    batches = run.state.batches
    return number < len(batches) and batches[number].stage is Stage.COLLECTED


def _shown(run: Run, backend: Backend) -> frozenset[str]:
    """The references that were uploaded for this run, by what removes them."""
    mine = (event for event in run.state.uploaded if event.account == backend.account)
    return frozenset(entry.name for event in mine for entry in entries(run, event))
