"""What earlier versions have left: each file holds the keys of a Redis and the files of a data_dir.

The ledger and the folders of the commit that names the file have written them, under the secret key "a secret". A job
is called by what had happened to it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

VERSIONS = ("c1d50bd", "ac4cd32")
SECRET = "a secret"


@dataclass(frozen=True, slots=True)
class Sample:
    """`jobs`: what had happened to a job -> its id."""

    jobs: dict[str, str]
    keys: dict[str, dict[str, Any]]
    files: dict[str, str]

    def restore_redis(self, client: redis.Redis, *jobs: str) -> None:
        """Fill an empty Redis, with all jobs or only these."""
        left_out = {job_id for name, job_id in self.jobs.items() if jobs and name not in jobs}
        for key, content in self.keys.items():
            value = content["value"]
            if key.rpartition(":")[2] in left_out:
                continue
            match content["type"]:
                case "string" if value not in left_out:
                    client.set(key, value)
                case "hash":
                    client.hset(key, mapping=value)
                case "set" if members := set(value) - left_out:
                    client.sadd(key, *members)
                case "zset" if scores := {member: score for member, score in value.items() if member not in left_out}:
                    client.zadd(key, scores)
                case "stream":
                    for entry_id, fields in value:
                        client.xadd(key, fields, id=entry_id)

    def restore_files(self, data: Path, *below: str) -> None:
        """Write the files of a data_dir, or only those below these folders."""
        for name, text in self.files.items():
            if not below or name.startswith(below):
                path = data / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)

    def job_file(self, job: str) -> dict[str, Any]:
        """What the job.json of a document in our care says."""
        return dict(json.loads(self.files[f"processing/{self.jobs[job]}/job.json"]))


def sample(version: str) -> Sample:
    content = json.loads((Path(__file__).parent / f"{version}.json").read_text())
    return Sample(content["jobs"], content["redis"], content["files"])
