#!/bin/sh
# Training twice with one seed writes the same bytes; so does a run that is
# killed, or stopped, and resumed. Resuming with other options is refused.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
train="$BUILD/espalier-train"

cat >"$work/net.cfg" <<'C'
[net]
width=16
height=16
channels=3
batch=16
learning_rate=.05
policy=cosine
epochs=12
flip=1
pad_crop=2
[prune]
levels=1,.5,.25
align=2
[convolutional]
batch_normalize=1
filters=8
size=3
stride=2
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
[dropout]
probability=.2
[convolutional]
batch_normalize=1
filters=16
size=3
stride=2
pad=1
activation=relu
[avgpool]
[connected]
output=3
activation=linear
[softmax]
C
"$train" synth "$work/data" --images 240 --size 64 --classes fox,boar,empty --threads 1 2>"$work/log"

options="--seed 7 --threads 1 --hold-out 32 --order-every 2 --checkpoint-every 5"

# run MODEL OPTION...
run() {
    model=$1; shift
    "$train" train "$work/data/synth.data" "$work/net.cfg" -o "$work/$model" $options "$@" \
        >"$work/out" 2>"$work/log" || fail "training $model failed"
}
fail() { echo "$*"; cat "$work/log"; exit 1; }

run a
run b
cmp "$work/a" "$work/b" || fail "one seed, two results"
run other --seed 8
! cmp -s "$work/a" "$work/other" || fail "two seeds, one result"
[ ! -e "$work/a.checkpoint" ] || fail "the checkpoint was left behind"

# Killed behind its first checkpoint; resumed, and stopped by a signal; resumed.
"$train" train "$work/data/synth.data" "$work/net.cfg" -o "$work/c" $options >"$work/out" 2>"$work/log" & pid=$!
while [ ! -e "$work/c.checkpoint" ] && kill -0 $pid 2>/dev/null; do sleep .01; done
kill -KILL $pid || fail "it was done before it could be killed"
wait $pid 2>/dev/null || :
[ ! -e "$work/c" ] || fail "a model was written before it was done"

"$train" train "$work/data/synth.data" "$work/net.cfg" -o "$work/c" $options --resume >"$work/out" 2>"$work/log" & pid=$!
while ! grep -q resuming "$work/log" && kill -0 $pid 2>/dev/null; do sleep .01; done
kill -INT $pid || fail "it was done before it could be stopped"
rc=0
wait $pid || rc=$?
[ $rc = 1 ] || fail "stopped by a signal: status $rc, not 1"
grep -q "stopped behind step" "$work/log" && grep -q -- --resume "$work/log" || fail "it does not say how to go on"

refuses() {
    rc=0
    "$train" train "$work/data/synth.data" "$work/net.cfg" $options "$@" >"$work/out" 2>"$work/log" || rc=$?
    [ $rc = 2 ] || fail "status $rc, not 2: $*"
}
cp "$work/c.checkpoint" "$work/kept"
refuses -o "$work/c" --resume --seed 9
grep -q "seed 7, not 9" "$work/log" || fail "it does not say what differs"
refuses -o "$work/c" --resume --robust none
cmp "$work/kept" "$work/c.checkpoint" || fail "a refused resume touched the checkpoint"
refuses -o "$work/a" --resume # finished: nothing to resume

run c --resume
cmp "$work/a" "$work/c" || fail "resumed, but not to the same result"
