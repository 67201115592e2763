#!/usr/bin/python3
"""From exec to the end of the first prediction of resnet18 (random weights, an image
of its size), without and with a cache of packed weights, in turns; medians and
minima of wall-clock time.

    tests/bench/start.py BUILD_DIR [STARTS]
"""
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]


def start_ms(command):
    began = time.perf_counter()
    subprocess.check_call(command, stdout=subprocess.DEVNULL)
    return 1e3 * (time.perf_counter() - began)


def main():
    build, starts = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 30
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        model, image = folder + '/resnet18', folder + '/image.ppm'
        subprocess.check_call(['/usr/bin/python3', ROOT / 'tests/random_model.py', build, ROOT / 'cfg/tv-resnet18.cfg', model])
        with open(image, 'wb') as file:
            file.write(b'P6 224 224 255\n' + os.urandom(224 * 224 * 3))
        print('start to first prediction, resnet18, %d starts each (the files are in memory)' % starts)
        for threads in sorted({1, cores}):
            plain = ['taskset', '-c', '0-%d' % (threads - 1), build + '/espalier-deploy', 'predict', model, image,
                     '--threads', str(threads)]
            cached = plain + ['--cache', folder + '/cache']
            ms = {'without a cache': [], 'with a cache': []}
            for command in plain, cached:
                start_ms(command)
            for _ in range(starts):
                ms['without a cache'].append(start_ms(plain))
                ms['with a cache'].append(start_ms(cached))
            for name, samples in ms.items():
                print('%d thread(s), %-16s median %6.1f ms, least %6.1f ms' % (threads, name, statistics.median(samples),
                                                                              min(samples)))


main()
