"""A few flips of each kind of file; `make torture` does many."""

from __future__ import annotations

import pytest

from tests.faults import flips
from tests.faults.catalogue import Tally

TRIES = 12


@pytest.mark.parametrize("fault", flips.FAULTS, ids=lambda fault: fault.name)
def test_no_flipped_bit_is_used_and_the_same_command_makes_good(fault, tmp_path):
    assert fault.inject(tmp_path, TRIES) == Tally(TRIES, lost=0, wrong=0)
