#!/usr/bin/env bash
# Prepares a fresh machine: the environment, and the bucket as a folder.
#
#   scripts/setup_worker.sh tpu|cuda13 [BUCKET]
#
# Checkpoints and logs need a folder that all hosts see; a bucket is mounted
# with gcsfuse, which TPU VM images have.
set -euo pipefail
cd "$(dirname "$0")/.."

python3 -m venv .venv
.venv/bin/python -m pip install --quiet --upgrade pip
.venv/bin/python -m pip install --quiet -e . "jax[$1]"
if [[ -n "${2:-}" ]]; then
  mkdir -p "$HOME/bucket"
  mountpoint -q "$HOME/bucket" || gcsfuse --implicit-dirs "$2" "$HOME/bucket"
fi
