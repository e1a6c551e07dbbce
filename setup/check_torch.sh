#!/usr/bin/env bash
# check_torch.sh PYTHON: fail where this machine has an NVIDIA GPU that PYTHON's torch cannot use, on
# which training would run on CPUs. Without a GPU, say how to prepare for machines that have one.
set -euo pipefail

say() { printf 'set-up: %s\n' "$*"; }

read -r version toolkit usable < <("$1" -c 'import torch
print(torch.__version__, torch.version.cuda or torch.version.hip, torch.cuda.is_available())')
release="torch==${version%%+*}"
index="--extra-index-url https://download.pytorch.org/whl"

gpu=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null | head -n 1) || gpu=
if [[ -z $gpu ]]; then
    [[ $toolkit != None ]] ||
        say "no NVIDIA GPU here: torch $version is for CPUs; to prepare for machines with GPUs: make setup TORCH='$release'"
elif [[ $usable != True ]]; then
    newest=$(nvidia-smi | sed -n 's/.*CUDA Version: *\([0-9.]*\).*/\1/p')
    {
        say "torch $version cannot use the GPU here ($gpu): it is built for CUDA $toolkit, the driver takes ${newest:-an unknown CUDA} and older"
        say "a build that fits, for example: make setup TORCH='$release+cu126 $index/cu126'"
        say "to train on CPUs here: make setup TORCH='$release+cpu $index/cpu'"
    } >&2
    exit 1
fi
