#!/usr/bin/env bash
# Make .venv: an environment with this project and exactly the versions of constraints.txt.
#
#   PYTHON  the interpreter; otherwise python3, python3.12, python3.11, python3.10, the first that fits
#   TORCH   what pip installs as PyTorch, for example "torch==2.13.0" or
#           "torch==2.13.0+cu126 --extra-index-url https://download.pytorch.org/whl/cu126", or
#           "automatic", as without it: the CPU build where there is no NVIDIA GPU, otherwise
#           pip's default
#
# Does nothing when everything is in place. May be interrupted at any moment and run again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PATH=${PATH//"$PWD/.venv/bin:"/} # python3 is the system's here
unset PYTHONPATH PYTHONHOME PIP_TARGET PIP_PREFIX
export LC_ALL=C.UTF-8 PIP_USER=0 PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1

readonly VENV=.venv
readonly COMPLETE=$VENV/.setup-complete # written last: of which checkout and which files it is the result
readonly CHOSEN_TORCH=$VENV/.torch      # TORCH as it was asked for; then what that came to
readonly LOG=build/setup.log

say() { printf 'set-up: %s\n' "$*"; }

die() {
    printf 'set-up: %s\n' "$@" >&2
    exit 1
}

# run COMMAND…: output into the log, whose end is shown when the command fails.
run() {
    local status=0
    { printf '\n$ %s\n' "$*"; "$@"; } >>"$LOG" 2>&1 </dev/null || status=$?
    if ((status)); then
        tail -n 25 "$LOG" >&2
        die "failed: $*" "the whole output is in $LOG${HINT:+; $HINT}"
    fi
}

pip() { "$VENV/bin/python" -m pip "$@"; }

state() { printf '%s %s\n' "$(cat setup.cfg pyproject.toml constraints.txt Makefile setup/*.sh | cksum)" "$(pwd -P)"; }

# Same installation and version? Both may be environments made from it.
same_python() {
    local identity='import sys; print(sys.base_prefix, sys.version)'
    [[ "$("$1" -c "$identity" 2>/dev/null)" == "$("$2" -c "$identity" 2>/dev/null)" ]]
}

up_to_date() {
    [[ -f $COMPLETE && "$(cat "$COMPLETE")" == "$(state)" ]] &&
        [[ -x $VENV/bin/python ]] &&
        [[ -z ${TORCH:-} || "$(head -n 1 "$CHOSEN_TORCH")" == "$TORCH" ]] &&
        { [[ -z ${PYTHON:-} ]] || same_python "$PYTHON" "$VENV/bin/python"; }
}

supported() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' &>/dev/null; }

# Prints the interpreter to use; nothing when there is no python3 at all.
find_python() {
    local before candidate version
    if [[ -n ${PYTHON:-} ]]; then
        supported "$PYTHON" && echo "$PYTHON" && return
        version=$("$PYTHON" --version 2>&1) || version="not a working Python"
        die "PYTHON=$PYTHON is $version; needed is Python 3.10, 3.11 or 3.12"
    fi
    # An environment that is made anew keeps the interpreter that was chosen for it.
    before=$("$VENV/bin/python" -c 'import sys; print(sys._base_executable)' 2>/dev/null || true)
    for candidate in "$before" python3 python3.12 python3.11 python3.10; do
        supported "$candidate" && echo "$candidate" && return
    done
    command -v python3 >/dev/null || return 0
    die "python3 is $(python3 --version 2>&1), and there is no python3.12, python3.11 or python3.10" \
        "install one of them, then: make setup PYTHON=/path/to/python3.12"
}

# An environment that was once complete, was made here (its scripts hold its path) and has the
# interpreter asked for can be brought up to date; any other is made anew.
reusable() {
    [[ -f $COMPLETE && "$(cat "$COMPLETE")" == *" $(pwd -P)" ]] && supported "$VENV/bin/python" &&
        { [[ -z ${PYTHON:-} ]] || same_python "$PYTHON" "$VENV/bin/python"; }
}

if up_to_date; then
    say "nothing to do"
    exit
fi

[[ $PWD != *[[:space:]]* ]] || die "deepspeed cannot be started from a path with spaces: $PWD"

mkdir -p build
if command -v flock >/dev/null; then
    exec 9>build/setup.lock
    flock -n 9 || { say "waiting for another set-up of this checkout to end"; flock 9; }
    if up_to_date; then exit; fi
fi
: >"$LOG"

python=$(find_python)
bash setup/system_packages.sh "${python:-python3}" "$LOG"
python=${python:-$(find_python)}
[[ -n $python ]] || die "there is no python3"

torch_version=$(sed -n 's/^torch==//p' constraints.txt)
asked_torch=${TORCH:-$(head -n 1 "$CHOSEN_TORCH" 2>/dev/null || true)}
asked_torch=${asked_torch:-automatic}
if ! reusable; then
    say "$("$python" --version) from $python into $VENV"
    rm -rf "$VENV"
    run "$python" -m venv "$VENV"
    echo "$asked_torch" >"$CHOSEN_TORCH" # an interrupted set-up remembers it as well
fi
rm -f "$COMPLETE"
PATH=$PWD/$VENV/bin:$PATH

say "pip, setuptools, ninja"
run pip install -c constraints.txt pip setuptools wheel ninja

# torch comes first and alone: deepspeed's build asks it what the machine has.
torch=$asked_torch
if [[ $torch == automatic ]]; then
    torch="torch==$torch_version"
    nvidia-smi -L &>/dev/null || torch="$torch+cpu"
fi
grep -v '^torch==' constraints.txt >"$VENV/constraints.txt"
if [[ -f $CHOSEN_TORCH && "$(tail -n 1 "$CHOSEN_TORCH")" != "$torch" ]]; then
    run pip uninstall -y torch deepspeed # one build would count as the other
fi
say "PyTorch ($torch)"
if [[ $asked_torch == automatic && $torch == *+cpu ]]; then
    HINT="for another build: make setup TORCH='torch==$torch_version'" \
        run pip install --no-deps --retries 2 --timeout 30 \
        --extra-index-url https://download.pytorch.org/whl/cpu "$torch"
else
    # shellcheck disable=SC2086  # a request may carry options of pip
    run pip install -c "$VENV/constraints.txt" $torch
fi
printf '%s\n' "$asked_torch" "$torch" >"$CHOSEN_TORCH"
echo "torch==$("$VENV/bin/python" -c 'from importlib.metadata import version; print(version("torch"))')" \
    >>"$VENV/constraints.txt"
run pip install -c "$VENV/constraints.txt" torch # what the CPU build needs besides itself
if [[ $torch != *+cpu* ]] || [[ $asked_torch == automatic ]]; then
    bash setup/check_torch.sh "$VENV/bin/python"
fi

# Ranks on CPUs talk through an operation of deepspeed's, which would otherwise be compiled, for a
# minute, when it is first used. A wheel in pip's cache may lack it, or be of another torch.
say "deepspeed, compiled here (one or two minutes)"
# What it compiles for a GPU it compiles when that is first used; here it would ask for CUDA's toolkit.
run env DS_BUILD_SHM_COMM=1 DS_ENABLE_NINJA=1 DS_IGNORE_CUDA_DETECTION=1 "$VENV/bin/python" -m pip install --no-cache-dir --no-deps \
    --no-build-isolation -c "$VENV/constraints.txt" deepspeed

say "ffcv, compiled here (one or two minutes), and the rest"
# In this mode the package is found also where Python starts in the folder above the checkout, whose
# name is the package's.
run pip install --no-build-isolation --config-settings editable_mode=compat \
    -c "$VENV/constraints.txt" -e '.[train,export,dev]'

say "checking that everything can be imported"
run pip check
HINT="if ffcv was compiled on another system: $VENV/bin/pip cache remove ffcv" \
    run env WANDB_MODE=offline "$VENV/bin/python" -c 'import torch, deepspeed, ffcv, wandb, hdkd_dist'

state >"$COMPLETE"
say "done"
