#!/usr/bin/env bash
# The study with the 3B student on one GPU.
#
#   DATA=/data scripts/gpu.sh
#
# The folder holds models/Qwen2.5-VL-3B-Instruct, models/Qwen2.5-VL-7B-Instruct
# and geometry3k/ (train.jsonl, test.jsonl, images/); results go to runs/. Called
# again it resumes.
set -euo pipefail
cd "$(dirname "$0")/.."

: "${DATA:?the folder with models and data}"
# An environment without JAX's CUDA plugin would train on the CPU.
has_cuda="import importlib.util as u; assert u.find_spec('jax_cuda13_plugin')"
[[ -n "${PYTHON:-}" ]] || .venv/bin/python -c "$has_cuda" 2>/dev/null ||
  scripts/setup_worker.sh cuda13
exec scripts/worker.sh --scale=colab --data_dir="$DATA/geometry3k" \
  --model_dir="$DATA/models/Qwen2.5-VL-3B-Instruct" \
  --teacher_dir="$DATA/models/Qwen2.5-VL-7B-Instruct" \
  --workdir="$DATA/runs/stage1_entropy"
