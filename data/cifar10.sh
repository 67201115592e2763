#!/bin/sh
# CIFAR-10 into data/cifar10/, for data/cifar10.data.
#
#   data/cifar10.sh                      fetch the original binary files
#   data/cifar10.sh --from FILE [DIR]    unpack FILE instead: the original
#       cifar-10-binary.tar.gz, or a tar (.gz) of class folders of images:
#       train/<class>/0001.jpg ..., test/<class>/0001.jpg ...
#
# DIR is the folder to make, data/cifar10 beside this script by default. It is
# made whole or not at all; an existing one is left alone.
set -eu
url=https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz
size=170052171
md5=c32a1d4ab5d03f1284b67883e8d87530

fail() { echo "cifar10.sh: $1" >&2; [ -z "${2:-}" ] || echo "hint: $2" >&2; exit 1; }
usage() { echo "usage: data/cifar10.sh [--from FILE [DIR]]" >&2; exit 2; }

here=$(cd "$(dirname "$0")" && pwd)
dir=$here/cifar10 from=
case ${1:-} in
"") [ $# -eq 0 ] || usage ;;
--from) [ $# -ge 2 ] && [ $# -le 3 ] || usage
    from=$2 dir=${3:-$dir} ;;
-h | --help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"; exit 0 ;;
*) usage ;;
esac
dir=${dir%/}

[ ! -e "$dir" ] || fail "$dir is there already" "remove it to unpack again"
mkdir -p "$(dirname "$dir")"
work=$(mktemp -d "$dir.XXXXXX") || fail "cannot write beside $dir"
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

if [ -z "$from" ]; then
    from=$work/cifar-10-binary.tar.gz
    echo "fetching $url" >&2
    if command -v curl >/dev/null; then curl -fL --retry 3 -o "$from" "$url"
    elif command -v wget >/dev/null; then wget -O "$from" "$url"
    else fail "neither curl nor wget is here" "fetch $url and use --from"; fi || fail "cannot fetch $url" "fetch it elsewhere and use --from"
    got=$(wc -c <"$from")
    [ "$got" -eq $size ] || fail "fetched $got bytes, not $size"
    echo "$md5  $from" | md5sum -c --status || fail "the fetched file's MD5 is not $md5"
fi
[ -f "$from" ] || fail "$from is no file"
mkdir "$work/out"
said=$(tar -xf "$from" -C "$work/out" --no-same-owner --no-same-permissions 2>&1) ||
    fail "cannot unpack $from ($(echo "$said" | head -n 1))"

# One folder around everything, as in the original, is taken off.
root=$work/out
if [ -d "$root/cifar-10-batches-bin" ]; then root=$root/cifar-10-batches-bin; fi
if [ -f "$root/data_batch_1.bin" ] && [ -f "$root/test_batch.bin" ]; then
    for b in 1 2 3 4 5; do
        [ -f "$root/data_batch_$b.bin" ] || fail "$from holds no data_batch_$b.bin"
    done
elif [ -d "$root/train" ] && [ -d "$root/test" ]; then
    for split in train test; do
        n=$(ls "$root/$split" | wc -l)
        [ "$n" -eq 10 ] || fail "$from has $n classes in $split/, not 10"
    done
else
    fail "$from holds neither class folders in train/ and test/ nor CIFAR-10's binary files"
fi
chmod 755 "$root"
mv "$root" "$dir"
echo "$dir is ready: espalier-train train data/cifar10.data cfg/resnet20.cfg -o cifar10.safetensors"
