#!/usr/bin/env bash
# Installs what building and running needs: system packages and the virtual environment .venv.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

need_cargo
apt_packages "${SYSTEM_PACKAGES[@]}"
python=$(default_python)
[ -n "$python" ] || die "no Python between 3.9 and 3.13 was found"
venv .venv "$python" "${BUILD_PACKAGES[@]}"
