"""`make defects`: plant every defect in a copy of the house and see that the tests notice."""

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.defects.catalog import DEFECTS
from tests.defects.plant import Defect, Verdict, try_defect


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.defects", description=__doc__)
    parser.add_argument("names", nargs="*", help="only these; all otherwise")
    options = parser.parse_args(arguments)
    chosen = [defect for defect in DEFECTS if not options.names or defect.name in options.names]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        verdicts = list(pool.map(_tell, chosen))
    missed = [verdict for verdict in verdicts if not verdict.noticed]
    sys.stdout.write(f"{len(verdicts) - len(missed)} of {len(verdicts)} defects were noticed\n")
    return 1 if missed or len(chosen) < len(options.names) else 0


def _tell(defect: Defect) -> Verdict:
    verdict = try_defect(defect)
    word = "noticed" if verdict.noticed else "MISSED "
    sys.stdout.write(f"{word}  {verdict.defect.name}: {verdict.by}\n")
    sys.stdout.flush()
    return verdict


if __name__ == "__main__":
    sys.exit(main())
