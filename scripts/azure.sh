#!/usr/bin/env bash
# Installs the real Azure packages for e2e/azure, each at the exact version that stands in e2e/azure, beside each other.
# What this machine can not run is said aloud and its tests are skipped; in CI that is a failure.
#
#   scripts/azure.sh          installs what is missing
#   scripts/azure.sh pin      takes the newest versions and writes them down
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$ROOT"
here=e2e/azure

# interpreter 3.MINOR: its path, or nothing.
interpreter() {
  local python
  while read -r python; do
    if "$python" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$1')"; then printf '%s\n' "$python"; fi
  done < <(pythons)
}

wanting() {
  [ -z "${CI:-}" ] || die "missing in CI: $*"
  printf '%sSKIPPED FOR WANT OF %s%s\n' "$RED" "$*" "$PLAIN" >&2
}

# Everything is listed, so nothing is looked for; modules are compiled when they are first used.
python_packages() {
  local dir=$1 python=$2 packages
  mapfile -t packages < <(requirements "$3")
  venv "$dir" "$python" --no-compile --no-deps "${packages[@]}"
}

azureml() {
  local python=.venvs/azureml-$1/bin/python
  [ -x "$python" ] || python=$(interpreter "$1")
  if [ -n "$python" ]; then python_packages ".venvs/azureml-$1" "$python" $here/requirements-azureml.txt; else wanting "Python $1"; fi
}

javascript() {
  if ! node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2>/dev/null || ! command -v npm >/dev/null; then
    wanting "Node.js 20 with npm"
    return
  fi
  cmp -s $here/package-lock.json $here/node_modules/.installed && return
  (cd $here && npm ci --ignore-scripts --no-audit --no-fund --silent)
  cp $here/package-lock.json $here/node_modules/.installed
}

# pin PYTHON FILE PACKAGE...: what an empty environment gets for these packages; the file's comment stays.
pin() {
  local python=$1 file=$2 scratch
  shift 2
  scratch=$(mktemp -d)
  "$python" -m venv "$scratch"
  "$scratch/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile "$@"
  { sed -n '/^#/p' "$file"; "$scratch/bin/python" -m pip freeze --disable-pip-version-check; } >"$file.new"
  mv "$file.new" "$file"
  rm -r "$scratch"
}

if [ "${1:-}" = pin ]; then
  pin "$(default_python)" $here/requirements-azure.txt azure-keyvault-secrets azure-identity aiohttp
  pin "$(interpreter 3.10)" $here/requirements-azureml.txt azureml-core
  (cd $here && npm install --ignore-scripts --save-exact @azure/identity@latest @azure/keyvault-secrets@latest)
  exit
fi

# Four downloads side by side; `wait` gives each one's fate.
jobs=()
python_packages .venvs/azure "$(default_python)" $here/requirements-azure.txt & jobs+=($!)
azureml 3.10 & jobs+=($!)
azureml 3.12 & jobs+=($!)
javascript & jobs+=($!)
failed=0
for job in "${jobs[@]}"; do wait "$job" || failed=1; done
exit $failed
