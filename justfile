# Shortcuts for daily work. Everything here is also what ./test runs; nothing is only here.

# List the recipes.
default:
    @just --list

# Install what the machine lacks: system packages and a virtual environment.
setup:
    ./scripts/setup.sh

# The whole test suite, as CI runs it.
test:
    ./test

# Formatting and lints.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# Accept changed snapshots (OpenAPI document, answers, command-line output).
snap:
    KLUIS_ACCEPT=1 INSTA_UPDATE=always TRYCMD=overwrite cargo test --workspace

# Build the wheels: `kluis` with its executables, and `kluis-azureml`.
wheel:
    ./scripts/wheel.sh

# The end-to-end tests alone: real server, runs, PostgreSQL, faults.
e2e:
    ./test e2e

# Benchmarks, each a ratio against something measured in the same run.
bench:
    ./bench/run
