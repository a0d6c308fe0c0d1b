#!/usr/bin/env bash
# Build the environments of the peers, below benchmarks/.peers. Grange's own contenders, and those written by hand
# with Polars, DuckDB and pandas, run in the development environment (.venv).
set -euo pipefail
cd "$(dirname "$0")"
python="${PYTHON:-python3.11}"

if [ ! -x .peers/feast/bin/feast ]; then
  echo "building .peers/feast (a few minutes)"
  "$python" -m venv --clear .peers/feast
fi
.peers/feast/bin/python -m pip install --disable-pip-version-check --quiet --upgrade 'feast[duckdb,redis]'
.peers/feast/bin/python -c 'from importlib.metadata import version; print("feast", version("feast"))'

if ! command -v "${REDIS_SERVER:-redis-server}" > /dev/null; then
  echo "redis-server is not installed: contenders that need it will be skipped (Debian: apt-get install redis-server)"
fi
