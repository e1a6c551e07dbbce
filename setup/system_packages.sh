#!/usr/bin/env bash
# system_packages.sh PYTHON [LOG]: install what ffcv and deepspeed are compiled and run with, as far
# as it is missing. Without the rights to do so, print the command that does.
set -euo pipefail

python=$1
log=${2:-/dev/stderr}
export DEBIAN_FRONTEND=noninteractive

say() { printf 'set-up: %s\n' "$*"; }

# The packages, by their Debian and Ubuntu names, whose contents are not there.
missing_packages() {
    local version
    command -v g++ >/dev/null || echo g++
    command -v pkg-config >/dev/null || echo pkg-config
    pkg-config --exists opencv4 2>/dev/null || pkg-config --exists opencv 2>/dev/null || echo libopencv-dev
    pkg-config --exists libturbojpeg 2>/dev/null || echo libturbojpeg0-dev
    command -v numactl >/dev/null || echo numactl
    if ! command -v "$python" >/dev/null; then
        printf '%s\n' python3 python3-dev python3-venv
        return
    fi
    version=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
    "$python" -c 'import os, sysconfig
raise SystemExit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' ||
        echo "$version-dev"
    "$python" -c 'import ensurepip, venv' 2>/dev/null || echo "$version-venv"
}

mapfile -t missing < <(missing_packages)
((${#missing[@]})) || exit 0

if ! command -v apt-get >/dev/null; then
    say "missing; named as on Debian and Ubuntu: ${missing[*]}" >&2
    say "install them with this system's own package manager, then run make setup again" >&2
    exit 1
fi

install=(apt-get -o DPkg::Lock::Timeout=600 install -y --no-install-recommends "${missing[@]}")
allowed=yes
if [[ $(id -u) == 0 ]]; then
    as_root=()
elif sudo -n true &>/dev/null; then
    as_root=(sudo -n)
elif [[ -t 0 && -t 2 ]] && command -v sudo >/dev/null; then
    say "installing system packages needs sudo: ${missing[*]}"
    as_root=(sudo)
    sudo -v || allowed=
else
    allowed=
fi
if [[ ! $allowed ]]; then
    say "these system packages are missing, and only root can install them; please run" >&2
    printf '\n    sudo apt-get update && sudo apt-get install -y --no-install-recommends %s\n\n' "${missing[*]}" >&2
    say "and then make setup again" >&2
    exit 1
fi

# A package source that cannot be reached need not be one that is needed: installing decides.
say "system packages: ${missing[*]}"
apt() { "${as_root[@]}" env DEBIAN_FRONTEND="$DEBIAN_FRONTEND" "$@" </dev/null &>>"$log"; }
apt dpkg --configure -a || true # finishes an earlier, interrupted installation
apt apt-get -o DPkg::Lock::Timeout=600 update || true
if ! apt "${install[@]}"; then
    tail -n 25 "$log" >&2
    say "failed: ${install[*]}" >&2
    exit 1
fi

mapfile -t missing < <(missing_packages)
if ((${#missing[@]})); then
    say "still not found after installing: ${missing[*]}" >&2
    exit 1
fi
