"""`make slurm`: the recipe of "On many machines" on a Slurm of this machine alone.

Needs root and Debian's `slurm-wlm` and `munge`. A grid of smoke is run by jobs, of which one is
cancelled; its records must equal those of a local run, and no job may be left.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from snt_core.common.files import PROJECT
from snt_core.runs.store import Store
from tests.faults.command import wait_until

RUN = ("snt", "run", "--profile", "smoke", "--only", "table4")
# no groups of processes (cgroups), which a container may not make
CONFIGURATION = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
AuthInfo=socket={folder}/munge.socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=4000 State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES State=UP
"""


def recipe() -> dict[str, Any]:
    """Return what the page calls `slurm.yml`, for two processors instead of four cards."""
    page = (PROJECT / "book" / "how_to_reexecute.md").read_text()
    found = re.search(r"```yaml\n(kind: slurm\n.*?)```", page, re.DOTALL)
    assert found, "the page has no recipe for Slurm"
    wanted = yaml.safe_load(found[1])
    ours = {"queue": "cpu", "cores": 1, "memory": "1500MB", "interface": "lo"}
    of_cards = ("job_extra_directives", "worker_extra_args")
    options = {k: v for k, v in wanted["options"].items() if k not in of_cards}
    return {**wanted, "workers": 2, "options": options | ours}


@contextmanager
def slurm(folder: Path) -> Iterator[dict[str, str]]:
    """Start a cluster of this machine that keeps all in `folder`; yield its environment."""
    for name in ("state", "spool"):
        (folder / name).mkdir()
    host = socket.gethostname()
    file = folder / "slurm.conf"
    file.write_text(CONFIGURATION.format(folder=folder, host=host, cores=os.cpu_count()))
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    env = {**os.environ, "SLURM_CONF": str(file)}
    daemons = [
        ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket"]
        + [f"--key-file={key}", f"--pid-file={folder}/munge.pid", f"--log-file={folder}/munge.log"]
        + [f"--seed-file={folder}/munge.seed"],
        ["slurmctld", "-D", "-f", str(file)],
        ["slurmd", "-D", "-f", str(file)],
    ]
    started = []
    try:
        for words in daemons:
            quiet: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            started.append(subprocess.Popen(words, env=env, **quiet))
            time.sleep(1)
        if not wait_until(lambda: "idle" in told(["sinfo"], env)):
            log = folder / "slurmctld.log"
            raise SystemExit(f"Slurm did not start: {log.read_text() if log.exists() else ''}")
        yield env
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait()


def told(words: list[str], env: dict[str, str]) -> str:
    return subprocess.run(words, env=env, capture_output=True, text=True, check=False).stdout


def main() -> int:
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "slurm.yml").write_text(yaml.safe_dump(recipe()))
        local, remote = folder / "local", folder / "remote"
        subprocess.run(RUN, env={**os.environ, "SNT_STORE": str(local)}, check=True)
        with slurm(folder) as env:
            words = [*RUN, "--engine", "dask", "--cluster", str(folder / "slurm.yml")]
            process = subprocess.Popen(words, env={**env, "SNT_STORE": str(remote)}, cwd=folder)
            wait_until(lambda: any(remote.glob("records/smoke/*")) or process.poll() is not None)
            jobs = told(["squeue", "--noheader", "--format=%i"], env).split()
            subprocess.run(["scancel", *jobs[:1]], env=env, check=False)
            code = process.wait()
            time.sleep(2)
            left = told(["squeue", "--noheader"], env)
        found = [
            {record.name: record.metrics for record in Store(store).records()}
            for store in (local, remote)
        ]
    same = sum(found[1].get(name) == metrics for name, metrics in found[0].items())
    print(f"{len(jobs)} jobs, one cancelled; exit code {code}; jobs left: {left or 'none'}")
    print(f"{same} of {len(found[0])} records are those of a local run")
    return int(code != 0 or same != len(found[0]) or len(jobs) != 2 or bool(left))


if __name__ == "__main__":
    sys.exit(main())
