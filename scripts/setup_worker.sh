#!/usr/bin/env bash
# Prepares a fresh machine: the environment, and the bucket as a folder.
#
#   scripts/setup_worker.sh tpu|cuda13 [BUCKET]
#
# Checkpoints and logs need a folder that all hosts see; a bucket is mounted
# with gcsfuse, which TPU VM images have. A checkpoint is committed by renaming
# its folder, which gcsfuse refuses without a limit.
set -euo pipefail
cd "$(dirname "$0")/.."

# The images of v5e have Python 3.10, and jax needs 3.11.
python="$(command -v python3.13 python3.12 python3.11 | head -n 1 || true)"
if [[ -z "$python" ]]; then
  sudo apt-get update -q
  sudo apt-get install -q -y python3.11-venv
  python=python3.11
fi
"$python" -m venv .venv
.venv/bin/python -m pip install --quiet --upgrade pip
.venv/bin/python -m pip install --quiet -e . "jax[$1]"
if [[ -n "${2:-}" ]]; then
  mkdir -p "$HOME/bucket"
  mountpoint -q "$HOME/bucket" || gcsfuse --implicit-dirs \
    --rename-dir-limit=200000 "$2" "$HOME/bucket"
fi
