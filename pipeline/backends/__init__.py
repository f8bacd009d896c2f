"""Who makes the pictures. Which one, with which key, at which address: read from the job and the environment here."""

import os

from pipeline.backends.base import Backend
from pipeline.clock import Clock
from pipeline.errors import BadInput, Denied
from pipeline.job import Job

GOOGLE = "https://generativelanguage.googleapis.com"
KEYS = ("GEMINI_API_KEY", "GOOGLE_API_KEY")
ADDRESS = {"developer": "GOOGLE_GEMINI_BASE_URL", "vertex": "GOOGLE_VERTEX_BASE_URL"}
"""The variable that names another service than Google's, an emulator above all."""


def service_of(job: Job | None) -> str:
    """The address that this job would be sent to now; without one, the Developer API's."""
    there = os.environ.get(ADDRESS[job.backend if job else "developer"])
    if not there:
        there = GOOGLE if job is None or job.backend == "developer" else _host(location_of(job))
    return there.rstrip("/")


def open_backend(job: Job | None, *, service: str, clock: Clock, place: str) -> Backend:
    """A backend for a run of this job that talks to this service, and lives in that place. Without a job: whoever
    the key in the environment belongs to.

    Needs the key, or the project, in the environment or the job; sends nothing yet.
    """
    here = service_of(job)
    if here != service:
        name = ADDRESS[job.backend if job else "developer"]
        raise BadInput(
            f"this run talks to {service}, and the environment names {here}",
            hint=f"unset {name}, or set it to the run's, before you go on",
        )
    if job is None or job.backend == "developer":
        key = _key()
        from pipeline.backends.developer import Developer

        return Developer(key=key, service=service, clock=clock)
    project, staging = project_of(job), staging_of(job, place)
    from pipeline.backends.vertex import Vertex

    where = {"project": project, "location": location_of(job), "service": service, "staging": staging}
    return Vertex(**where, labels=job.labels)


def check_backend(job: Job, *, folder: str) -> None:
    """Raise what open_backend would, for a run that is to live in this folder, before anything else is done."""
    if job.backend == "developer":
        _key()
    else:
        project_of(job)
        staging_of(job, folder)


def staging_of(job: Job, place: str) -> str:
    """Where in a bucket a run that lives in this place keeps what Vertex AI reads and writes."""
    if job.bucket is not None:
        name = place.rstrip("/").rpartition("/")[2]
        return f"gs://{job.bucket.removeprefix('gs://').strip('/')}/{name}"
    if place.startswith("gs://"):
        return place.rstrip("/")
    raise BadInput(
        f"Vertex AI reads and writes in a bucket, and this run lives in {place}",
        hint='add bucket = "gs://my-bucket/nightshoot" to the job, or let its runs live there: --runs gs://my-bucket/runs',
    )


def project_of(job: Job) -> str:
    """The project that pays for this job on Vertex AI. Raises BadInput where none is named."""
    project = job.project or os.environ.get("GOOGLE_CLOUD_PROJECT")
    if not project:
        raise BadInput(
            "no project for Vertex AI", hint='add project = "..." to the job, or export GOOGLE_CLOUD_PROJECT'
        )
    return project


def location_of(job: Job) -> str:
    """Where Vertex AI is to make this job's pictures."""
    return job.location or os.environ.get("GOOGLE_CLOUD_LOCATION") or "global"


def _host(location: str) -> str:
    """Google's address for a location."""
    if location == "global":
        return "https://aiplatform.googleapis.com"
    if location in ("us", "eu"):
        return f"https://aiplatform.{location}.rep.googleapis.com"
    return f"https://{location}-aiplatform.googleapis.com"


def _key() -> str:
    key = next((os.environ[name] for name in KEYS if os.environ.get(name)), None)
    if key is None:
        raise Denied(
            "no API key in the environment",
            hint="export GEMINI_API_KEY=...; get one at https://aistudio.google.com/apikey",
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise Denied(
            "the API key holds characters that no key has", hint="copy it again, without spaces or quotes"
        )
    return key
