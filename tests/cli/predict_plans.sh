#!/bin/sh
# predict against numpy: every level, plans with a cut, every instruction set, threads; JSON and text.
. "$(dirname "$0")/../lib.sh"
here=$(dirname "$0")
/usr/bin/python3 "$here/tiny_model.py" "$work"
predict() { $RUN "$BUILD/espalier-deploy" predict "$work/tiny.safetensors" "$@"; }

# agrees PLAN: the JSON lines on stdin are those of a.ppm and b.ppm under the plan.
agrees() {
    python3 - "$work" "$1" <<'P'
import json, sys
folder, plan = sys.argv[1:]
expected = json.load(open(folder + '/expected.json'))
lines = [json.loads(line) for line in open(folder + '/out')]
assert [line['file'] for line in lines] == [folder + '/a.ppm', folder + '/b.ppm'], lines
labels = ['fox', 'badger', 'roe deer', 'nothing']
for line, name in zip(lines, 'ab'):
    want = expected[name][plan]
    assert max(abs(g - w) for g, w in zip(line['probs'], want)) < 1e-5, (plan, line, want)
    assert len(line['probs']) == 4 and line['label'] == labels[want.index(max(want))], line
    assert line['ms'] > 0 and len(line['top']) == 2 and line['top'][0]['label'] == line['label'], line
P
}

for isa in ref sse2 avx2 avx512 neon; do
    predict --cpu-mask $isa --json --top 2 "$work/a.ppm" "$work/b.ppm" >"$work/out" 2>"$work/err" || {
        grep -q 'the kernels here are' "$work/err" || { cat "$work/err"; exit 1; }
        continue # of another architecture
    }
    agrees 0
    for plan in 1 0,1 1,0; do
        predict --cpu-mask $isa --json --top 2 --cuts 0 --plan $plan "$work/a.ppm" "$work/b.ppm" >"$work/out"
        agrees $plan
    done
done
predict --threads 2 --json --top 2 --cuts 0 --plan 0,1 "$work/a.ppm" "$work/b.ppm" >"$work/out"
agrees 0,1
# A link that lets only level 1 pass.
predict --json --top 2 --cuts 0 --plan 0,0 --link 1:f32 "$work/a.ppm" "$work/b.ppm" >"$work/out"
agrees '0,0 link 1'

# Text: a line for the image, one for each class, best first.
predict --top 3 "$work/a.ppm" >"$work/out"
[ "$(wc -l <"$work/out")" = 4 ] || { cat "$work/out"; exit 1; }
sed -n '2,$p' "$work/out" | sed 's/%.*//' | sort -rnc || { cat "$work/out"; exit 1; }
