"""Nightshoot: a manifest of prompts and photos becomes batch jobs, and those become pictures and an index.

The story in ten lines. A `job` says what to shoot; a `manifest` has the rows. A row poured into a shot is a `prompt`,
with its `references` and its price (`money`, after the table of `models`). `survey` looks all of that over, free and
offline, and begins a `run`: a directory in a `storage`, whose `journal` is its only state. Four verbs meet there and
nowhere else. `plan` cuts rows into batches. `submit` sends a batch to a `backend` and is the only one that costs money.
`poll` asks whether it is done. `collect` brings the pictures home, checks them, and writes the index. Each reads the
records, does what follows and records that: so each may be killed, repeated, and done by several at once. `drive` does
all four until the run is through. People meet it as a command (`cli`) or in a notebook (`notebook`); `demonstration`
shows it on the `emulator`, which is Google for rehearsals.

Read in this order: `events` and `state`, which are all that can happen; `journal` and `run`; `plan`, `submit`, `poll`,
`collect`; `drive`; then `storage.base` and `backends.base`, the two protocols that hold it up. After that `job`,
`manifest`, `prompt` and `survey`, and last what people see: `session`, `console`, `cli`, `notebook`.

Nothing is imported here, so that a command pays only for what it uses. In Python, `import nightshoot`.
"""

__version__ = "0.1.0"
