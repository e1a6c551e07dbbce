#!/usr/bin/env bash
# Collect what a bare machine with a GPU and torch needs to run benchmarks/gpu.py, without a network:
#
#     bash benchmarks/gpu_bundle.sh OUT [PYTHON]        # here, where .venv is set up
#     LD_LIBRARY_PATH=OUT/lib PYTHONPATH=OUT/python:. python benchmarks/gpu.py       # there
#
# OUT gets DeepSpeed as pure Python, FFCV compiled for this machine's Python with the shared libraries
# it is linked to, and the small packages. Not in it: torch, numpy, scipy, numba, scikit-learn, pandas,
# opencv and what else the machine has already. The two machines must have the same processor
# family and a glibc no older than this one's.
set -euo pipefail

readonly LIMIT_MB=40
[[ $# -ge 1 ]] || { echo "usage: bash benchmarks/gpu_bundle.sh OUT [PYTHON]" >&2; exit 2; }
out=$1
python=${2:-$(dirname "$0")/../.venv/bin/python}
[[ -x $python ]] || { echo "error: $python is missing: run make setup first" >&2; exit 2; }
mkdir -p "$out/python" "$out/lib"

site=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
# DeepSpeed compiles nothing here: what it has compiled on this machine may not fit the other.
version=$("$python" -c 'import importlib.metadata as m; print(m.version("deepspeed"))')
DS_BUILD_OPS=0 DS_BUILD_SHM_COMM=0 "$python" -m pip install --quiet --no-deps \
    --no-build-isolation --no-binary deepspeed --target "$out/python" "deepspeed==$version"

packages=(ffcv annotated_types pydantic pydantic_core typing_inspection typing_extensions.py hjson
    fire termcolor fastargs terminaltables assertpy pytorch_pfn_extras safetensors tqdm psutil
    msgpack einops cpuinfo)
for package in "${packages[@]}"; do
    if [[ -e $site/$package ]]; then
        cp -r "$site/$package" "$out/python/"
    else
        echo "left out, not installed here: $package" >&2
    fi
done
cp "$site"/_libffcv*.so "$out/python/"
for library in "$site"/_libffcv*.so; do
    ldd "$library" | awk '$3 ~ /opencv|turbojpeg|tbb/ { print $3 }' | xargs -r cp -Lt "$out/lib"
done
for library in "$out"/lib/*; do # what these need in turn
    ldd "$library" | awk '$3 ~ /^\// && $3 !~ /\/(libc|libm|libdl|libpthread|librt|ld-linux)[.-]/ { print $3 }'
done | sort -u | xargs -r cp -Lnt "$out/lib" 2>/dev/null || true
find "$out" -name __pycache__ -type d -prune -exec rm -rf {} +

size=$(du -sm "$out" | cut -f 1)
echo "$out: $size MB"
((size <= LIMIT_MB)) || { echo "error: more than $LIMIT_MB MB" >&2; exit 1; }
