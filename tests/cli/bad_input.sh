#!/bin/sh
# Bad input of every kind: one clear line, the right exit status, nothing overwritten, no crash.
. "$(dirname "$0")/../lib.sh"

# A model to spoil: random weights in a small net, by way of Darknet's .weights.
cat >"$work/net.cfg" <<'C'
[net]
width=16
height=16
channels=3
[convolutional]
batch_normalize=1
filters=8
size=3
pad=1
activation=relu
[avgpool]
[connected]
output=3
activation=linear
[softmax]
C
# header (0, 2, 0, seen 0), then 8 biases, 8 scales, 8 means, 8 variances, 216 weights, 3 biases, 24 weights
python3 - "$work/net.weights" <<'P'
import random, struct, sys
r = random.Random(1)
f = lambda n, lo, hi: struct.pack('<%df' % n, *[r.uniform(lo, hi) for _ in range(n)])
open(sys.argv[1], 'wb').write(struct.pack('<iiiQ', 0, 2, 0, 0) + f(8, -1, 1) + f(8, .5, 1) + f(8, -1, 1) + f(8, .5, 1) +
                              f(216, -1, 1) + f(3, -1, 1) + f(24, -1, 1))
P
"$train" convert --cfg "$work/net.cfg" --weights "$work/net.weights" -o "$work/net.safetensors" 2>/dev/null
python3 - "$work" <<'P'
import random, sys
w = sys.argv[1]
def ppm(name, side):
    r = random.Random(2)
    open(name, 'wb').write(b'P6 %d %d 255\n' % (side, side) + bytes(r.randrange(256) for _ in range(3 * side * side)))
ppm(w + '/good.ppm', 16)
P
"$deploy" predict "$work/net.safetensors" "$work/good.ppm" >/dev/null

# ---- images
echo 'not an image' >"$work/text.jpg"
refuses 1 'text.jpg' "$deploy" predict "$work/net.safetensors" "$work/text.jpg"
refuses 1 'none.jpg' "$deploy" predict "$work/net.safetensors" "$work/none.jpg"
: >"$work/empty.jpg"
refuses 1 'empty.jpg' "$deploy" predict "$work/net.safetensors" "$work/empty.jpg"
mkdir "$work/folder.jpg"
refuses 1 'folder.jpg' "$deploy" predict "$work/net.safetensors" "$work/folder.jpg"
printf 'P6 60000 60000 255\n' >"$work/huge.ppm"
refuses 1 'huge.ppm' "$deploy" predict "$work/net.safetensors" "$work/huge.ppm"

head -c 500 "$work/good.ppm" >"$work/short.ppm"
refuses 1 'short.ppm' "$deploy" predict "$work/net.safetensors" "$work/short.ppm"

# ---- model files: every kind of truncation, and flipped bits in the header
size=$(stat -c %s "$work/net.safetensors")
for n in 0 4 8 9 100 $((size / 2)) $((size - 1)); do
    head -c "$n" "$work/net.safetensors" >"$work/short.safetensors"
    refuses 1 'short.safetensors' "$deploy" predict "$work/short.safetensors" "$work/good.ppm"
    refuses 1 'short.safetensors' "$deploy" info "$work/short.safetensors"
done
python3 - "$work" <<'P'
import random, sys
w = sys.argv[1]
data = open(w + '/net.safetensors', 'rb').read()
header = 8 + int.from_bytes(data[:8], 'little')
r = random.Random(3)
for i in range(40):
    spoilt = bytearray(data)
    spoilt[r.randrange(header)] ^= 1 << r.randrange(8)
    open('%s/flip%d.safetensors' % (w, i), 'wb').write(spoilt)
P
for i in $(seq 0 39); do
    # A flipped bit may be harmless (a label, a blank); a crash or a silent status may not be.
    rc=0
    "$deploy" predict "$work/flip$i.safetensors" "$work/good.ppm" >"$work/out" 2>"$work/err" || rc=$?
    case $rc in
    0) [ -s "$work/out" ] || { echo "flip$i: status 0 and no result"; exit 1; } ;;
    1) grep -q "flip$i" "$work/err" || { echo "flip$i: no name in"; cat "$work/err"; exit 1; } ;;
    *) echo "flip$i: status $rc"; cat "$work/err"; exit 1 ;;
    esac
done

# ---- a misspelt option, weights that do not fit, data that is not there
sed 's/filters/fliters/' "$work/net.cfg" >"$work/bad.cfg"
echo kept >"$work/kept.safetensors"
refuses 1 "bad.cfg:7: unknown option 'fliters'" "$train" convert --cfg "$work/bad.cfg" --weights "$work/net.weights" -o "$work/kept.safetensors"
grep -q "did you mean 'filters'" "$work/err"
head -c 500 "$work/net.weights" >"$work/short.weights"
refuses 1 'short.weights' "$train" convert --cfg "$work/net.cfg" --weights "$work/short.weights" -o "$work/kept.safetensors"
refuses 1 'nowhere' "$train" train "$work/nowhere" "$work/net.cfg" -o "$work/kept.safetensors"
mkdir -p "$work/data/train/a" "$work/data/test/a"
refuses 1 'data' "$train" train "$work/data" "$work/net.cfg" -o "$work/kept.safetensors"
if [ "$(id -u)" != 0 ]; then # root may read everything
    chmod 000 "$work/data/train"
    refuses 1 'data/train' "$train" train "$work/data" "$work/net.cfg" -o "$work/kept.safetensors"
    chmod 755 "$work/data/train"
fi
[ "$(cat "$work/kept.safetensors")" = kept ] || { echo 'an existing file was overwritten'; exit 1; }
[ -z "$(ls "$work" | grep tmp || :)" ] || { echo 'a temporary file was left behind'; exit 1; }

# ---- misuse: status 2
refuses 2 "no command 'pridict'" "$deploy" pridict
refuses 2 "unknown option '--plna'" "$deploy" predict --plna 0 "$work/net.safetensors" "$work/good.ppm"
refuses 2 'plan' "$deploy" predict --plan 0,9 "$work/net.safetensors" "$work/good.ppm"
refuses 2 'too few' "$deploy" predict
refuses 2 'too few' "$train" train
