#!/bin/sh
# Latency of the reference networks at every level (those for larger images at
# 224x224, whatever their cfg trains at), random weights, on one
# pinned core and on all, beside the FMA peak and the read bandwidth of the same
# run. NETWORKS, SECONDS_EACH (for each level) and THREADS (a list) override.
set -eu
deploy=$1
dir=$(dirname "$0")/../../cfg
networks=${NETWORKS:-vgg-16 tv-resnet18 tv-resnet50 mobilenet mobilenetv2 resnet20 vgg16-cifar}
cores=$(nproc)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for network in $networks; do
    if [ ! -f "$dir/$network.cfg" ]; then
        echo "SKIP: there is no cfg/$network.cfg"
        continue
    fi
    sed -E 's/^(width|height) *= *([0-9]{3,})$/\1=224/' "$dir/$network.cfg" >"$work/$network.cfg"
    for threads in ${THREADS:-1 $([ "$cores" = 1 ] || echo "$cores")}; do
        echo "== $network, $threads thread(s)"
        taskset -c "0-$((threads - 1))" "$deploy" bench "$work/$network.cfg" --threads "$threads" \
            --seconds "${SECONDS_EACH:-1}" --repeats 5
    done
done
