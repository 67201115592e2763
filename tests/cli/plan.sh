#!/bin/sh
# plan: the cuts that it prints are cuts, a slow link moves them, and what it cannot do is said.
. "$(dirname "$0")/../lib.sh"

{
    printf '[net]\nwidth=32\nheight=32\nchannels=3\n'
    for filters in 16 16 32 32 8; do
        printf '[convolutional]\nbatch_normalize=1\nfilters=%s\nsize=3\nstride=1\npad=1\nactivation=relu\n' $filters
        [ $filters = 8 ] || printf '[maxpool]\nsize=2\nstride=2\n'
    done
    printf '[avgpool]\n[connected]\noutput=4\nactivation=linear\n[softmax]\n'
} >"$work/net.cfg"
python3 - "$work/net.weights" <<'P'
import random, struct, sys
r = random.Random(1)
out = struct.pack("<iiiQ", 0, 2, 0, 0)
c = 3
for f in 16, 16, 32, 32, 8:
    n = c * f * 9
    values = [0.0] * f + [1.0] * f + [0.0] * f + [1.0] * f + [r.gauss(0, 0.1) for _ in range(n)]
    out += struct.pack("<%df" % len(values), *values)
    c = f
out += struct.pack("<%df" % (4 + 32), *([0.0] * 36))
open(sys.argv[1], "wb").write(out)
P
"$train" convert --cfg "$work/net.cfg" --weights "$work/net.weights" -o "$work/net.safetensors" 2>/dev/null

mkdir "$work/profiles"
"$deploy" profile "$work/net.safetensors" -o "$work/profiles/device.json" --repeats 3 2>/dev/null
cp "$work/profiles/device.json" "$work/profiles/server.json"
cluster() { # RATE_KB_S
    printf '[worker]\nname=device\naddress=tcp://10.0.0.1:1\n'
    printf '[link]\nrate_kb_s=%s\n[worker]\nname=server\naddress=tcp://10.0.0.2:1\n' "$1"
}
cluster 1 >"$work/slow.cfg"
cluster 1000000 >"$work/fast.cfg"

for objective in throughput latency; do
    does "$deploy" plan "$work/slow.cfg" "$work/net.safetensors" --profiles "$work/profiles" --objective $objective
    # at 1 kB/s nothing but the smallest map counts: the pooled one in front of the last layer
    grep -q '^--cuts 9:' "$work/out" || fail "$objective over a slow link: not cut behind layer 9"
    [ "$(grep -c ' <-$' "$work/out")" = 1 ] || fail "no partition, or more than one, is marked"
done
does "$deploy" plan "$work/fast.cfg" "$work/net.safetensors" --profiles "$work/profiles" --json
cuts=$(sed -n 's/.*"cuts":"\([0-9]*\)".*/\1/p' "$work/out")
"$deploy" slice "$work/net.safetensors" --cuts "$cuts" -o "$work/slices" >/dev/null 2>"$work/err" ||
    fail "the cut '$cuts' is none"

refuses 2 'throughput or latency' "$deploy" plan "$work/slow.cfg" "$work/net.safetensors" --objective speed
refuses 1 device.json "$deploy" plan "$work/slow.cfg" "$work/net.safetensors" --profiles "$work/slices"
refuses 2 'levels 0 to' "$deploy" plan "$work/slow.cfg" "$work/net.safetensors" --profiles "$work/profiles" --level 99
refuses 2 'accuracy model' "$deploy" plan "$work/slow.cfg" "$work/net.safetensors" --profiles "$work/profiles" --objective latency \
    --min-accuracy 0.5
sed 's/"nblocks":[[:space:]]*[0-9]*/"nblocks": 1/' "$work/profiles/device.json" >"$work/profiles/server.json"
refuses 1 'server.json' "$deploy" plan "$work/slow.cfg" "$work/net.safetensors" --profiles "$work/profiles"
