#!/usr/bin/env bash
# Collect what a bare machine with a GPU and torch needs to run benchmarks/gpu.py, without a network:
#
#     bash benchmarks/gpu_bundle.sh OUT [PYTHON [VERSION]]                       # here
#     LD_LIBRARY_PATH=OUT/lib PYTHONPATH=OUT/python:. python benchmarks/gpu.py    # there
#
# OUT must be an absolute path there, for some parts run in folders of their own.
#
#   PYTHON   has this project installed; .venv/bin/python by default
#   VERSION  of the other machine's Python, such as 3.12; by default that of PYTHON
#
# OUT gets DeepSpeed as pure Python, FFCV compiled here with the shared libraries it is linked to, and
# the small packages. Not in it: torch, numpy, scipy, numba, scikit-learn, pandas, matplotlib, opencv
# and what else the machine has already. The two machines must have the same processor family and a
# glibc no older than this one's.
set -euo pipefail

readonly LIMIT_MB=40
[[ $# -ge 1 ]] || { echo "usage: bash benchmarks/gpu_bundle.sh OUT [PYTHON [VERSION]]" >&2; exit 2; }
out=$1
python=${2:-$(dirname "$0")/../.venv/bin/python}
[[ -x $python ]] || { echo "error: $python is missing: run make setup first" >&2; exit 2; }
mkdir -p "$out/python" "$out/lib"

ask() { "$python" -c "$1"; }
version_of() { ask "import importlib.metadata as m; print(m.version('$1'))"; }
site=$(ask 'import sysconfig; print(sysconfig.get_path("purelib"))')
here=$(ask 'import sys; print("%d.%d" % sys.version_info[:2])')
there=${3:-$here}

# DeepSpeed compiles nothing here: what it has compiled on this machine may not fit the other.
DS_BUILD_OPS=0 DS_BUILD_SHM_COMM=0 "$python" -m pip install --quiet --no-deps --upgrade \
    --no-build-isolation --no-binary deepspeed --target "$out/python" \
    "deepspeed==$(version_of deepspeed)"

packages=(ffcv annotated_types pydantic typing_inspection typing_extensions.py hjson fire termcolor
    fastargs terminaltables assertpy pytorch_pfn_extras tqdm einops cpuinfo)
compiled=(pydantic-core safetensors psutil msgpack) # for one version of Python
for package in "${packages[@]}"; do
    if [[ -e $site/$package ]]; then
        cp -r "$site/$package" "$out/python/"
    else
        echo "left out, not installed here: $package" >&2
    fi
done
wanted=()
for package in "${compiled[@]}"; do
    wanted+=("$package==$(version_of "$package")")
done
platforms=(--platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64
    --platform manylinux_2_12_x86_64 --platform manylinux2010_x86_64 --platform manylinux1_x86_64)
"$python" -m pip install --quiet --no-deps --upgrade --only-binary :all: --target "$out/python" \
    --implementation cp --python-version "$there" "${platforms[@]}" "${wanted[@]}"

# FFCV's library uses nothing of Python that changes between versions; its name must not say one.
mv "$out"/python/ffcv/_libffcv.cpython-*.so "$out/python/ffcv/_libffcv.so"
ldd "$out/python/ffcv/_libffcv.so" | awk '$3 ~ /opencv|turbojpeg|tbb/ { print $3 }' | xargs -r cp -Lt "$out/lib"
for library in "$out"/lib/*; do # what these need in turn; torch brings libstdc++
    ldd "$library" | awk '$3 ~ /^\// && $3 !~ /\/(libc|libm|libdl|libpthread|librt|libstdc..|libgcc_s|ld-linux)[.-]/ { print $3 }'
done | sort -u | xargs -r cp -Lnt "$out/lib" 2>/dev/null || true
find "$out" -name __pycache__ -type d -prune -exec rm -rf {} +
rm -rf "$out/python/bin"
# All that is compiled there, and only where ranks compute on CPUs, is in csrc/cpu/comm.
find "$out/python/deepspeed/ops/csrc/" -type f -not -path '*/csrc/cpu/comm/*' -delete
find "$out" -name '*.so*' -type f -exec strip --strip-unneeded {} +

size=$(du -sm --apparent-size "$out" | cut -f 1)
echo "$out: $size MB, for Python $there"
((size <= LIMIT_MB)) || { echo "error: more than $LIMIT_MB MB" >&2; exit 1; }
