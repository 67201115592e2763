#!/bin/sh
# resnet18 with --low-memory: at most 1.35 times its weights are ever in memory, and it predicts the same class.
. "$(dirname "$0")/../lib.sh"
here=$(dirname "$0")
case $BUILD in *asan*|*tsan*) skip "a sanitizer has memory of its own" ;; esac
/usr/bin/python3 "$here/../random_model.py" "$BUILD" "$here/../../cfg/tv-resnet18.cfg" "$work/model"
does "$deploy" bench "$work/model" --low-memory --threads 1 --plan 0 --repeats 1 --seconds 0 --json
python3 - "$work/out" <<'P' || fail "too much memory"
import json, sys
b = json.load(open(sys.argv[1]))
assert 40e6 < b['weight_bytes'] < 50e6, b
assert b['weight_bytes'] < b['peak_memory_bytes'] <= 1.35 * b['weight_bytes'], (b['peak_memory_bytes'], b['weight_bytes'])
P
printf 'P6 224 224 255\n' >"$work/a.ppm"
head -c 150528 /dev/zero | tr '\0' 'x' >>"$work/a.ppm"
for how in '' --low-memory; do
    does "$deploy" predict "$work/model" "$work/a.ppm" $how --top 1
    tail -n 1 "$work/out" | sed 's/.*%//' >>"$work/classes"
done
[ "$(sort -u "$work/classes" | wc -l)" = 1 ] || fail "different classes: $(cat "$work/classes")"
