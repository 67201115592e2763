#!/usr/bin/python3
"""What fast decoding (libjpeg-turbo, reduced while it is decoded) costs and saves
against exact decoding.

    tests/bench/decode.py accuracy MODEL DATA [--side N] [--limit N]
        DATA: a folder of class folders of images; the classes are the model's labels.
        Each image is enlarged so that its shorter side is N pixels, as a camera would
        deliver it (0: as it is), made a JPEG, and predicted with both decoders.
    tests/bench/decode.py time [CFG | MODEL]
        Pictures of 12 megapixels, calm to busy, as a camera's are, to the input of a
        network at 224x224.
"""
import argparse
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = str(ROOT / 'build/espalier-deploy')
CHUNK = 250  # images on disk at a time
QUALITY = 90

if subprocess.run([ROOT / 'tests/packages.sh', 'python3-pil', 'python3-numpy']).returncode:
    sys.exit(1)
import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402


def labels_of(model):
    return json.loads(subprocess.check_output([DEPLOY, 'info', '--json', model]))['labels']


def find_images(data, labels, limit):
    found = [(str(path), label) for label in labels for path in sorted(pathlib.Path(data, label).iterdir())]
    random.Random(1).shuffle(found)
    return found[:limit] if limit else found


def enlarge(path, side, out):
    image = Image.open(path).convert('RGB')
    scale = side / min(image.size)
    image.resize([round(x * scale) for x in image.size], Image.BICUBIC).save(out, quality=QUALITY)


def predict(model, files, decode):
    lines = subprocess.check_output([DEPLOY, 'predict', model, *files, '--decode', decode, '--top', '1', '--json'])
    return [json.loads(line) for line in lines.splitlines()]


def accuracy(a):
    images = find_images(a.data, labels_of(a.model), a.limit)
    right = {'exact': 0, 'fast': 0}
    load_ms = {'exact': 0.0, 'fast': 0.0}
    differ = done = 0
    with tempfile.TemporaryDirectory() as folder:
        for at in range(0, len(images), CHUNK):
            chunk = images[at:at + CHUNK]
            files = [path for path, _ in chunk]
            if a.side:
                files = [os.path.join(folder, '%d.jpg' % i) for i in range(len(chunk))]
            for (path, _), file in zip(chunk, files if a.side else []):
                enlarge(path, a.side, file)
            answers = {}
            for how in right:
                results = predict(a.model, files, how)
                answers[how] = [r['label'] for r in results]
                load_ms[how] += sum(r['load_ms'] for r in results)
                right[how] += sum(got == label for got, (_, label) in zip(answers[how], chunk))
            differ += sum(x != y for x, y in zip(answers['exact'], answers['fast']))
            done += len(chunk)
            if sys.stderr.isatty():
                print('\r%d of %d images' % (done, len(images)), end='', file=sys.stderr)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    exact, fast = 100 * right['exact'] / done, 100 * right['fast'] / done
    print('%d images, %s: exact %.2f%%, fast %.2f%% (%+.2f points; %d answers differ); to decode one %.2f ms and %.2f ms' % (
        done, 'shorter side %d' % a.side if a.side else 'as they are', exact, fast, fast - exact, differ,
        load_ms['exact'] / done, load_ms['fast'] / done))


def picture(w, h, fall):
    """Noise of every size, the finer the fainter, as photographs have; `fall`: how much fainter."""
    rng = np.random.default_rng(1)
    sum_ = np.zeros((h, w, 3), np.float32)
    for cells in 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048:
        noise = rng.standard_normal((cells * h // w, cells, 3)).astype(np.float32)
        for c in range(3):
            sum_[..., c] += 128 / cells ** fall * np.asarray(Image.fromarray(noise[..., c]).resize((w, h), Image.BICUBIC))
    return Image.fromarray(np.clip(128 + sum_, 0, 255).astype(np.uint8))


def time(a):
    with tempfile.TemporaryDirectory() as folder:
        network = a.network
        if network.endswith('.cfg'):
            text = re.sub(r'(?m)^(width|height) *= *\d{3,}$', r'\1=224', pathlib.Path(network).read_text())
            network = folder + '/network.cfg'
            pathlib.Path(network).write_text(text)
        file = folder + '/12-megapixels.jpg'
        for fall in .8, .45, .3:  # calm, usual, busy
            picture(4000, 3000, fall).save(file, quality=QUALITY)
            out = subprocess.check_output([DEPLOY, 'bench', network, '--plan', '0', '--threads', '1', '--seconds', '0',
                                           '--decode', file], text=True)
            print(out.splitlines()[-1].replace(folder + '/', ''))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = p.add_subparsers(dest='command', required=True)
    q = commands.add_parser('accuracy')
    q.add_argument('model')
    q.add_argument('data')
    q.add_argument('--side', type=int, default=1024)
    q.add_argument('--limit', type=int, default=0, help='images, drawn at random; 0: all')
    q.set_defaults(run=accuracy)
    q = commands.add_parser('time')
    q.add_argument('network', nargs='?', default=str(ROOT / 'cfg/resnet18.cfg'))
    q.set_defaults(run=time)
    a = p.parse_args()
    a.run(a)


main()
