"""Opening imports FFCV without the compilation that its dictionary would cost, and as a guest."""

from __future__ import annotations

import subprocess
import sys

import numba.typed

from hdkd_dist.data.readers.opening import plain_dictionaries


def test_numba_has_its_dictionary_back():
    typed = numba.typed.Dict
    with plain_dictionaries():
        assert numba.typed.Dict is dict
    assert numba.typed.Dict is typed


def test_torch_keeps_its_threads():
    """FFCV's import sets them to 1: training on a CPU would be as slow as on one core."""
    program = (
        "import torch; torch.set_num_threads(3); "
        "from hdkd_dist.data.readers.opening import reader_class; "
        "print(reader_class('ffcv').__name__, torch.get_num_threads())"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "FfcvReader 3\n"
