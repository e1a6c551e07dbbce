"""Export a finished run for use elsewhere.

``python hdkd_dist/export.py --run runs/X --out DIR``
"""

from __future__ import annotations

from pathlib import Path

from hdkd_dist import cli


def main(run: str, out: str, onnx: bool = True) -> None:
    """Write a folder that predict.py uses: weights, model.json, ONNX files, and torch.export's.

    Args:
        run: the folder of a run that evaluate.py has evaluated.
        out: the new folder.
        onnx: also write ONNX and torch.export; needs the extra "export".
    """
    from hdkd_dist.data.manifest import data_folder, read_manifest
    from hdkd_dist.data.staging import publish, staging_folder
    from hdkd_dist.inference.exported import load_exported, write_exported
    from hdkd_dist.runs.network import load_network, read_run, trained_on

    onnx = cli.switch("--onnx", onnx)
    source, target = Path(str(run)), Path(str(out))
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"--out {target} is there already: remove it or choose another folder")
    config = read_run(source)
    manifest = trained_on(source) or read_manifest(data_folder(config["hdkd"]["data"]["path"]))
    network = load_network(source, config, len(manifest.classes))
    with staging_folder(target) as folder:
        write_exported(source, config, manifest, folder)
        exported = load_exported(folder)  # what is checked is what will be used
        if onnx:
            try:
                from hdkd_dist.inference.onnx_files import write_onnx, write_torch_export
            except ImportError as error:
                raise ValueError(
                    f"ONNX needs the extra export ({error}): pip install 'hdkd_dist[export]', or "
                    f"give --onnx false"
                ) from None

            size = exported.preprocessing.size
            write_onnx(network, size, folder / "onnx")
            write_torch_export(network, size, folder / "full.pt2")
        files = sorted(
            str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()
        )
        if not publish(folder, target):
            raise ValueError(f"--out {target} has appeared meanwhile: choose another folder")
    print(f"{target}: {', '.join(files)}")


if __name__ == "__main__":
    cli.run(main)
