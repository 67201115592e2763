#!/bin/sh
# Unpacks the sources of a Debian package, with Debian's patches, from where this
# machine gets its packages:
#   tests/source.sh PACKAGE FOLDER
set -eu
package=$1 folder=$2
"$(dirname "$0")/packages.sh" dpkg-dev
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/parts"
# The machine's own sources, in both of apt's formats, asked for source packages.
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
    case $file in
    *.list) [ ! -f "$file" ] || sed -n 's/^deb[[:space:]]/deb-src /p' "$file" >"$work/parts/${file##*/}" ;;
    *.sources) sed 's/^Types:.*/Types: deb-src/' "$file" >"$work/parts/${file##*/}" ;;
    esac
done
apt() {
    apt-get -qq -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$work/parts" \
        -o Dir::State::Lists="$work/lists" -o APT::Sandbox::User=root "$@" >"$work/log" 2>&1 || {
        cat "$work/log" >&2
        return 1
    }
}
cd "$work"
apt update || : # some sources may have no source packages; then the next line tells
apt source "$package"
cd "$OLDPWD"
rm -rf "$folder"
mkdir -p "$(dirname "$folder")"
mv "$work/$package"-*/ "$folder"
