#!/usr/bin/env bash
# What every host of a slice runs; also what a single machine may run.
#
#   scripts/worker.sh FLAGS_OF_THE_STUDY…
#
# Starts the study again after what the next start mends: 75 and 143 preemption
# notices, 76 and 134 another process was lost, 137 killed
# (docs/pods-start.md). Any other error ends it.
set -uo pipefail
cd "$(dirname "$0")/.."

for _ in $(seq "${ATTEMPTS:-20}"); do
  "${PYTHON:-.venv/bin/python}" -m experiments.stage1_entropy.run "$@"
  code=$?
  case $code in
    75 | 76 | 134 | 137 | 143) sleep "${PAUSE_S:-10}" ;;
    *) exit "$code" ;;
  esac
done
exit "$code"
