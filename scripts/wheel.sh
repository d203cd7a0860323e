#!/usr/bin/env bash
# Builds both wheels into dist/ and prints their paths, one a line: `kluis`, with the SDK's extension and the executables kluis
# and kluis-launch; and `kluis-azureml`, which is pure Python. What has not changed is not built again.
# PROFILE=dev (as ./quickstart and ./test do) or release (default). BINARIES=DIR takes the executables from there instead of
# building them.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

profile=${PROFILE:-release}
folder=$profile
[ "$profile" = dev ] && folder=debug
target=${CARGO_TARGET_DIR:-target}

# newer MARK PATH...: whether anything in the paths is newer than the wheel that the mark names, or that is gone.
newer() {
  local mark=$1
  shift
  [ ! -e "$mark" ] || [ ! -e "$(cat "$mark")" ] ||
    [ -n "$(find "$@" -newer "$mark" -not -name '*.pyc' -not -name __pycache__ -print -quit)" ]
}

# keep MARK: the one wheel in dist/wheel.new becomes the one that the mark names.
keep() {
  local wheel
  wheel=$(find dist/wheel.new -name '*.whl')
  mv "$wheel" dist/
  rm -r dist/wheel.new
  printf '%s\n' "dist/$(basename "$wheel")" >"$1"
}

native() {
  local binaries=${BINARIES:-$target/$folder} scripts=python/kluis.data/scripts binary features=()
  [ -n "${BINARIES:-}" ] || cargo build --locked --profile "$profile" -p kluis-cli -p kluis-launch >&2
  mkdir -p "$scripts"
  for binary in kluis kluis-launch; do
    # A new file, never overwritten in place: a copy that is running stays whole.
    cp "$binaries/$binary" "$scripts/.$binary.new"
    if [ "$profile" = dev ]; then strip --strip-debug "$scripts/.$binary.new"; fi
    mv "$scripts/.$binary.new" "$scripts/$binary"
  done
  rm -rf dist/wheel.new
  # Beside programs that were built here just now, their dependencies are taken as they are.
  if [ "$profile" = dev ] && [ -z "${BINARIES:-}" ]; then features=(--features one-build); fi
  .venv/bin/maturin build --quiet --locked --profile "$profile" "${features[@]}" --manifest-path python/Cargo.toml --out dist/wheel.new >&2
  rm -f dist/last-dev dist/last-release
  keep "$last"
}

pure() {
  rm -rf dist/wheel.new
  .venv/bin/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist/wheel.new \
    ./python-azureml >&2
  keep "$last_pure"
}

last=dist/last-$profile last_pure=dist/last-azureml
mkdir -p dist
! newer "$last" crates python/src python/python python/*.toml Cargo.* .cargo scripts/wheel.sh || native
! newer "$last_pure" python-azureml/azureml python-azureml/*.toml python-azureml/*.md scripts/wheel.sh || pure
cat "$last" "$last_pure"
