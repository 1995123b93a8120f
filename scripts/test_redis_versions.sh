#!/usr/bin/env bash
# The tests of the Redis backend with the oldest redis-py that it states and the newest, each put before the one that is installed.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for version in ${*:-5.0.8 8.1.0}; do
    "$python" -m pip install --quiet --no-deps --target "$folder/$version" "redis==$version"
    echo "== redis $version"
    PYTHONPATH="$folder/$version:$PWD" "$python" -m pytest -q -p no:cacheprovider -n 2 tests/backends tests/resilience -k "not mutant"
done
