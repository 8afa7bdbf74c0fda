#!/usr/bin/env bash
# The study on a TPU VM slice, the same command on all of its hosts.
#
#   BUCKET=my-bucket scripts/tpu_vm.sh
#
# The bucket holds models/Qwen2.5-VL-7B-Instruct, models/Qwen2.5-VL-72B-Instruct
# and geometry3k/ (train.jsonl, test.jsonl, images/); results go to runs/. Called
# again it resumes.
set -euo pipefail
cd "$(dirname "$0")/.."

NAME="${NAME:-jaxvlm}"
ZONE="${ZONE:-us-west4-a}"
TYPE="${TYPE:-v5litepod-64}"
VERSION="${VERSION:-v2-alpha-tpuv5-lite}"
: "${BUCKET:?the bucket with models and data}"

if ! gcloud compute tpus tpu-vm describe "$NAME" --zone="$ZONE" >/dev/null; then
  gcloud compute tpus tpu-vm create "$NAME" --zone="$ZONE" \
    --accelerator-type="$TYPE" --version="$VERSION"
fi
# An environment of this machine would not run on another.
packed="$(mktemp -d)"
trap 'rm -rf "$packed"' EXIT
tar --exclude=./.venv --exclude=./.git --exclude=./runs \
  -czf "$packed/jaxvlm.tgz" .
gcloud compute tpus tpu-vm scp --zone="$ZONE" --worker=all \
  "$packed/jaxvlm.tgz" "$NAME:jaxvlm.tgz"
gcloud compute tpus tpu-vm ssh "$NAME" --zone="$ZONE" --worker=all \
  --command="mkdir -p jaxvlm && tar -xzf jaxvlm.tgz -C jaxvlm && \
jaxvlm/scripts/setup_worker.sh tpu $BUCKET"
# `auto` finds the other hosts in the environment of the TPU VM. Mesh, batches and
# their parts are the scale's own: experiments/stage1_entropy/config.py, `pod`.
gcloud compute tpus tpu-vm ssh "$NAME" --zone="$ZONE" --worker=all \
  --command="jaxvlm/scripts/worker.sh --scale=pod --distributed.auto \
--distributed.timeout_s=300 --data_dir=\$HOME/bucket/geometry3k \
--model_dir=\$HOME/bucket/models/Qwen2.5-VL-7B-Instruct \
--teacher_dir=\$HOME/bucket/models/Qwen2.5-VL-72B-Instruct \
--workdir=\$HOME/bucket/runs/stage1_entropy"
