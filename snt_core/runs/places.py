"""Where runs are carried out: by processes here, or by a dask cluster's workers."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from snt_core.common.checks import one_of
from snt_core.common.documents import read_yaml
from snt_core.common.errors import UserError
from snt_core.common.files import place

if TYPE_CHECKING:
    from snt_core.runs.cluster import Cluster
    from snt_core.runs.store import Store

ENGINES = ("local", "dask")
# What a cluster file may name, and the class that starts it. Its options are that class's.
KINDS = {
    "local": "distributed:LocalCluster",
    "ssh": "distributed:SSHCluster",
    "slurm": "dask_jobqueue:SLURMCluster",
    "pbs": "dask_jobqueue:PBSCluster",
    "sge": "dask_jobqueue:SGECluster",
    "lsf": "dask_jobqueue:LSFCluster",
    "kubernetes": "dask_kubernetes.operator:KubeCluster",
}
FILE_KEYS = ("kind", "workers", "options")
PATIENCE = "10s"  # for a scheduler that does not answer


@dataclass(frozen=True)
class DaskPlace:
    """A scheduler's address, or the kind of cluster to start, how many workers, its options."""

    scheduler: str = ""
    kind: str = ""
    workers: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)

    @contextmanager
    def crew(self, store: Store, *, exact: bool) -> Iterator[Cluster]:
        """Connect, starting what has to be started; it ends with the block.

        Raises UserError where no scheduler answers, or a cluster cannot be started.
        """
        from distributed import Client

        from snt_core.runs.cluster import Cluster

        with ExitStack() as stack:
            address: Any = self.scheduler
            if self.kind:
                address = stack.enter_context(self._started())
            try:
                client = Client(address, timeout=PATIENCE)
            except (OSError, ValueError) as error:
                raise UserError(
                    f"no scheduler answers at '{address}'; start one with 'dask scheduler', and "
                    f"give the address that it prints"
                ) from error
            except (TypeError, RuntimeError, ImportError) as error:  # of what a scheme asks for
                reason = (str(error) or type(error).__name__).splitlines()[0]
                raise UserError(
                    f"'{address}' cannot be reached so: {reason}; tcp:// needs nothing, tls:// and "
                    f"wss:// need 'distributed.comm.tls' in dask's configuration"
                ) from error
            yield stack.enter_context(Cluster(client, store, exact=exact))

    @contextmanager
    def _started(self) -> Iterator[Any]:
        module, name = KINDS[self.kind].split(":")
        _require(module.partition(".")[0])
        try:
            cluster = getattr(import_module(module), name)(**self.options)
        except Exception as error:  # of whatever the options name
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(f"a cluster of kind {self.kind} does not start: {reason}") from error
        with cluster:
            if self.kind not in ("local", "ssh"):  # those have their workers
                cluster.scale(self.workers)
            yield cluster


def chosen_place(engine: str, scheduler: str, cluster: str) -> DaskPlace | None:
    """Return where `--engine`, `--scheduler` and `--cluster` want runs; None for here.

    Raises UserError where they do not fit together, or name what is not there.
    """
    one_of("engine", engine, ENGINES)
    given = [name for name, value in (("scheduler", scheduler), ("cluster", cluster)) if value]
    if engine == "local":
        if given:
            raise UserError(f"--{given[0]} is for --engine dask; add that, or leave it out")
        return None
    if len(given) != 1:
        raise UserError("--engine dask needs one of --scheduler ADDRESS and --cluster FILE.yml")
    found = _of_file(cluster) if cluster else DaskPlace(scheduler=_address(scheduler))
    _require("distributed")
    return found


def _address(text: str) -> str:
    if not re.fullmatch(r"((tcp|tls|ws|wss)://)?[^\s/:]+:[0-9]{1,5}", text):
        raise UserError(
            f"--scheduler is '{text}'; give an address such as tcp://host:8786, or one that "
            f"begins with tls://, ws:// or wss://"
        )
    return text


def _of_file(text: str) -> DaskPlace:
    path = place("--cluster", text)
    if not path.is_file():
        raise UserError(f"--cluster is '{text}', and there is no such file")
    body = read_yaml(path)
    if not isinstance(body, dict) or "kind" not in body:
        raise UserError(f"{path} names no kind; write 'kind: slurm', and what it needs as options")
    for key in body:
        one_of(f"entry of {path.name}", str(key), FILE_KEYS)
    one_of(f"kind in {path.name}", str(body["kind"]), KINDS)
    workers, options = body.get("workers", 1), body.get("options") or {}
    if type(workers) is not int or workers < 1:
        raise UserError(f"workers in {path.name} is {workers!r}; give a whole number above 0")
    if not isinstance(options, dict):
        raise UserError(f"options in {path.name} is {options!r}; give names with values")
    return DaskPlace(kind=body["kind"], workers=workers, options=options)


def _require(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        package = module.replace("_", "-")
        what = package if module == "dask_kubernetes" else "-e '.[cluster]'"
        raise UserError(f"--engine dask needs the package {package}: pip install {what}")
