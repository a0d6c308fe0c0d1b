"""Jobs: work that outlives a request. Durable records, a few threads per server, results that expire.

records   what is known of a job, and whether its process is still there
results   rows that a job leaves behind, in files that expire
runner    the threads, heartbeats, stopping, and what happens when the server stops
"""

from grange.jobs.records import (
    KEPT,
    STATUSES,
    Job,
    LogLine,
    Process,
    Status,
    documents_of,
    job_info,
    jobs,
    request_stop,
)
from grange.jobs.results import RESULTS_KEPT, JobResults
from grange.jobs.runner import JobHandle, JobOutcome, JobRunner, JobStoppedError

__all__ = [
    "KEPT",
    "RESULTS_KEPT",
    "STATUSES",
    "Job",
    "JobHandle",
    "JobOutcome",
    "JobResults",
    "JobRunner",
    "JobStoppedError",
    "LogLine",
    "Process",
    "Status",
    "documents_of",
    "job_info",
    "jobs",
    "request_stop",
]
