"""Opening imports FFCV without the compilation that its dictionary would cost."""

from __future__ import annotations

import numba.typed

from hdkd_dist.data.readers.opening import plain_dictionaries


def test_numba_has_its_dictionary_back():
    typed = numba.typed.Dict
    with plain_dictionaries():
        assert numba.typed.Dict is dict
    assert numba.typed.Dict is typed
