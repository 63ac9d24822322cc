"""What would stop runs later, told before the first one starts: in a moment, without torch.

Where runs may start, what killed processes left half written is removed as well.
"""

from __future__ import annotations

from collections.abc import Iterable

from snt_core.common.files import cache_dir, require_writable, sweep
from snt_core.data import presence
from snt_core.runs.plan import pending
from snt_core.runs.spec import Spec
from snt_core.runs.store import Store


def require_data(specs: Iterable[Spec]) -> None:
    """Raise UserError unless the data sets of `specs` are there and the cache takes files."""
    require_writable("the cache", cache_dir())
    sweep(cache_dir(), cache_dir() / "native")
    for name in sorted({spec.net.data for spec in specs if spec.needs_data}):
        presence.require(name)


def preflight(specs: Iterable[Spec], store: Store) -> None:
    """Return if what is missing of `specs` can be run here.

    Raises:
        UserError: the store or the cache cannot be written, or a data set is missing or not whole.
    """
    todo = pending(specs, store)
    if not todo:
        return
    for part in ("records", "weights", "runs", "locks"):
        require_writable("the store", store.folder / part)
    store.sweep()
    require_data(todo)
