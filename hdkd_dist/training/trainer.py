"""Algorithm 1: step by step, γ learns by looking ahead, then θ learns from γ·ℓ."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from hdkd_dist.data.streams import (
    SplitReader,
    Step,
    WatchedReader,
    evaluation_pass,
    examples_of,
    metaval_stream,
    train_epoch,
)
from hdkd_dist.distributed import ranks
from hdkd_dist.method.functional import evaluation_of
from hdkd_dist.models.accuracy import count_correct
from hdkd_dist.training.build import Run
from hdkd_dist.training.checkpointing.saver import Saver
from hdkd_dist.training.engine import evaluated_tensors
from hdkd_dist.training.gamma import autocasts, replicate
from hdkd_dist.training.measure import REMEDY, Diverged, Progress
from hdkd_dist.training.reporter import Reporter


def train(run: Run, progress: Progress, reporter: Reporter, saver: Saver) -> None:
    """Train from ``progress`` on to the end of the schedule (Algorithm 1 with T = 1).

    ``progress`` moves along; at the end it holds the last epoch's validation, see :func:`evaluate`,
    where the data have a split for it.

    Raises:
        Diverged, Drifted: see :class:`Meter`.
        Stopped: see :class:`Saver`.
    """
    settings, seed = run.settings, run.settings.run.seed
    algorithm, weights, network = run.algorithm, run.weights, run.engine.module

    pace, meter = progress.pace, progress.meter

    def watched(reader: SplitReader) -> SplitReader:
        return WatchedReader(
            reader, lambda batches: pace.timed(saver.mark.reading(batches, reader))
        )

    metaval: Iterator[Step] = iter(())
    if run.readers.metaval is not None:
        metaval = metaval_stream(
            watched(run.readers.metaval),
            run.metaval_share,
            seed=seed,
            first_step=progress.metaval_batches,
        )
    reader = watched(run.readers.train)
    for epoch in range(progress.epoch, settings.schedule.epochs):
        network.train()
        first = progress.step - epoch * run.steps_per_epoch
        batches = train_epoch(reader, run.share, seed=seed, epoch=epoch, first_step=first)
        pace.resume()
        for batch in batches:
            rate = run.engine.get_lr()[0]
            train_batch = examples_of(batch)
            if weights.learns and progress.step % settings.gamma.every == 0:
                metaval_batch = examples_of(next(metaval))
                progress.metaval_batches += 1
                seen, gradient = algorithm.step(train_batch, metaval_batch, rate)
                meter.add_gamma_step(progress.step + 1, gradient, drift=replicate(weights))
            else:
                weights.follow(progress.step)
                seen = algorithm.train_step(train_batch)
            progress.step += 1
            step = progress.step
            if run.average is not None:
                run.average.update(network, step)
            if run.engine.skipped_steps:  # by DeepSpeed, on all ranks: ZeRO that clips gradients
                raise Diverged(f"the gradient of θ is not finite at step {step}: {REMEDY}")
            pace.images += run.share.batch
            meter.add(step, seen, weights.gamma, run.share.batch // run.share.world_size)
            if step % settings.run.log_every == 0 or step % run.steps_per_epoch == 0:
                reporter.step(step, epoch, rate, meter.read(), pace)
            saver.after_step()
        pace.pause()
        if run.readers.validation is not None:
            progress.validation = evaluate(run, run.readers.validation, saver)
        progress.epoch += 1
        if progress.validation is not None:
            reporter.epoch(progress.step, epoch, progress.validation)
        saver.end_epoch()
    saver.end_training()


def evaluate(run: Run, reader: SplitReader, saver: Saver) -> Tensor:
    """Count right answers per exit on a whole split, over all ranks: see :func:`count_correct`.

    Those of the weights' average, where there is one.
    """
    network, share = run.engine.module, run.share
    half = torch.bfloat16 if autocasts(run.deepspeed) else None
    tensors = evaluated_tensors(network, run.average)
    forward = evaluation_of(network, tensors, run.normalize, autocast=half)
    per_rank = math.ceil(reader.samples / share.world_size)
    batches = saver.stoppable(
        evaluation_pass(reader, share.rank, share.world_size),
        rounds=math.ceil(per_rank / share.micro_batch),
        reader=reader,
    )
    counts = count_correct(forward, (batch.examples for batch in batches), network.num_exits)
    return ranks.sum_over_ranks(counts.to(run.device)).cpu()
