#!/usr/bin/python3
"""Makes tests/golden/torchvision.txt: what torchvision puts out for seeded weights.

    apt-get install python3-torch python3-torchvision
    tests/golden/make_torchvision.py >tests/golden/torchvision.txt

Lines as tests/family.h has them. Networks see 64x64 pixels; VGG's classifier is
as wide as such a map and 256 outputs ask for. Computed in double precision.
Lines crop-WxH-RESIZE-SIDE: Resize(RESIZE) and CenterCrop(SIDE) of a random
WxH image, normalised.
"""
import numpy as np
import torch
import torchvision
from torchvision.transforms import functional as F

SIDE, OUTPUTS, SAMPLES = 64, 256, 16
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
NAMES = ['resnet18', 'resnet34', 'resnet50', 'resnet101', 'resnet152', 'resnext50_32x4d',
         'vgg11', 'vgg11_bn', 'vgg13', 'vgg13_bn', 'vgg16', 'vgg16_bn', 'vgg19', 'vgg19_bn', 'mobilenet_v2']
CROPS = [(61, 47, 20, 16), (47, 61, 21, 16), (40, 30, 44, 33)]
MASK, GOLDEN = (1 << 64) - 1, 0x9E3779B97F4A7C15


def mix(z):
    z = np.asarray(z, np.uint64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def stream(seed, n):
    """The first n numbers of random_stream(seed, 0, 0) in common/random.h."""
    state = seed
    for _ in range(3):
        state = int(mix((state + GOLDEN) & MASK))
    return mix((np.arange(1, n + 1, dtype=np.uint64) * np.uint64(GOLDEN)) + np.uint64(state))


def between(numbers, low, high):
    return (low + (high - low) * ((numbers >> np.uint64(11)).astype(np.float64) * 2.0 ** -53)).astype(np.float32)


def fnv1a(name):
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = ((h ^ byte) * 0x100000001B3) & MASK
    return h


def bounds(name, shape):
    if name.endswith('running_mean'):
        return -0.3, 0.3
    if name.endswith('running_var') or (name.endswith('weight') and len(shape) == 1):
        return 0.5, 1.5
    if name.endswith('bias'):
        return -0.5, 0.5
    scale = np.sqrt(4.0 / np.prod(shape[1:]))
    return -scale, scale


def seed_weights(model):
    for name, tensor in model.state_dict().items():
        if name.endswith('num_batches_tracked'):
            continue
        values = between(stream(fnv1a(name), tensor.numel()), *bounds(name, tensor.shape))
        tensor.copy_(torch.from_numpy(values).reshape(tensor.shape))


def golden(name, side, outputs):
    outputs = np.asarray(outputs).reshape(-1)
    n = len(outputs)
    samples = [outputs[k * n // SAMPLES] for k in range(SAMPLES)]
    print(name, side, n, int(outputs.argmax()), *('%.6g' % v for v in [np.abs(outputs).max(), *samples]))


def network(name):
    model = getattr(torchvision.models, name)()
    if name.startswith('vgg'):
        model.avgpool = torch.nn.Identity()
        model.classifier[0] = torch.nn.Linear(512 * (SIDE // 32) ** 2, OUTPUTS)
        model.classifier[3] = torch.nn.Linear(OUTPUTS, OUTPUTS)
        model.classifier[6] = torch.nn.Linear(OUTPUTS, 1000)
    return model.double().eval()


np.seterr(over='ignore')
with torch.no_grad():
    image = torch.from_numpy(between(stream(2, 3 * SIDE * SIDE), 0, 1).reshape(1, 3, SIDE, SIDE)).double()
    for name in NAMES:
        model = network(name)
        seed_weights(model)
        golden('tv-' + name, SIDE, model(image)[0])
    for w, h, resize, side in CROPS:
        pixels = (stream(5, w * h * 3) >> np.uint64(56)).astype(np.float64).reshape(h, w, 3) / 255
        image = F.resize(torch.from_numpy(pixels).permute(2, 0, 1), [resize], antialias=True)
        golden('crop-%dx%d-%d-%d' % (w, h, resize, side), side, F.normalize(F.center_crop(image, [side]), MEAN, STD))
