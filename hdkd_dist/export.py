"""Export a finished run for use elsewhere.

``python hdkd_dist/export.py --run runs/X --out DIR``
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hdkd_dist import cli

if TYPE_CHECKING:
    from torch import nn

    from hdkd_dist.data.manifest import Manifest


def main(run: Path, out: Path, onnx: bool = True) -> None:
    """Write a folder that predict.py uses: weights, model.json, ONNX files, and torch.export's.

    Args:
        run: the folder of a run that evaluate.py has evaluated.
        out: the new folder.
        onnx: also write ONNX and torch.export; needs the extra "export".
    """
    from hdkd_dist.data.manifest import data_folder, read_manifest
    from hdkd_dist.data.staging import publish, staging_folder
    from hdkd_dist.inference.exported import WEIGHTS, load_exported, write_description
    from hdkd_dist.inference.torch_stages import load_network
    from hdkd_dist.runs.network import WEIGHTS as TRAINED
    from hdkd_dist.runs.network import load_network as load_trained
    from hdkd_dist.runs.network import read_run, trained_on

    source, target = Path(run), Path(out)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"--out {target} is there already: remove it or choose another folder")
    config = read_run(source)
    manifest = trained_on(source) or read_manifest(data_folder(config["hdkd"]["data"]["path"]))
    load_trained(source, config, len(manifest.classes))  # refuses what cannot be exported
    description = describe_run(source, config, manifest)
    with staging_folder(target) as folder:
        files = [folder / WEIGHTS]
        shutil.copyfile(source / TRAINED, files[0])
        write_description(folder, description, files)
        network = load_network(load_exported(folder))  # what is checked is what will be used
        if onnx:
            files += write_graphs(network, description, folder)
            write_description(folder, description, files)
        written = sorted(
            str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()
        )
        if not publish(folder, target):
            raise ValueError(f"--out {target} has appeared meanwhile: choose another folder")
    print(f"{target}: {', '.join(written)}")


def describe_run(run: Path, config: Mapping[str, Any], manifest: Manifest) -> dict[str, Any]:
    """Describe an evaluated run, as ``model.json`` has it but for the files' sha256.

    Raises:
        ValueError: if the run has not been evaluated, or its results are damaged.
    """
    from hdkd_dist.inference.exported import describe
    from hdkd_dist.models import spec_of
    from hdkd_dist.runs.results import FILE_NAME, read_results

    results = read_results(run)
    if "budgeted" not in results:
        raise ValueError(
            f"{run} has no thresholds yet: run hdkd_dist/evaluate.py --run {run} first"
        )
    size = spec_of(config["hdkd"]["model"]).input_size
    try:
        return describe(config, results, manifest, size)
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{run / FILE_NAME} is damaged or of another version ({error}): run "
            f"hdkd_dist/evaluate.py --run {run} again"
        ) from None


def write_graphs(network: nn.Module, description: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write the network as ONNX and with ``torch.export``; returns the files.

    Raises:
        ValueError: without the extra "export", for a network that torch cannot export, or if
            onnxruntime gives other values than torch.
    """
    from hdkd_dist.inference.torch_stages import fold_where_equal
    from hdkd_dist.models import staged

    try:
        from hdkd_dist.inference.onnx_files import write_onnx, write_torch_export
    except ImportError as error:
        raise ValueError(
            f"ONNX needs the extra export ({error}): pip install 'hdkd_dist[export]', or "
            f"give --onnx false"
        ) from None

    size = description["preprocessing"]["size"]
    stages = staged(fold_where_equal(network, size))
    full = folder / "full.pt2"
    write_torch_export(stages, size, full)
    return [*write_onnx(stages, description, folder / "onnx"), full]


if __name__ == "__main__":
    cli.run(main)
