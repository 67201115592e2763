#!/usr/bin/env python3
"""Pruning at initialisation on CIFAR-10: whole channels against single weights
by the same scores, at the same number of weights, and against no pruning.

    tests/bench/pai.py         print the table from finished rows
    tests/bench/pai.py run     train what is missing, then print
    tests/bench/pai.py list    the rows

Paper: Reconvene, arXiv 2404.16877: within seconds, up to 16.21 times smaller
and 2 times faster at the accuracy of the unstructured counterpart.
"""
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import rows

HEADLINE = [.06, .05, .02]
GRID = [.5, .2, .1, .05, .02, .01]


def jobs():
    def job(network, seed, kind, method=None, density=None):
        return {'network': network, 'seed': seed, 'kind': kind, 'method': method, 'density': density}
    yield job('vgg16-cifar', 1, 'dense')
    for density in HEADLINE:
        yield job('vgg16-cifar', 1, 'structured', 'synflow', density)
        yield job('vgg16-cifar', 1, 'unstructured', 'synflow', density)
    yield job('resnet20', 1, 'dense')
    for density in GRID:
        yield job('resnet20', 1, 'structured', 'synflow', density)
        yield job('resnet20', 1, 'unstructured', 'synflow', density)
    for method in ['snip', 'grasp', 'magnitude', 'random']:
        for density in [.2, .1, .05]:
            yield job('resnet20', 1, 'structured', method, density)
            yield job('resnet20', 1, 'unstructured', method, density)
    for method in ['snip', 'grasp', 'random']:
        yield job('vgg16-cifar', 1, 'structured', method, .05)
        yield job('vgg16-cifar', 1, 'unstructured', method, .05)
    for seed in [2, 3]:
        yield job('vgg16-cifar', seed, 'dense')
        yield job('vgg16-cifar', seed, 'structured', 'synflow', .05)
        yield job('vgg16-cifar', seed, 'unstructured', 'synflow', .05)


def run_row(table, job):
    network, seed, kind, method, density = (job[k] for k in ('network', 'seed', 'kind', 'method', 'density'))
    cfg = rows.one_level(network, table.work)
    name = f'{table.work}/{network}-{kind}-{method}-{density}-{seed}'
    row = dict(job, epochs=rows.epochs_of(network))
    options, commands = [], []
    if kind != 'dense':
        command = [rows.TRAIN, 'pai', rows.DATA, cfg, '--method', method, '--density', str(density), '--seed', str(seed),
                   '--threads', rows.THREADS, '-o', name + '.cfg'] + (['--unstructured'] if kind == 'unstructured' else [])
        # The least of three: what other load disturbs least. All write the same files.
        runs = [json.loads(rows.run(command + ['--json'], f'{name}.pai{i}')) for i in range(3)]
        done = min(runs, key=lambda run: run['seconds'])
        commands.append(rows.said(command))
        cfg = name + '.cfg'
        options = ['--from', name + '.safetensors'] + (['--keep-zeros'] if kind == 'unstructured' else [])
        row.update(prune_s=round(done['seconds'], 2), weights=done['weights'], weights_before=done['weights_before'],
                   multiply_adds=done['multiply_adds'], multiply_adds_before=done['multiply_adds_before'])
    model = name + '-trained.safetensors'
    commands.append(rows.train(cfg, model, network, seed, options))
    row.update(test=rows.test_accuracy(model, name + '.test'), ms=rows.milliseconds(model),
               train_s=round(rows.seconds(model + '.log')), command='; '.join(commands), **rows.sizes(model))
    table.add(row)


def show(table):
    print(f'{"network":12} {"method":10} {"density":>7} {"":14} {"seeds":>5} {"test, %":>8} {"MB":>7} {"zlib":>7} {"ms":>8} {"prune, s":>8}')
    keys = []
    for r in table.rows:
        key = (r['network'], r['method'] or '', r['density'] or 1, r['kind'])
        if key not in keys:
            keys.append(key)
    for network, method, density, kind in sorted(keys, key=lambda k: (k[0], k[1], -k[2], k[3])):
        key = {'network': network, 'method': method or None, 'density': None if kind == 'dense' else density, 'kind': kind}
        value = lambda name: table.mean(name, **key)
        prune = '' if kind == 'dense' else f'{value("prune_s"):8.2f}'
        print(f'{network:12} {method:10} {density:7g} {kind:14} {len(table.find(**key)):5} {value("test"):8.2f} '
              f'{value("bytes") / 1e6:7.2f} {value("zlib_bytes") / 1e6:7.2f} {value("ms"):8.3f} {prune}')
    print('\nwhole channels against single weights; paper: 16.21 times smaller, 2 times faster, at equal accuracy')
    for network, method, density, kind in sorted(keys, key=lambda k: (k[0], k[1], -k[2])):
        key = {'network': network, 'method': method, 'density': density}
        if kind != 'structured' or not table.find(kind='unstructured', **key):
            continue
        s = lambda name: table.mean(name, kind='structured', **key)
        u = lambda name: table.mean(name, kind='unstructured', **key)
        dense = table.mean('test', network=network, kind='dense')
        against = f', {s("test") - dense:+6.2f} and {u("test") - dense:+6.2f} against dense' if dense is not None else ''
        print(f'{network:12} {method:10} {density:7g}  {u("bytes") / s("bytes"):6.2f} times smaller '
              f'({u("zlib_bytes") / s("zlib_bytes"):.2f} by zlib), {u("ms") / s("ms"):5.2f} times faster, '
              f'accuracy {s("test") - u("test"):+6.2f} points{against}')


rows.main('pai', jobs, run_row, show)
