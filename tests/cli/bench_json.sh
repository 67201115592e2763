#!/bin/sh
# bench, profile and selftest: what they print holds together.
. "$(dirname "$0")/../lib.sh"
/usr/bin/python3 "$(dirname "$0")/tiny_model.py" "$work"
model=$work/tiny.safetensors

"$deploy" bench "$model" --threads 1 --seconds .01 --switches 1000 --layers --decode "$work/a.ppm" --json >"$work/bench.json"
"$deploy" bench "$model" --threads 1 --seconds .01 --cuts 0 --plan 0,1 --json >"$work/plan.json"
"$deploy" bench "$model" --threads 2 --seconds .01 --layers --switches 10 >"$work/bench.txt"
printf '[net]\nwidth=8\nheight=8\nchannels=3\n[prune]\nlevels=1,.75,.5,.25\nalign=2\n%s%s%s' \
    '[convolutional]
filters=8
size=3
pad=1
activation=relu
' '[convolutional]
filters=8
size=3
pad=1
activation=relu
' '[avgpool]
[connected]
output=10
activation=linear
[softmax]
' >"$work/random.cfg"
"$deploy" bench "$work/random.cfg" --threads 1 --seconds .01 --json >"$work/cfg.json"
"$deploy" profile "$model" --repeats 3 >"$work/profile.json"
"$deploy" profile "$model" --repeats 3 -o "$work/other.json"
began=$(date +%s)
"$deploy" selftest --json 2>"$work/checks" >"$work/selftest.json"
[ $(($(date +%s) - began)) -lt 60 ] || fail "selftest takes a minute"
python3 - "$work" <<'P'
import json, sys
def load(name): return json.load(open(sys.argv[1] + '/' + name))
b = load('bench.json')
assert [l['level'] for l in b['levels']] == [0, 1] and all(0 < l['min_ms'] <= l['median_ms'] for l in b['levels']), b
# 12x10 outputs of 3x16 channels, 6x5 of 16x20, 20x4; and half of the pruned ones
assert [l['multiply_adds'] for l in b['levels']] == [120*9*48 + 30*9*320 + 80, 120*9*24 + 30*9*80 + 40], b
assert [l['kind'] for l in b['layers']] == ['convolutional', 'convolutional', 'avgpool', 'connected', 'softmax'], b
# The first convolution: a 12x10x3 image, its weights, and what it puts out.
assert b['layers'][0]['kernel'] == 'direct' and b['layers'][0]['bytes'] == 4 * (120*3 + 9*3*16 + 120*16), b['layers'][0]
assert all(0 < l['min_ms'] <= l['median_ms'] for l in b['layers'] if l['kernel']), b
assert b['peak_memory_bytes'] > b['engine_bytes'] and b['random_weights'] is False, b
r = load('cfg.json')
assert r['random_weights'] is True and len(r['levels']) == 4 and r['levels'][0]['multiply_adds'] == 64*9*3*8 + 64*9*8*8 + 80, r
assert b['switch_us']['n'] == 1000 and 0 < b['switch_us']['median'] <= b['switch_us']['max'], b
assert b['decode']['width'] > 0 and b['decode']['fast_ms'] > 0 and b['decode']['exact_ms'] > 0, b['decode']
assert b['peak_gflops'] > 0 and b['read_gbs'] > 0 and b['engine_bytes'] > 0 and b['threads'] == 1, b
p = load('plan.json')
assert p['plan'][0]['multiply_adds'] == 120*9*48 + 30*9*8*10 + 40, p
for name in ('profile.json', 'other.json'):
    q = load(name)
    assert q['nblocks'] == 3 and q['nlevels'] == 2 and len(q['ms']) == 3, q
    assert all(ms > 0 for block in q['ms'] for own in block for ms in own), q
    assert set(q['encode_ns']) == set(q['decode_ns']) == {form + z for form in ('f32', 'f16', 'q8', 'q8t', 'q4', 'q4t') for z in ('', 'z')}, q
s = load('selftest.json')
assert s['failures'] == 0 and s['checks'] > 1 and s['switch_us'] > 0, s
P
grep -q 'level switch: median' "$work/bench.txt"
grep -q 'of peak' "$work/bench.txt"
! grep -q FAIL "$work/checks"

refuses 1 'no-such.jpg' "$deploy" bench "$model" --seconds .01 --decode "$work/no-such.jpg"
# A file that cannot be written is one clear line, and nothing is left behind.
refuses 1 'folder.json' "$deploy" profile "$model" --repeats 1 -o "$work/no/such/folder.json"
