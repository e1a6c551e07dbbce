"""Algorithm 1: step by step, γ learns by looking ahead, then θ learns from γ·ℓ."""

from __future__ import annotations

from torch import Tensor

from hdkd_dist.data.streams import SplitReader, evaluation_pass, metaval_stream, train_epoch
from hdkd_dist.inference.anytime import count_correct
from hdkd_dist.training import ranks
from hdkd_dist.training.engine import averaged_buffers
from hdkd_dist.training.functional import evaluation_of, forward_of
from hdkd_dist.training.harmony import replicate
from hdkd_dist.training.learner import Learner
from hdkd_dist.training.meter import Meter
from hdkd_dist.training.network_step import train_network
from hdkd_dist.training.pace import Pace
from hdkd_dist.training.reporter import Reporter
from hdkd_dist.training.run import Run
from hdkd_dist.training.step import LOOK_AHEADS


def train(run: Run, reporter: Reporter) -> tuple[Pace, Tensor]:
    """Train to the end of the schedule (Algorithm 1 with T = 1).

    Returns:
        How fast it went, and the last epoch's validation, see :func:`evaluate`.

    Raises:
        Diverged, Drifted: see :class:`Meter`.
    """
    settings, seed, harmony = run.settings, run.settings.run.seed, run.harmony
    network = run.engine.module
    learner = learner_of(run)
    harmonised_step = LOOK_AHEADS[settings.gamma.lookahead]

    pace = Pace()
    meter = Meter(network.num_exits, run.device)
    metaval = pace.timed(metaval_stream(run.readers.metaval, run.metaval_share, seed=seed))
    step = 0
    for epoch in range(settings.schedule.epochs):
        network.train()
        pace.resume()
        for batch in pace.timed(train_epoch(run.readers.train, run.share, seed=seed, epoch=epoch)):
            rate = run.engine.get_lr()[0]
            train_batch = [micro.example for micro in batch]
            if harmony.optimizer is not None and step % settings.gamma.every == 0:
                metaval_batch = [micro.example for micro in next(metaval)]
                measures, gradient = harmonised_step(learner, train_batch, metaval_batch, rate)
                meter.add_weights_step(step + 1, gradient, drift=replicate(harmony))
            else:
                measures = train_network(learner, train_batch)
            step += 1
            pace.images += run.share.batch
            meter.add(step, measures, harmony.gamma, run.share.batch // run.share.world_size)
            if step % settings.run.log_every == 0 or step % run.steps_per_epoch == 0:
                reporter.step(step, epoch, rate, meter.read(), pace)
        pace.pause()
        validation = evaluate(run, run.readers.validation)
        reporter.epoch(step, epoch, validation)
    return pace, validation


def learner_of(run: Run) -> Learner:
    """The run's network and γ as the steps see them."""
    network = run.engine.module
    equilibrium = {"gradient_equilibrium": run.gradient_equilibrium}
    return Learner(
        engine=run.engine,
        harmony=run.harmony,
        parameters=dict(network.named_parameters()),
        forward=forward_of(network, run.normalize),
        train_forward=forward_of(network, run.normalize, **equilibrium),
        prepare=run.normalize,
        gradient_share=run.gradient_share,
        annealing=run.settings.loss.temperature == "anneal",
        settings=run.settings.gamma,
        mean=ranks.mean_over_ranks,
        replays=run.replays,
        **equilibrium,
    )


def evaluate(run: Run, reader: SplitReader) -> Tensor:
    """Right answers per exit on a whole split, over all ranks: see :func:`count_correct`."""
    network = run.engine.module
    forward = evaluation_of(network, averaged_buffers(network), run.normalize)
    batches = evaluation_pass(reader, run.share.rank, run.share.world_size)
    counts = count_correct(forward, (batch.example for batch in batches), network.num_exits)
    return ranks.sum_over_ranks(counts.to(run.device)).cpu()
