"""A process that races for names: for each name it reads, a line that says 'won' or 'lost'.

python -m tests.racer URL LETTER. Tests start several, and write a name to each of them to release them.
"""

import sys

from pipeline.storage import AlreadyThere, open_storage


def main(root: str, text: str) -> None:
    storage = open_storage(root)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        try:
            storage.put_if_absent(line.strip(), text.encode() * 5000)
        except AlreadyThere:
            sys.stdout.write("lost\n")
        else:
            sys.stdout.write("won\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
