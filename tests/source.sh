#!/bin/sh
# Unpacks the sources of a Debian package, with Debian's patches, of the release
# that runs here:
#   tests/source.sh PACKAGE FOLDER
set -eu
package=$1 folder=$2
"$(dirname "$0")/packages.sh" dpkg-dev
release=$(. /etc/os-release && echo "$VERSION_CODENAME")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial"
for suite in "$release" "$release-updates"; do
    echo "deb-src http://deb.debian.org/debian $suite main"
done >"$work/sources.list"
apt() {
    apt-get -qq -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::State::Lists="$work/lists" -o APT::Sandbox::User=root "$@" >"$work/log" 2>&1 || {
        cat "$work/log" >&2
        exit 1
    }
}
cd "$work"
apt update
apt source "$package"
cd "$OLDPWD"
rm -rf "$folder"
mkdir -p "$(dirname "$folder")"
mv "$work/$package"-*/ "$folder"
