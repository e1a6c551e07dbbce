"""Processes that start at once: forked from one that has imported what training needs.

Import this before any process is started by multiprocessing's method "forkserver".
"""

import multiprocessing

FORKED = multiprocessing.get_context("forkserver")
# Each process would take seconds for them. None of these starts a thread or computes when it is
# imported.
FORKED.set_forkserver_preload(
    [
        *("torch", "torch._dynamo", "deepspeed", "pytest"),
        *("hdkd_dist.training.run", "hdkd_dist.evaluation.evaluate_run"),
    ]
)
