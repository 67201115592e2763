#!/bin/sh
# convert, info, slice, prune, and back to Darknet: what is written runs and says the same.
. "$(dirname "$0")/../lib.sh"
cd "$work"

cat >net.cfg <<'C'
[net]
width=16
height=16
channels=3
[prune]
levels=1,.5,.25
align=2
whole=4
[convolutional]
batch_normalize=1
filters=8
size=3
pad=1
activation=relu
[convolutional]
batch_normalize=1
filters=8
size=3
pad=1
activation=linear
[shortcut]
from=-2
activation=relu
[slice]
[convolutional]
batch_normalize=1
filters=16
size=3
stride=2
pad=1
activation=leaky
[convolutional]
batch_normalize=1
filters=16
size=3
pad=1
activation=linear
[shortcut]
from=2
activation=relu
[avgpool]
[connected]
output=3
activation=linear
[softmax]
C
# biases, scales, means, variances and weights of four convolutions; biases and weights of the connected layer
python3 - <<'P'
import random, struct
r = random.Random(1)
f = lambda n, lo, hi: struct.pack('<%df' % n, *[r.uniform(lo, hi) for _ in range(n)])
conv = lambda o, i: f(o, -.3, .3) + f(o, .5, 1) + f(o, -.3, .3) + f(o, .5, 1) + f(o * i * 9, -.4, .4)
open('net.weights', 'wb').write(struct.pack('<iiiQ', 0, 2, 0, 6400) + conv(8, 3) + conv(8, 8) + conv(16, 8) +
                                conv(16, 16) + f(3, -.2, .2) + f(48, -2, 2))
open('image.ppm', 'wb').write(b'P6 20 14 255\n' + bytes(r.randrange(256) for _ in range(3 * 20 * 14)))
P
printf 'fox\nroe deer\nempty\n' >net.labels

"$train" convert --cfg net.cfg --weights net.weights --labels net.labels -o net.safetensors 2>log
"$train" convert net.safetensors --to-darknet back 2>log
cmp net.weights back/net.weights
[ "$(sed -n 2p back/net.labels)" = 'roe deer' ]
grep -q '^classes=3$' back/net.data
if grep -qE 'prune|slice' back/net.cfg; then echo 'sections that Darknet does not know'; exit 1; fi

"$deploy" info net.safetensors >info
grep -q '9 layers, 3 classes' info
grep -q -e '--cuts 2' info
"$deploy" info --json net.safetensors | python3 -c '
import json, sys
info = json.load(sys.stdin)
assert len(info["layers"]) == 9 and info["layers"][5]["inputs"] == [4, 2], info["layers"][5]
assert [b["first"] for b in info["blocks"]] == [0, 1, 3, 7] and info["slices"] == [0, 2], info["blocks"]
assert info["groups"][0]["whole"] and info["labels"] == ["fox", "roe deer", "empty"]
assert [l["ratio"] for l in info["levels"]] == [1, .5, .25]
work = [l["multiply_adds"] for l in info["levels"]]
assert work[0] > work[1] > work[2] > 0'

# ---- prune: the small model says at full size what the large one says at the plan
probs() { "$deploy" predict --json "$@" | python3 -c 'import json, sys; print(" ".join("%.5f" % p for p in json.load(sys.stdin)["probs"]))'; }
for plan in 0 2 0,2 2,0 1,2; do
    "$deploy" prune net.safetensors --plan $plan -o small.safetensors >out
    probs --plan $plan net.safetensors image.ppm >big.probs
    probs small.safetensors image.ppm >small.probs
    python3 - $plan <<'P'
import sys
a, b = (list(map(float, open(n).read().split())) for n in ('big.probs', 'small.probs'))
assert len(a) == 3 and all(abs(x - y) < 1e-4 for x, y in zip(a, b)), (sys.argv[1], a, b)
P
done
"$deploy" prune net.safetensors --plan 1 -o half.safetensors --json | grep -q '"weights":0.[34]'
"$train" convert half.safetensors --to-darknet back 2>log

# ---- slice
"$deploy" slice net.safetensors -o slices >out
[ "$(wc -l <out)" = 2 ]
grep -q 'slices/net.1.safetensors: layers 3 to 8, blocks 2 to 3' out
"$deploy" info slices/net.1.safetensors >info
grep -q 'takes a feature map of 16x16x8' info
grep -q 'layer 0 is its layer 2, block 0 its block 2' info
"$deploy" slice net.safetensors --cuts 0,2,6 -o four --json >out
[ "$(ls four)" = "$(printf 'net.0.safetensors\nnet.1.safetensors\nnet.2.safetensors\nnet.3.safetensors')" ]
"$train" convert slices/net.1.safetensors --to-darknet back 2>log

# ---- misuse and bad input leave nothing behind
echo kept >kept
refuses 2 'no cut point behind layer 3' "$deploy" slice net.safetensors --cuts 3 -o nothing
refuses 2 'needs -o' "$deploy" slice net.safetensors
refuses 2 'needs --plan' "$deploy" prune net.safetensors -o kept
refuses 2 'not a plan' "$deploy" prune net.safetensors --plan 0,3 -o kept
refuses 1 'kept' "$deploy" info kept
refuses 1 'kept' "$deploy" slice net.safetensors -o kept
refuses 1 'nowhere' "$deploy" prune net.safetensors --plan 1 -o nowhere/small
refuses 2 'convert takes' "$train" convert net.safetensors
refuses 2 'convert takes' "$train" convert --cfg net.cfg -o kept
refuses 1 '2 labels for 3 classes' sh -c 'head -n 2 net.labels >two; exec "$0" convert --cfg net.cfg --weights net.weights --labels two -o kept' "$train"
refuses 1 'net.weights' "$train" convert net.weights --to-darknet nothing
[ "$(cat kept)" = kept ]
[ ! -e nothing ]

# ---- Darknet itself
if ! command -v darknet >/dev/null; then echo 'darknet is not installed: not run against it'; exit 0; fi
for name in net half; do
    [ $name = net ] || sed 's/half/net/g' back/net.data >back/half.data
    darknet classifier predict back/$name.data back/$name.cfg back/$name.weights image.ppm >out 2>err
    "$deploy" predict --json $name.safetensors image.ppm >ours
    python3 - $name <<'P'
import json, re, sys
labels = ['fox', 'roe deer', 'empty']
ours = dict(zip(labels, json.load(open('ours'))['probs']))
theirs = {m.group(2): float(m.group(1)) / 100 for m in re.finditer(r'([\d.]+)%: (.*)', open('out').read())}
assert len(theirs) == 3 and all(abs(theirs[l] - ours[l]) < 2e-4 for l in labels), (sys.argv[1], ours, theirs)
P
done
