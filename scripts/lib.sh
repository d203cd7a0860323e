# Shared by ./quickstart, ./test and the scripts beside it. Sourced, never run.
# shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto}

if [ -t 2 ]; then BOLD=$'\e[1m' DIM=$'\e[2m' RED=$'\e[31m' PLAIN=$'\e[0m'; else BOLD='' DIM='' RED='' PLAIN=''; fi

say() { printf '%s==> %s%s\n' "$BOLD" "$*" "$PLAIN" >&2; }
note() { printf '%s    %s%s\n' "$DIM" "$*" "$PLAIN" >&2; }
die() { printf '%serror:%s %s\n' "$RED" "$PLAIN" "$*" >&2; exit 1; }

# step NAME COMMAND...: runs it, and says how long it took. Not `"$@" || die`: that would switch `set -e` off inside a
# function, and only its last command would count. What fails ends the script, and `unfinished` says which step it was.
STEP=''
step() {
  local start=$SECONDS
  STEP=$1
  shift
  say "$STEP"
  "$@"
  note "$((SECONDS - start)) s"
  STEP=''
}
unfinished() { [ -z "$STEP" ] || printf '%serror:%s %s failed\n' "$RED" "$PLAIN" "$STEP" >&2; }
trap unfinished EXIT

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else return 1; fi
}

# apt_packages NAME...: installs those of them that are missing; elsewhere than on Debian, says what is needed.
apt_packages() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} = 0 ] && return 0
  command -v apt-get >/dev/null || die "please install: ${missing[*]} (names as in Debian)"
  say "Installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  as_root apt-get update -qq >&2 || die "apt-get update failed"
  as_root apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
    die "could not install ${missing[*]}; install them by hand and start again"
}

# Every supported interpreter that the machine has, one path a line, oldest first.
pythons() {
  local minor candidate found
  for minor in 9 10 11 12 13; do
    found=''
    for candidate in "python3.$minor" "${PYENV_ROOT:-${HOME:-/}/.pyenv}"/versions/3."$minor".*/bin/python3 python3; do
      candidate=$(command -v "$candidate" 2>/dev/null) || continue
      if "$candidate" -c "import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, $minor))" 2>/dev/null; then
        found=$("$candidate" -c 'import sys; print(sys.executable)')
        break
      fi
    done
    [ -n "$found" ] && printf '%s\n' "$found"
  done
  return 0
}

# The interpreter for our own virtual environment: `python3` when it is a supported one, else the newest there is.
default_python() {
  if python3 -c 'import sys, venv, ensurepip; sys.exit(not (3, 9) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
    python3 -c 'import sys; print(sys.executable)'
  else
    pythons | tail -n 1
  fi
}

# requirements FILE...: the packages that they list, one a line.
requirements() { sed 's/ *#.*//; /^$/d' "$@" | sort -u; }

# venv DIR PYTHON PACKAGE...: makes the environment once, installs the packages when their list changes.
venv() {
  local dir=$1 python=$2 mark
  shift 2
  [ -x "$dir/bin/python" ] || "$python" -m venv "$dir" || die "no virtual environment at $dir"
  mark=$(printf '%s\n' "$@")
  if [ "$(cat "$dir/.packages" 2>/dev/null)" != "$mark" ]; then
    "$dir/bin/python" -m pip install --quiet --disable-pip-version-check "$@" || die "pip could not install: $*"
    printf '%s\n' "$@" >"$dir/.packages"
  fi
}

# The folder of initdb and postgres.
postgres_bin() {
  local dir
  dir=$(find /usr/lib/postgresql/*/bin /usr/local/pgsql/bin /opt/homebrew/opt/postgresql*/bin -maxdepth 1 -name initdb 2>/dev/null | sort -V | tail -n 1)
  [ -n "$dir" ] || dir=$(command -v initdb) || die "PostgreSQL is not installed (Debian: apt-get install postgresql)"
  dirname "$dir"
}

need_cargo() {
  command -v cargo >/dev/null ||
    die "the Rust toolchain is missing; install it as described on the Rust project's home page, then start again"
}

SYSTEM_PACKAGES=(build-essential bubblewrap iproute2 postgresql python3-venv)
# What builds the wheels: the compiled one, and the pure one (whose pyproject.toml says the same).
BUILD_PACKAGES=('maturin>=1.16,<2' 'hatchling>=1.27,<2')
