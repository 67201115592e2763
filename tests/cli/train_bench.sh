#!/bin/sh
# bench: what it prints holds together, and what it cannot do is said.
. "$(dirname "$0")/../lib.sh"
cat >"$work/net.cfg" <<'C'
[net]
width=16
height=12
channels=3
batch=8
[convolutional]
batch_normalize=1
filters=8
size=3
pad=1
activation=relu
[convolutional]
batch_normalize=1
filters=16
size=3
stride=2
pad=1
activation=relu
[avgpool]
[connected]
output=5
activation=linear
[softmax]
C
does "$train" bench "$work/net.cfg" --steps 4 --threads 1 --layers --json
python3 - "$work/out" <<'P'
import json, sys
b = json.load(open(sys.argv[1]))
# 16x12 outputs of 27x8, 8x6 of 72x16, 16x5
work = [16*12*27*8, 8*6*72*16, 0, 16*5]
assert b['multiply_adds'] == sum(work) and b['batch'] == 8 and b['threads'] == 1, b
assert b['parameters'] == 27*8 + 16 + 72*16 + 32 + 16*5 + 5, b
assert [l['kind'] for l in b['layers']] == ['convolutional', 'convolutional', 'avgpool', 'connected'], b
assert [l['forward_flops'] for l in b['layers']] == [2 * 8 * w for w in work], b
# the gradient of the input is not computed
assert [l['backward_flops'] for l in b['layers']] == [2 * 8 * work[0]] + [4 * 8 * w for w in work[1:]], b
assert all(l['forward_ms'] > 0 and l['backward_ms'] > 0 for l in b['layers']), b
assert 0 < b['min_ms'] <= b['median_ms'] and abs(b['images_per_s'] * b['median_ms'] / 8000 - 1) < 1e-9, b
assert b['peak_gflops'] > 0 and b['peak_mib'] > 1, b
P
does "$train" bench "$work/net.cfg" --steps 2 --threads 1 --layers
grep -q 'layers with weights' "$work/out"
does "$train" bench "$work/net.cfg" --steps 2 --threads 1 --batch 4 --robust drop
grep -q 'batch 4, f32, robust' "$work/out"
refuses 2 'plain training' "$train" bench "$work/net.cfg" --robust drop --layers
refuses 2 'none, drop or sandwich' "$train" bench "$work/net.cfg" --robust dorp
refuses 2 'auto, f32 or bf16' "$train" bench "$work/net.cfg" --precision f16
refuses 2 'at least 1' "$train" bench "$work/net.cfg" --steps 0
refuses 1 'nowhere' "$train" bench "$work/nowhere.cfg"
