"""Early exit with numpy and onnxruntime alone: everything it needs stands in the ONNX files.

python examples/early_exit_runner.py exported/onnx images.npy 0.6

``images.npy``: [B, size, size, 3] uint8, RGB; the last word is the budget in MMAC per image.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

folder, images, budget = Path(sys.argv[1]), np.load(sys.argv[2]), float(sys.argv[3])
count = len(list(folder.glob("stage_*.onnx")))
sessions = [onnxruntime.InferenceSession(folder / f"stage_{k}.onnx") for k in range(1, count + 1)]
about = sessions[0].get_modelmeta().custom_metadata_map
about = {name: json.loads(value) for name, value in about.items()}
rows = [row for row in about["budgets"] if row["budget_mmac"] <= budget]
thresholds = rows[-1]["thresholds"]

mean, std = (np.float32(255) * np.float32(about["preprocessing"][name]) for name in ("mean", "std"))
pixels = (images.astype(np.float32) - mean) / std
maps = [np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))]
places = np.arange(len(images))  # of the images that are still under way
answers = [""] * len(images)
for k, session in enumerate(sessions):
    names = [each.name for each in session.get_inputs()]
    *maps, logits = session.run(None, dict(zip(names, maps, strict=True)))
    powers = np.exp((logits - logits.max(axis=1, keepdims=True)) / about["temperatures"][k])
    confidence = powers.max(axis=1) / powers.sum(axis=1)
    leaves = (confidence >= thresholds[k]) | (k + 1 == count)
    for row in np.flatnonzero(leaves):
        name = about["classes"][logits[row].argmax()]
        answers[places[row]] = f"{name}, confidence {confidence[row]:.4f}, exit {k + 1}"
    maps, places = [each[~leaves] for each in maps], places[~leaves]
    if not len(places):
        break
print("\n".join(answers))
