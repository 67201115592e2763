#!/bin/sh
# The main job on an embedded default: draw a labelled dataset, train a small
# network to survive pruning, and stream the test frames through three workers
# on loopback while real processes compete for one worker's core: once with
# fixed full-size slices, once with the adaptive controller.
#   tests/demo.sh DIR
# Writes DIR/summary.json, DIR/timeline.png and DIR/accuracy.png.
set -eu
dir=$1
cd "$(dirname "$0")/.."
train=build/espalier-train deploy=build/espalier-deploy
mkdir -p "$dir"
began=$(date +%s)
say() { printf '\n== %s\n' "$*" >&2; }

seconds=24              # of a run; the competitors work from a quarter to three quarters of it
competitors=3           # processes that compete for the core of worker 2
slo_ms=100              # a frame's deadline, from due to durably stored
isa=ref                 # the workers' kernels: plain C, so that computing is the work, as on a Pi
source=0 contended=1    # cores: the runner and workers 1 and 3; worker 2
[ "$(nproc)" -gt 1 ] || contended=0

pids= hogs=
cleanup() { kill $pids $hogs 2>/dev/null || :; wait 2>/dev/null || :; }
trap cleanup EXIT
trap 'exit 130' INT TERM

# ---- train ------------------------------------------------------------------
say "Drawing a labelled camera-trap dataset"
"$train" synth "$dir/data" --seed 1
say "Training cfg/trap.cfg to survive pruning"
"$train" train "$dir/data/synth.data" cfg/trap.cfg -o "$dir/trap.safetensors" --seed 1
say "Training it plainly, ordered afterwards, to compare with"
"$train" train "$dir/data/synth.data" cfg/trap.cfg -o "$dir/plain.safetensors" --seed 1 --hold-out 0 --robust none
say "Accuracy on the test images, level by level"
for model in trap plain; do
    "$train" eval "$dir/data/synth.data" "$dir/$model.safetensors" --split test --levels all --json >"$dir/$model.jsonl"
done

# ---- stream -----------------------------------------------------------------
wait_for() { # COMMAND...: until it succeeds, at most a minute
    n=0
    until "$@" >/dev/null 2>&1; do
        n=$((n + 1))
        [ $n -lt 600 ] || { echo "still waiting for: $*" >&2; exit 1; }
        sleep 0.1
    done
}
start_worker() { # N CORE
    rm -f "$dir/worker$1.address"
    taskset -c "$2" "$deploy" worker --listen 'tcp://127.0.0.1:*' --address-file "$dir/worker$1.address" \
        --cache "$dir/cache" --threads 1 --cpu-mask "$isa" >"$dir/worker$1.log" 2>&1 &
    pids="$pids $!"
    wait_for test -s "$dir/worker$1.address"
    printf '[worker]\nname=w%s\naddress=%s\n' "$1" "$(cat "$dir/worker$1.address")" >>"$dir/cluster.cfg"
}
stream() { # NAME OPTIONS...
    name=$1; shift
    rm -f "$dir/$name.db" "$dir/$name.db-wal" "$dir/$name.db-shm"
    taskset -c "$source" "$deploy" run "$dir/cluster.cfg" "$dir/trap.safetensors" "$dir/data/test" --shuffle 1 \
        --results "$dir/$name.db" --summary "$dir/$name.json" "$@"
}
results() { sqlite3 "$dir/$1.db" 'SELECT 1 FROM results LIMIT 1' | grep -q 1; }
contend() { # NAME: competitors come at a quarter of the run, and go at three quarters
    wait_for results "$1"
    sleep $((seconds / 4))
    date +%s.%N >"$dir/$1.contended"
    for _ in $(seq $competitors); do
        taskset -c "$contended" sh -c 'while :; do :; done' &
        hogs="$hogs $!"
    done
    sleep $((seconds / 2))
    kill $hogs
    date +%s.%N >>"$dir/$1.contended"
    wait $hogs 2>/dev/null || :
    hogs=
}
summary() { sed -n "s/.*\"$2\":[[:space:]]*\([0-9.eE+-]*\).*/\1/p" "$dir/$1.json" | head -n 1; }

: >"$dir/cluster.cfg"
start_worker 1 $source
start_worker 2 $contended
start_worker 3 $source
say "How many frames a second the three workers can take, undisturbed"
stream capacity --frames 500 --policy static
fps=$(awk "BEGIN {printf \"%d\", 0.6 * $(summary capacity fps)}")
frames=$((fps * seconds))

for policy in static exact; do
    say "$frames frames at $fps a second, deadline $slo_ms ms, policy $policy; $competitors processes compete with worker 2"
    contend $policy &
    contender=$!
    stream $policy --frames $frames --policy $policy --fps "$fps" --slo-ms $slo_ms
    wait $contender
done

# ---- show -------------------------------------------------------------------
say "Results in $dir"
fields="attainment p50_ms p95_ms fps accuracy lost switches"
{
    for policy in static exact; do
        [ $policy = static ] && printf '{"static": {' || printf ',\n "adaptive": {'
        separator=
        for field in $fields; do
            printf '%s"%s": %s' "$separator" $field "$(summary $policy $field)"
            separator=', '
        done
        printf '}'
    done
    printf '}\n'
} >"$dir/summary.json"
windows=
for policy in static exact; do # times from the first frame on, those of the competitors, too
    began_s=$(sqlite3 "$dir/$policy.db" 'SELECT printf("%.3f", started + min(due_ms) / 1000.0) FROM runs JOIN frames USING (run_id)')
    windows="$windows $(awk -v began_s="$began_s" -v policy=$policy \
        '{print policy (NR == 1 ? "_from=" : "_to=") $1 - began_s ";"}' "$dir/$policy.contended")"
    sqlite3 -separator ' ' "$dir/$policy.db" \
        "SELECT (due_ms - (SELECT min(due_ms) FROM frames)) / 1000.0, latency_ms, replace(levels, ',', ' ') FROM timeline WHERE latency_ms IS NOT NULL ORDER BY seq" \
        >"$dir/$policy.dat"
done
for model in trap plain; do
    sed -n 's/.*"plan":"\([0-9]*\)".*"accuracy":\([0-9.]*\).*/\1 \2/p' "$dir/$model.jsonl" >"$dir/$model.dat"
done
gnuplot -e "dir='$dir'; slo=$slo_ms; $windows" tests/demo.gnuplot
printf '%-34s %12s %12s\n' "" "static" "adaptive"
row() { printf '%-34s %12s %12s\n' "$1" "$(awk "BEGIN {printf \"$3\", $4 $(summary static "$2")}")" "$(awk "BEGIN {printf \"$3\", $4 $(summary exact "$2")}")"; }
row "SLO attainment ($slo_ms ms), %" attainment %.1f '100 *'
row "latency p50, ms" p50_ms %.1f ''
row "latency p95, ms" p95_ms %.1f ''
row "throughput, frames/s" fps %.1f ''
row "accuracy, %" accuracy %.1f '100 *'
row "frames lost" lost %d ''
row "level switches" switches %d ''
printf '\n%s/timeline.png  latency and levels over time\n%s/accuracy.png  accuracy against level, robust and plain training\n' "$dir" "$dir"
printf 'took %d seconds\n' $(($(date +%s) - began))
