#!/bin/sh
# Installs the Debian packages given that are missing. Without the rights to
# do so, prints the one line needed and fails.
set -eu
[ "${1:-}" = --arch ] && { foreign=${2#:}; shift 2; }
if ! command -v dpkg-query >/dev/null; then
    echo "not a Debian system: install the equivalents of: $*" >&2
    exit 0
fi
exec 9<"$0"
flock 9 # apt allows one at a time, make -j several
missing=
for package; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
setup=
if [ -n "${foreign:-}" ] && ! dpkg --print-foreign-architectures | grep -qx "$foreign"; then
    setup="dpkg --add-architecture $foreign && "
fi
install="${setup}apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends$missing"
echo "  PKG  $missing" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if [ "$(id -u)" = 0 ]; then run="sh -c"
elif sudo -n true 2>/dev/null; then run="sudo -n sh -c"
else
    echo "missing packages, and no right to install them; as root run:" >&2
    echo "  apt-get install -y$missing" >&2
    exit 1
fi
$run "$install" >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
