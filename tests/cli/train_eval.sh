#!/bin/sh
# train, eval and classifier on a small drawn dataset: what they print, and how
# they refuse what cannot be.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../tiny_training.sh"

for mode in none drop sandwich; do
    does "$train" train data net.cfg -o $mode.st --robust $mode --threads 1 --hold-out 30 --log $mode.jsonl
    [ "$(grep -c '^ *[012] ' out)" = 3 ] || fail "no table of three levels"
    python3 - $mode.jsonl <<'P' || fail "the log of $mode is not what it should be"
import json, sys
lines = [json.loads(line) for line in open(sys.argv[1])]
epochs = [l for l in lines if l["kind"] == "epoch"]
assert [e["epoch"] for e in epochs] == [1, 2, 3, 4], epochs
assert set(epochs[0]["held_out"]) == {"0", "1", "2"}
done = [l for l in lines if l["kind"] == "done"]
assert len(done) == 1 and len(done[0]["uniform"]) == 3 and done[0]["measured_images"] == 30
assert all(0 <= l["accuracy"] <= 1 and l["loss"] > 0 for l in lines if l["kind"] == "step")
P
done

does "$train" eval data drop.st --levels all --random-plans 5 --split test --threads 1 --json
python3 - <<'P' || fail "eval --json"
import json
lines = [json.loads(line) for line in open("out")]
assert len(lines) == 8, lines
assert [l["plan"] for l in lines[:3]] == ["0", "1", "2"]
assert lines[0]["multiply_adds"] == 1 and lines[2]["multiply_adds"] < .3
assert all(l["images"] == 24 and 0 <= l["accuracy"] <= 1 and "expected" in l for l in lines)
P
# The same plan said in two ways; the images of a subset.
does "$train" eval data drop.st --plan 0,2,2 --cuts 0,1 --threads 1 --json
sed 's/"plan":"[^"]*","cuts":"[^"]*"//' out >first
does "$train" eval data drop.st --plan 0,2 --cuts 0 --threads 1 --json
sed 's/"plan":"[^"]*","cuts":"[^"]*"//' out >second
cmp first second || fail "one plan, two results"
does "$train" eval data drop.st --plan 1,0 --cuts 1 --link 2 --images 12 --threads 1
grep -q '1,0 --cuts 1 --link 2' out || fail "the plan is not printed as it was given"

refuses 2 "'3' is not a plan" "$train" eval data drop.st --plan 3
hints 'levels 0 to 2'
refuses 2 'no cut point behind layer 4' "$train" eval data drop.st --plan 0,1 --cuts 4
refuses 2 'train, valid or test' "$train" eval data drop.st --split best
refuses 1 'cannot open' "$train" eval nowhere drop.st
sed 's/output=3/output=4/' net.cfg >four.cfg
refuses 1 '3 classes.* 4 outputs' "$train" train data four.cfg -o new.st
sed 's/learning_rate=.05/learning_rate=1e6/; s/onecycle/constant/' net.cfg >wild.cfg
stops 1 'diverged in step' "$train" train data wild.cfg -o new.st --threads 1
sed 's/onecycle/onecylce/' net.cfg >wrong.cfg
refuses 1 "wrong.cfg:8: .*'onecylce'" "$train" train data wrong.cfg -o new.st
refuses 2 'none, drop or sandwich' "$train" train data net.cfg -o new.st --robust dropp
refuses 2 '--distill' "$train" train data net.cfg -o new.st --distill 2
refuses 2 '-o MODEL' "$train" train data net.cfg
refuses 2 'nothing to resume' "$train" train data net.cfg -o new.st --resume
refuses 1 'cannot write to the folder nowhere' "$train" train data net.cfg -o nowhere/new.st
refuses 2 'is a folder' "$train" train data net.cfg -o data
refuses 2 'hold out' "$train" train data net.cfg -o new.st --hold-out 100000
[ ! -e new.st ] || fail "a model came from a failed run"

# Another number of classes: all layers but the last are taken over.
does "$train" synth two --images 60 --size 64 --classes fox,boar --threads 1
sed 's/output=3/output=2/; s/epochs=4/epochs=1/' net.cfg >two.cfg
does "$train" train two two.cfg --from drop.st -o two.st --threads 1 --hold-out 0
grep -q 'layer 4 (connected) has another shape' err || fail "what is not taken over is not named"
grep -q 'no accuracy model' err || fail "nothing held out, and nothing said"

# Darknet's way.
printf 'classes=3\ntrain=data/train\nvalid=data/valid\nlabels=names\nbackup=kept\ntop=2\n' >set.data
printf 'boar\nempty\nfox\n' >names
does "$train" classifier train set.data net.cfg --threads 1
does "$train" classifier valid set.data net.cfg kept/net.safetensors --threads 1
grep -q '^24: top 1: 0\.[0-9]*$' out || fail "classifier valid"
image=$(find data/test -name '*.jpg' | sort | head -1)
does "$train" convert kept/net.safetensors --to-darknet dark
does "$train" classifier predict set.data dark/net.cfg dark/net.weights "$image" --threads 1
[ "$(grep -c '^ *[0-9.]*%: \(boar\|empty\|fox\)$' out)" = 2 ] || fail "classifier predict"
refuses 1 'no-such.jpg' "$train" classifier predict set.data dark/net.cfg dark/net.weights no-such.jpg
refuses 2 'train, valid or predict' "$train" classifier trian set.data net.cfg
