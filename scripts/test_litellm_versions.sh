#!/usr/bin/env bash
# The LiteLLM tests against the versions that docs/litellm.md names: each is put before the installed one on the path.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for version in ${*:-1.80.0 1.90.0 1.106.0 1.109.1}; do
    "$python" -m pip install --quiet --no-deps --target "$folder/$version" "litellm==$version"
    tests=(tests/integrations/litellm)
    case $version in 1.80.*|1.90.*) tests=(tests/integrations/litellm/test_{paths,sdk,fallbacks,parallel}.py) ;; esac
    echo "== litellm $version"
    PYTHONPATH="$folder/$version:$PWD" "$python" -m pytest -q -p no:cacheprovider -n 2 "${tests[@]}"
done
