#!/usr/bin/env bash
# Runs cells of the matrix, several at a time, each on devices of its own:
#
#   tools/run_cells.sh                      all unfinished cells, then the rest of the pipeline
#   tools/run_cells.sh --remote rl-0 rl-1   these cells only, from the DVC remote and back to it
#
# DEVICES has one word per process, its CUDA_VISIBLE_DEVICES. Unset: one process per GPU.
#   DEVICES="0 1 2 3"   four processes on four GPUs; without a GPU, just four processes
#   DEVICES="0 0"       two processes share GPU 0
#   DEVICES="0,1 2,3"   two processes with two GPUs each
#
# `dvc repro` is serial, but DVC's lock is free while a stage's command runs, so one `dvc repro` per cell may run
# beside others. It must be `--single-item`: without it each would want to write what all cells share.
set -euo pipefail
cd "$(dirname "$0")/.."

all_devices() {
  if [ -n "${CUDA_VISIBLE_DEVICES:-}" ]; then
    echo "${CUDA_VISIBLE_DEVICES//,/ }"
  elif command -v nvidia-smi >/dev/null; then
    nvidia-smi --query-gpu=index --format=csv,noheader | xargs
  else
    echo 0
  fi
}

unfinished_cells() { # METHOD-SEED, one per line
  dvc status | sed -nE 's/^(train|evaluate)@(.*):$/\2/p' | awk '!seen[$0]++'
}

is_up_to_date() { # but for local_inputs, which DVC calls changed at all times
  ! dvc status | sed -nE 's/^([^[:space:]].*):$/\1/p' | grep -vxq local_inputs
}

run_cell() { # METHOD-SEED; $SLOT is the number of the process, from 0
  local cell=$1 log=checkpoints/logs/$1.log devices
  read -ra devices <<<"$DEVICES"
  export CUDA_VISIBLE_DEVICES=${devices[$SLOT]}
  echo "$cell: running on device $CUDA_VISIBLE_DEVICES, log in $log"
  if (repro_cell "$cell") >"$log" 2>&1; then
    echo "$cell: done"
  else
    printf '%s: failed, the end of %s is:\n%s\n' "$cell" "$log" "$(tr '\r' '\n' <"$log" | tail -n 20)" >&2
    echo "$cell" >>"$FAILED"
    return 1 # 255, which dvc may return, would make xargs drop the other cells
  fi
}

repro_cell() {
  dvc --wait-for-lock repro ${PULL:+"$PULL"} --single-item "train@$1" "evaluate@$1" || return
  if [ -n "$PULL" ]; then python -m tools.push_stage "evaluate@$1"; fi
}

export -f run_cell repro_cell
export DEVICES=${DEVICES:-$(all_devices)} PULL=
if [ "${1:-}" = --remote ]; then
  PULL=--pull
  shift
else
  dvc repro --quiet local_inputs # which says what is wrong in params.yaml
  if is_up_to_date; then
    echo "Nothing to do: all cells and the report are up to date."
    exit
  fi
fi

mkdir -p checkpoints/logs
export FAILED=checkpoints/logs/failed
: >"$FAILED"
trap '[ -s "$FAILED" ] || rm -f "$FAILED"' EXIT
dvc repro ${PULL:+"$PULL"} evaluate_teacher curriculum_code # the last stages that all cells share
cells=${*:-$(unfinished_cells)}
processes=$(wc -w <<<"$DEVICES")
if ! xargs -r -n 1 -P "$processes" --process-slot-var=SLOT bash -c 'run_cell "$1"' run_cell <<<"$cells"; then
  echo "error: these cells failed: $(xargs <"$FAILED"); mend the cause and run the same command again" >&2
  exit 1
fi
if [ -z "$PULL" ]; then dvc repro; fi
