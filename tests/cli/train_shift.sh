#!/bin/sh
# shift: sparse training to a portfolio, which goes on where it was cut off, and
# what the programs do with it.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../tiny_training.sh"

shift_command() { "$train" shift data net.cfg --sparsities .6,.9 --channel-share .7 -o p.st --threads 1 --hold-out 30 "$@"; }
does shift_command
[ "$(grep -c '^\(dense\|0\.6\|0\.9\) ' out)" = 3 ] || fail "no table of three variants"
cp p.st whole.st
# Cut off behind the first rounds: the same bytes come out.
rm p.st p.st.rounds/0.9.*
does shift_command --json
cmp p.st whole.st || fail "another portfolio came from going on"
python3 - <<'P' || fail "shift --json"
import json
lines = [json.loads(l) for l in open("out")]
assert [l["variant"] for l in lines] == ["dense", "0.6", "0.9"]
assert lines[2]["parameters"] < lines[0]["parameters"] and lines[2]["multiply_adds"] < lines[0]["multiply_adds"], lines
assert lines[2]["bytes"] < lines[0]["bytes"] and all(0 <= l["accuracy"] <= 1 for l in lines)
P
# Nothing but what carries nothing: each variant is as accurate as its sparse network.
does shift_command --removable -1 --json
python3 - <<'P' || fail "cutting changed an accuracy"
import json
for l in map(json.loads, open("out")):
    assert abs(l["accuracy"] - l["sparse_accuracy"]) < 1e-9, l
P
image=$(find data/test -name '*.jpg' | sort | head -1)
does "$deploy" prune p.st --variant 0.9 --plan 0 -o one.st
probabilities() { does "$@" "$image" --json --cpu-mask sse2 && sed 's/"ms":.*//' out; }
probabilities "$deploy" predict p.st --variant 0.9 >by-name
probabilities "$deploy" predict p.st --variant 2 >by-number
probabilities "$deploy" predict one.st >alone
cmp by-name by-number && cmp by-name alone || fail "one variant, two results"
does "$deploy" predict p.st "$image" --json

does "$deploy" profile p.st --repeats 1 -o profile.json
does "$deploy" info p.st --profile profile.json --json
python3 - <<'P' || fail "info --json"
import json
v = json.load(open("out"))["variants"]
assert [x["name"] for x in v] == ["dense", "0.6", "0.9"] and all(x["ms"] > 0 and x["bytes"] > 0 for x in v), v
P
does "$deploy" info p.st
grep -q '^0\.9 .*%$' out || fail "info does not list the variants"
does "$deploy" info p.st --variant 0.9
does "$deploy" bench p.st --threads 1 --repeats 2 --cache cache --json
[ "$(grep -c switch_us out)" = 3 ] || fail "bench of a portfolio"
does "$train" eval data p.st --variant 0.6 --threads 1 --json

refuses 2 "no variant '0.7'" "$deploy" predict p.st --variant 0.7 "$image"
hints 'dense, 0.6, 0.9'
refuses 2 'without variants' "$deploy" predict one.st --variant 0.9 "$image"
refuses 1 'portfolio of several' "$deploy" slice p.st -o parts
refuses 2 'other settings' "$train" shift data net.cfg --sparsities .6,.8 --channel-share .7 -o p.st --threads 1 --hold-out 30
refuses 2 'rising' "$train" shift data net.cfg --sparsities .9,.6 -o q.st
refuses 2 '-o PORTFOLIO' "$train" shift data net.cfg
refuses 2 '--rewind' "$train" shift data net.cfg -o q.st --epochs 1
head -c 3000 p.st >cut.st
refuses 1 'cut.st' "$deploy" info cut.st
[ ! -e q.st ] || fail "a portfolio came from a failed run"
