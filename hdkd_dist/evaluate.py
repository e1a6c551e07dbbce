"""Evaluate a finished run: ``python hdkd_dist/evaluate.py --run runs/quickstart``."""

from __future__ import annotations

from pathlib import Path

from hdkd_dist import cli


def main(run: str, data: str | None = None, batch: int = 256, workers: int = 1) -> None:
    """Measure top-1 and top-5 accuracy of every exit (the anytime mode); the run notes them.

    Args:
        run: the folder that train.py has written.
        data: another prepared data set to measure on; its accuracies are printed only.
        batch: images at a time.
        workers: loader threads.
    """
    import torch

    from hdkd_dist.data.manifest import data_folder, read_manifest
    from hdkd_dist.data.normalize import Normalize
    from hdkd_dist.data.streams import Reading, SplitReader, evaluation_pass
    from hdkd_dist.inference.anytime import count_correct
    from hdkd_dist.inference.results import exit_rows, table, update_results
    from hdkd_dist.inference.trained import load_network, read_run
    from hdkd_dist.models import exit_costs, resolve

    folder = Path(run)
    config = read_run(folder)
    manifest = read_manifest(data_folder(data or config["hdkd"]["data"]["path"]))
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    network = load_network(folder, config, len(manifest.classes)).to(device)
    model = config["hdkd"]["model"]
    image_size = resolve(model["preset"], model["overrides"]).input_size
    normalize = Normalize.of(manifest.image["mean"], manifest.image["std"], device)

    def measure(split: str) -> torch.Tensor:
        reader = SplitReader(
            manifest,
            split,
            image_size=image_size,
            batch=batch,
            reading=Reading(device, workers),
            augment=False,
        )
        examples = (part.example for part in evaluation_pass(reader, rank=0, world_size=1))
        return count_correct(lambda images: network(normalize(images)), examples, network.num_exits)

    rows = exit_rows(exit_costs(network, image_size), measure("metaval"), measure("test"))
    if data is None:
        update_results(folder, {"exits": rows})
    print(table(rows))


if __name__ == "__main__":
    cli.run(main)
