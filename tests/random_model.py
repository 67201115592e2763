#!/usr/bin/python3
"""A model file of a cfg with random weights that keep magnitudes about the same
from layer to layer:

    tests/random_model.py BUILD_DIR CFG [SIDE] MODEL      SIDE: of its images, instead of the cfg's
"""
import json
import re
import subprocess
import sys

import numpy as np


def main():
    build, cfg, model = sys.argv[1], sys.argv[2], sys.argv[-1]
    text = open(cfg).read()
    if len(sys.argv) == 5:
        text = re.sub(r'(?m)^(width|height) *=.*', r'\1=' + sys.argv[3], text, count=2)
    with open(model + '.cfg', 'w') as file:
        file.write(text)
    info = json.loads(subprocess.check_output([build + '/espalier-deploy', 'info', '--json', model + '.cfg']))
    rng = np.random.default_rng(1)

    def norm(n):
        return [rng.uniform(.5, 1.5, n), rng.uniform(-.1, .1, n), rng.uniform(.5, 1.5, n)]

    parts = []
    for layer in info['layers']:
        if layer['kind'] not in ('convolutional', 'connected'):
            continue
        c, h, w = layer['in']
        outputs = layer['out'][0]
        inputs = c * h * w if layer['kind'] == 'connected' else c // layer['conv_groups'] * layer['size'] ** 2
        weights = rng.standard_normal(outputs * inputs) * np.sqrt(2 / inputs)
        bn = norm(outputs) if layer['batch_normalize'] else []
        # Darknet's order: a convolution's batch norm stands before its weights, a connected layer's behind.
        parts += [rng.uniform(-.1, .1, outputs)] + ([weights] + bn if layer['kind'] == 'connected' else bn + [weights])
    with open(model + '.weights', 'wb') as file:
        file.write(np.array([0, 2, 0, 0, 0], '<i4').tobytes())
        file.write(np.concatenate(parts).astype('<f4').tobytes())
    subprocess.check_call([build + '/espalier-train', 'convert', '--cfg', model + '.cfg', '--weights', model + '.weights',
                           '-o', model], stderr=subprocess.DEVNULL)


main()
