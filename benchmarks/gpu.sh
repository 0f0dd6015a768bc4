#!/usr/bin/env bash
# On a machine with a GPU, unattended: benchmarks/gpu.sh WORK [WEIGHTS [SET]]
#
# GPU tests, the kernels' rows, the stages' throughput and peak memory at 500 x 375 with the settings of both presets,
# and one whole run on a set of benchmarks.any_set (voc_small by default; needs WEIGHTS, a file of MobileNetV2's).
# Prefect is not needed. Records go to benchmarks/results; PYTHON says which Python. A part that fails is named, and the
# others go on.
set -uo pipefail
cd "$(dirname "$0")/.."
WORK=${1:?a folder for sets and artifacts}
WEIGHTS=${2:-}
SET=${3:-voc_small}
PYTHON=${PYTHON:-python3}
failed=()

part() {
    local name=$1
    shift
    echo "== $name: $*"
    "$@" || failed+=("$name")
}

"$PYTHON" -c 'import torch; assert torch.cuda.is_available(), "no CUDA device"; print(torch.cuda.get_device_name())' || exit 1
part tests "$PYTHON" -m pytest -q -m gpu tests/kernels tests/models tests/tasks
part kernels "$PYTHON" -m benchmarks
part memory "$PYTHON" -m benchmarks.networks --device cuda
part quick "$PYTHON" -m benchmarks.pipeline --work "$WORK" --images 256
part voc12 "$PYTHON" -m benchmarks.pipeline --work "$WORK" --images 256 --preset voc12
if [ -n "$WEIGHTS" ]; then
    part run "$PYTHON" -m benchmarks.pipeline --work "$WORK" --set-name "$SET" --weights "$WEIGHTS"
fi
if [ ${#failed[@]} -gt 0 ]; then
    echo "failed: ${failed[*]}"
    exit 1
fi
