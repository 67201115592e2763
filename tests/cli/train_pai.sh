#!/bin/sh
# pai: what it writes trains and deploys; its counterpart keeps its zeros.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../tiny_training.sh"

for method in synflow snip grasp magnitude random; do
    does "$train" pai data net.cfg --method $method --density .4 -o small.cfg --threads 1 --json
    python3 - <<'P' || fail "pai --json, $method"
import json
r = json.load(open("out"))
assert r["weights"] <= .4 * r["weights_before"] + 1 and r["multiply_adds"] < r["multiply_adds_before"], r
assert all(0 <= l["share"] <= 1 and 1 <= l["kept"] <= l["outputs"] for l in r["layers"])
assert any(l["kept"] < l["outputs"] for l in r["layers"])
P
done
# The same seed, the same files.
does "$train" pai data net.cfg --density .4 -o small.cfg --threads 1
cp small.cfg first.cfg
cp small.safetensors first.safetensors
does "$train" pai data net.cfg --density .4 -o small.cfg --threads 1
cmp small.cfg first.cfg && cmp small.safetensors first.safetensors || fail "one seed, two results"
grep -q '^levels=1,.5,.25$' small.cfg || fail "the levels are lost"
does "$train" train data small.cfg --from small.safetensors -o model.st --epochs 1 --threads 1 --hold-out 0
image=$(find data/test -name '*.jpg' | sort | head -1)
does "$deploy" predict model.st "$image" --plan 1 --json
[ "$(stat -c %s model.st)" -lt 20000 ] || fail "the model is not small"

does "$train" pai data net.cfg --unstructured --density .4 -o sparse.cfg --threads 1
does "$train" train data sparse.cfg --from sparse.safetensors --keep-zeros --robust none --order none -o sparse.st --epochs 1 --threads 1 --hold-out 0
python3 - <<'P' || fail "the zeros did not stay"
import json, struct
def weights(path):
    f = open(path, "rb").read()
    n = struct.unpack("<Q", f[:8])[0]
    head = json.loads(f[8:8 + n])
    return {k: struct.unpack("<%df" % ((v["data_offsets"][1] - v["data_offsets"][0]) // 4),
                             f[8 + n + v["data_offsets"][0]:8 + n + v["data_offsets"][1]])
            for k, v in head.items() if k.endswith("weight")}
a, b = weights("sparse.safetensors"), weights("sparse.st")
total = zeros = changed = 0
for k in a:
    for x, y in zip(a[k], b[k]):
        total += 1
        zeros += x == 0
        changed += x != y
        assert x != 0 or y == 0, k
assert abs(zeros - .6 * total) < 2, (zeros, total)
assert changed > .3 * total
P

refuses 2 'synflow, snip, grasp' "$train" pai data net.cfg --method best --density .4 -o small.cfg
refuses 2 '--density' "$train" pai data net.cfg -o small.cfg
refuses 2 '--density' "$train" pai data net.cfg --density 1.5 -o small.cfg
refuses 2 'SMALL.cfg' "$train" pai data net.cfg --density .5 -o small
refuses 2 '--keep-zeros needs' "$train" train data net.cfg -o new.st --keep-zeros
refuses 1 'cannot open' "$train" pai data nowhere.cfg --density .5 -o new.cfg
stops 1 'nowhere' "$train" pai data net.cfg --density .5 -o nowhere/new.cfg --threads 1
[ ! -e new.cfg ] || fail "a cfg came from a failed run"
