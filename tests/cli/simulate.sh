#!/bin/sh
# simulate: the shipped scenarios are read, the same seed gives the same figures, the exact policy
# beats the static one when a device is slowed, many pipelines run at once; and what it refuses.
. "$(dirname "$0")/../lib.sh"
scenarios="$(dirname "$0")/../bench/scenarios"

{
    printf '[net]\nwidth=32\nheight=32\nchannels=3\n'
    for filters in 64 64 64 64; do
        printf '[convolutional]\nbatch_normalize=1\nfilters=%s\nsize=3\nstride=1\npad=1\nactivation=relu\n' $filters
    done
    printf '[avgpool]\n[connected]\noutput=4\nactivation=linear\n[softmax]\n'
} >"$work/net.cfg"
python3 - "$work/net.weights" <<'P'
import struct, sys
out = struct.pack("<iiiQ", 0, 2, 0, 0)
c = 3
for f in 64, 64, 64, 64:
    values = [0.0] * f + [1.0] * f + [0.0] * f + [1.0] * f + [0.01] * (c * f * 9)
    out += struct.pack("<%df" % len(values), *values)
    c = f
out += struct.pack("<%df" % (4 + 256), *([0.0] * 260))
open(sys.argv[1], "wb").write(out)
P
does "$train" convert --cfg "$work/net.cfg" --weights "$work/net.weights" -o "$work/net.safetensors"
for i in 1 2 3; do printf '[worker]\nname=h%s\naddress=tcp://10.0.0.%s:7700\n' $i $i; done >"$work/cluster.cfg"
simulate() { "$deploy" simulate "$work/cluster.cfg" "$work/net.safetensors" "$@"; }
figure() { sed -n "s/.*\"policy\":\"$1\".*\"$2\":\([0-9.e+-]*\).*/\1/p" "$work/out"; }

for scenario in "$scenarios"/*.cfg; do
    does "$deploy" simulate --show "$scenario" --fps 20
    grep -q '"due":\[0' "$work/out" || grep -q '"due":\[[0-9]' "$work/out" || fail "no arrivals: $scenario"
done

cat >"$work/slow.cfg" <<'S'
[scenario]
seconds=30
[host]
device=pi4b
[host]
device=pi4b
[host]
device=pi4b
[event]
kind=cpu
host=2
from=5
to=15
factor=4
S
does simulate "$work/slow.cfg" --json
cp "$work/out" "$work/first"
does simulate "$work/slow.cfg" --json
cmp -s "$work/first" "$work/out" || fail "the same seed, other figures"
awk "BEGIN {exit !($(figure exact inside) > 0.9 && $(figure static inside) < 0.3)}" || fail "exact did not hold the deadline"
awk "BEGIN {exit !($(figure oracle attainment) >= $(figure exact attainment) - 0.01)}" || fail "better than the fastest plan"
does simulate "$work/slow.cfg" --copies 5 --policy exact
grep -q '^5 x 3 hosts' "$work/out" || fail "no table of 5 pipelines"

refuses 2 "3 workers, the scenario 1 hosts" sh -c "printf '[host]\n' >'$work/one.cfg'; '$deploy' simulate '$work/cluster.cfg' '$work/net.safetensors' '$work/one.cfg'"
sed 's/pi4b/pi9/' "$work/slow.cfg" >"$work/unknown.cfg"
refuses 2 "device .pi9. is not known" simulate "$work/unknown.cfg"
refuses 2 "static, bottleneck or exact" simulate "$work/slow.cfg" --policy none
refuses 2 "needs the arrivals' rate" "$deploy" simulate --show "$work/slow.cfg"
