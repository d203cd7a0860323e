#!/usr/bin/env bash
# Builds the wheel `kluis`: the SDK's extension and the executables kluis and kluis-launch. Prints the wheel's path.
# PROFILE=dev (as ./quickstart and ./test do) or release (default). BINARIES=DIR takes the executables from there instead of
# building them.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

profile=${PROFILE:-release}
folder=$profile
[ "$profile" = dev ] && folder=debug
target=${CARGO_TARGET_DIR:-target}

# What is newer than the last wheel decides whether there is anything to do.
last=dist/last-$profile
if [ -e "$last" ] && [ -e "$(cat "$last")" ] &&
  [ -z "$(find crates python/src python/python python/*.toml Cargo.* .cargo scripts/wheel.sh -newer "$last" -not -name '*.pyc' -not -name __pycache__ -print -quit)" ]; then
  cat "$last"
  exit
fi

binaries=${BINARIES:-$target/$folder}
[ -n "${BINARIES:-}" ] || cargo build --locked --profile "$profile" -p kluis-cli -p kluis-launch >&2
scripts=python/kluis.data/scripts
mkdir -p "$scripts"
for binary in kluis kluis-launch; do
  # A new file, never overwritten in place: a copy that is running stays whole.
  cp "$binaries/$binary" "$scripts/.$binary.new"
  if [ "$profile" = dev ]; then strip --strip-debug "$scripts/.$binary.new"; fi
  mv "$scripts/.$binary.new" "$scripts/$binary"
done
rm -rf dist/wheel.new
features=()
# Beside programs that were built here just now, their dependencies are taken as they are.
if [ "$profile" = dev ] && [ -z "${BINARIES:-}" ]; then features=(--features one-build); fi
.venv/bin/maturin build --quiet --locked --profile "$profile" "${features[@]}" --manifest-path python/Cargo.toml --out dist/wheel.new >&2
wheel=$(find dist/wheel.new -name '*.whl')
mv "$wheel" dist/
rm -r dist/wheel.new
rm -f dist/last-*
printf '%s\n' "dist/$(basename "$wheel")" | tee "$last"
