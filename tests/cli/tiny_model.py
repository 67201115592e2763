#!/usr/bin/python3
"""A tiny model, images, and what it must predict, computed by numpy alone.

    tiny_model.py DIR

writes DIR/tiny.safetensors (two convolutions with batch norm, two levels, a
row for each pair of levels), DIR/a.ppm, DIR/b.ppm (of the net's size, so that
preprocessing only scales), and DIR/expected.json: {"a": {PLAN: [probs]}, ...},
PLAN "0", "1", or "0,1", "1,0", "0,0 link 1" with the cut behind layer 0.
"""
import json
import struct
import sys

import numpy as np

CFG = """[net]
width=12
height=10
channels=3
[prune]
levels=1,.5
align=2
[convolutional]
batch_normalize=1
filters=16
size=3
pad=1
activation=relu
[convolutional]
batch_normalize=1
filters=20
size=3
stride=2
pad=1
activation=leaky
[avgpool]
[connected]
output=4
activation=linear
[softmax]
"""
KEEP = [[3, 16, 20, 4], [3, 8, 10, 4]]
LABELS = ["fox", "badger", "roe deer", "nothing"]
EPS = 1e-5

rng = np.random.default_rng(5)


def uniform(low, high, *shape):
    return rng.uniform(low, high, shape).astype("<f4")


def bn(name, channels):
    return {
        name + ".bn.gamma": uniform(0.5, 1.5, 1, channels),
        name + ".bn.beta": uniform(-0.5, 0.5, 1, channels),
        # of both levels; then corrections: four slots of a missing level and of wider blocks, and two more
        name + ".bn.mean": uniform(-0.3, 0.3, 12, channels),
        name + ".bn.var": np.concatenate([uniform(0.5, 1.5, 2, channels), uniform(-0.1, 0.1, 10, channels)]),
    }


TENSORS = {
    "layers.0.weight": uniform(-0.4, 0.4, 16, 3, 3, 3),
    **bn("layers.0", 16),
    "layers.1.weight": uniform(-0.2, 0.2, 20, 16, 3, 3),
    **bn("layers.1", 20),
    "layers.3.weight": uniform(-1, 1, 4, 20),
    "layers.3.bias": uniform(-0.5, 0.5, 4),
}


def write_model(path):
    metadata = {
        "format": "espalier",
        "version": "1",
        "cfg": CFG,
        "labels": json.dumps(LABELS),
        "levels": json.dumps({"ratio": [1, 0.5], "keep": KEEP}),
        "bn_rows": "12",
        "bn_eps": repr(EPS),
        "bn_form": "torch",
        "preproc": json.dumps({"channels": 3, "height": 10, "width": 12, "fit": "letterbox", "decode": "exact",
                               "mean": [0, 0, 0], "std": [1, 1, 1]}),
    }
    header, offset = {"__metadata__": metadata}, 0
    for name, t in TENSORS.items():
        header[name] = {"dtype": "F32", "shape": list(t.shape), "data_offsets": [offset, offset + t.nbytes]}
        offset += t.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % 64)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(t.tobytes() for t in TENSORS.values()))


def write_image(path):
    pixels = rng.integers(0, 256, (10, 12, 3), dtype=np.uint8)
    with open(path, "wb") as f:
        f.write(b"P6 12 10 255\n" + pixels.tobytes())
    return pixels.transpose(2, 0, 1).astype(np.float64) / 255


def convolve(layer, x, stride, level, correction, keep):
    """x: the channels that arrive; `correction`: a row or None; the first `keep` outputs, normalised."""
    w = TENSORS["layers.%d.weight" % layer].astype(np.float64)[:keep, : len(x)]
    x = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    h, width = (x.shape[1] - 3) // stride + 1, (x.shape[2] - 3) // stride + 1
    y = np.zeros((keep, h, width))
    for i in range(h):
        for j in range(width):
            patch = x[:, i * stride : i * stride + 3, j * stride : j * stride + 3]
            y[:, i, j] = (w * patch).sum(axis=(1, 2, 3))
    gamma, beta, mean, var, more_mean, more_scale = (
        TENSORS["layers.%d.bn.%s" % (layer, k)].astype(np.float64)[r, :keep, None, None]
        for k, r in (("gamma", 0), ("beta", 0), ("mean", level), ("var", level), ("mean", correction or 0), ("var", correction or 0))
    )
    sigma = np.sqrt(var + EPS)
    if correction is None:
        more_mean, more_scale = 0, 0
    return (y - mean - sigma * more_mean) / sigma * (1 + more_scale) * gamma + beta


def predict(x, first, second, link=0):
    """Level of the first block, of the others, and of the link between them."""
    incoming = max(first, link)
    x = np.maximum(convolve(0, x, 1, first, None, KEEP[first][1]), 0)
    x = x[: min(KEEP[second][1], KEEP[link][1])]  # what arrives beyond is ignored
    correction = 2 if incoming > second else 3 if first < second else None
    x = convolve(1, x, 2, second, correction, KEEP[second][2])
    x = np.where(x > 0, x, 0.1 * x).mean(axis=(1, 2))
    z = TENSORS["layers.3.weight"].astype(np.float64)[:, : len(x)] @ x + TENSORS["layers.3.bias"]
    e = np.exp(z - z.max())
    return list(e / e.sum())


def main(folder):
    write_model(folder + "/tiny.safetensors")
    expected = {}
    for name in ("a", "b"):
        x = write_image("%s/%s.ppm" % (folder, name))
        expected[name] = {
            "0": predict(x, 0, 0),
            "1": predict(x, 1, 1),
            "0,1": predict(x, 0, 1),
            "1,0": predict(x, 1, 0),
            "0,0 link 1": predict(x, 0, 0, 1),
        }
    with open(folder + "/expected.json", "w") as f:
        json.dump(expected, f)


main(sys.argv[1])
