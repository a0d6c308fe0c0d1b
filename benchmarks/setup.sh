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

# mlforge needs Python 3.13; MLFORGE_PYTHON says where it is
mlforge_python="${MLFORGE_PYTHON:-python3.13}"
if [ ! -x .peers/mlforge/bin/python ] && "$mlforge_python" -c '' 2> /dev/null; then
  echo "building .peers/mlforge"
  "$mlforge_python" -m venv --clear .peers/mlforge
  .peers/mlforge/bin/python -m pip install --disable-pip-version-check --quiet 'mlforge-sdk[duckdb]==0.7.0'
fi
[ -x .peers/mlforge/bin/python ] || echo "$mlforge_python is not installed: mlforge will be skipped"

if ! command -v "${REDIS_SERVER:-redis-server}" > /dev/null; then
  echo "redis-server is not installed: contenders that need it will be skipped (Debian: apt-get install redis-server)"
fi
