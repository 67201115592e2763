#!/bin/sh
# Weights by PyTorch's names: converted, predicted with, made robust by
# training; and refused in one line that names the tensor.
. "$(dirname "$0")/../lib.sh"
cd "$work"

cat >net.cfg <<'C'
[net]
width=16
height=16
channels=3
batch=16
learning_rate=.02
policy=onecycle
epochs=1
fit=crop
resize=18
mean=.5,.4,.3
std=.25
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
torch=stem.conv
torch_bn=stem.bn
[convolutional]
batch_normalize=1
filters=16
size=3
stride=2
pad=1
activation=relu
torch=body.0
torch_bn=body.1
[avgpool]
[connected]
output=3
activation=linear
torch=head
[softmax]
C
# make.py FILE [CHANGE]: the state_dict of that network as safetensors.
cat >make.py <<'P'
import json, random, struct, sys
shapes = {}
for conv, bn, shape in (("stem.conv", "stem.bn", [8, 3, 3, 3]), ("body.0", "body.1", [16, 8, 3, 3])):
    shapes[conv + ".weight"] = shape
    for what in ("weight", "bias", "running_mean", "running_var"):
        shapes[bn + "." + what] = shape[:1]
shapes["head.weight"], shapes["head.bias"] = [3, 16], [3]
change = sys.argv[2] if len(sys.argv) > 2 else ""
if change == "missing": del shapes["body.1.running_mean"]
if change == "shape": shapes["head.weight"] = [4, 16]
if change == "extra": shapes["body.2.weight"] = [4]
random.seed(1)
header, data = {}, b""
if change == "metadata": header["__metadata__"] = {"format": "pt"}
for name, shape in shapes.items():
    n = 1
    for s in shape: n *= s
    low, high = (.5, 1.5) if name.endswith("var") or (len(shape) == 1 and name.endswith("weight")) else (-.4, .4)
    values = struct.pack("<%df" % n, *(random.uniform(low, high) for _ in range(n)))
    header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
    data += values
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
open(sys.argv[1], "wb").write(struct.pack("<Q", len(text)) + text + data)
P

# ---- in, and on to a robust model ----
python3 make.py torch.safetensors
python3 make.py pt.safetensors metadata
printf 'fox\nboar\nempty\n' >labels
does "$train" convert --cfg net.cfg --weights torch.safetensors --labels labels -o model.safetensors
does "$train" convert --cfg net.cfg --weights pt.safetensors --labels labels -o same.safetensors
cmp -s model.safetensors same.safetensors || fail "metadata of PyTorch's changes the model"
does "$deploy" info model.safetensors --json
grep -q '"resize":18' out || fail "the preprocessing is not that of [net]"
does "$train" synth data --images 96 --size 64 --classes fox,boar,empty --threads 1
image=$(find data -name '*.jpg' | head -n 1)
does "$deploy" predict model.safetensors "$image" --json
grep -q '"label":"\(fox\|boar\|empty\)"' out || fail "no label"
does "$train" train data net.cfg --from model.safetensors --robust drop --threads 1 --hold-out 30 -o robust.safetensors
[ "$(grep -c '^ *[012] ' out)" = 3 ] || fail "no table of three levels"
does "$deploy" predict robust.safetensors "$image" --plan 2 --json
# PyTorch's file itself will do, too. (The model states what it was called.)
mkdir as && cp torch.safetensors as/model.safetensors && cd as
does "$train" train ../data ../net.cfg --from model.safetensors --robust drop --threads 1 --hold-out 30 -o again.safetensors
cd ..
cmp -s robust.safetensors as/again.safetensors || fail "training from PyTorch's file is another than from the model"
# Darknet runs it, without the names of PyTorch's modules.
does "$train" convert model.safetensors --to-darknet back
! grep -q torch back/model.cfg || fail "Darknet's cfg names PyTorch's modules"

# ---- what cannot be ----
convert() { "$train" convert --cfg "$1" --weights "$2" -o no.safetensors; }
for case in "missing:tensor 'body.1.running_mean' is missing" "shape:tensor 'head.weight' has the shape \[4, 16\]" \
    "extra:tensor 'body.2.weight' belongs to no layer of net.cfg"; do
    python3 make.py bad.safetensors "${case%%:*}"
    refuses 1 "${case#*:}" convert net.cfg bad.safetensors
done
refuses 1 "model.safetensors is a model already" convert net.cfg model.safetensors
sed '/^torch_bn=body/d' net.cfg >unnamed.cfg
refuses 1 "unnamed.cfg:25: \[convolutional\] (layer 1) lacks 'torch_bn'" convert unnamed.cfg torch.safetensors
printf 'PK\003\004 and so on' >weights.pth
refuses 1 "weights.pth is a zip file, as torch.save writes" convert net.cfg weights.pth
head -c 900 torch.safetensors >short.safetensors
refuses 1 "short.safetensors" convert net.cfg short.safetensors
sed 's/^resize=18/resize=12/' net.cfg >small.cfg
refuses 1 "small.cfg: preprocessing resizes to 12" convert small.cfg torch.safetensors
[ ! -e no.safetensors ] || fail "a refused conversion left a file"
