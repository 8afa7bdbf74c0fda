#!/usr/bin/env bash
# The study on a slice that is waited for: a queued resource, spot if SPOT=1.
#
#   BUCKET=my-bucket SPOT=1 scripts/queued_resource.sh
#
# Asks for the slice, waits until it is there, then does what tpu_vm.sh does.
# A spot slice that is taken back gets SIGTERM: the run saves and leaves with
# code 75. Call this again then; it asks for a new slice and resumes.
set -euo pipefail
cd "$(dirname "$0")/.."

export NAME="${NAME:-jaxvlm}"
export ZONE="${ZONE:-us-west4-a}"
export TYPE="${TYPE:-v5litepod-64}"
export VERSION="${VERSION:-v2-alpha-tpuv5-lite}"

state() {
  gcloud compute tpus queued-resources describe "$NAME" --zone="$ZONE" \
    --format="value(state.state)" 2>/dev/null || true
}

case "$(state)" in
  FAILED | SUSPENDED)
    gcloud compute tpus queued-resources delete "$NAME" --zone="$ZONE" \
      --force --quiet ;;
esac
if [[ -z "$(state)" ]]; then
  gcloud compute tpus queued-resources create "$NAME" --node-id="$NAME" \
    --zone="$ZONE" --accelerator-type="$TYPE" --runtime-version="$VERSION" \
    ${SPOT:+--spot}
fi
until now="$(state)" && [[ "$now" == ACTIVE ]]; do
  if [[ "$now" == FAILED || "$now" == SUSPENDED ]]; then
    echo "queued resource $NAME is $now, expected ACTIVE: call this again" >&2
    exit 1
  fi
  sleep "${PAUSE_S:-60}"
done
exec scripts/tpu_vm.sh
