#!/bin/sh
# Installs Mesa's software Vulkan driver (lavapipe) on Debian or Ubuntu, so that
# wgpt runs on a machine without a GPU driver.
#
# The release's backports suite is preferred where it holds a newer Mesa:
# Debian 12's own (22.3) runs compute shaders 5 to 10 times slower than 25.0.
# The backports entry is derived from the machine's own Debian entry (same
# mirror, same keyring, other suite), and stays in place so that the driver
# keeps receiving updates.
#
# Usage: tools/setup_vulkan.sh [--yes]
#   --yes   do not ask before using sudo (root and CI are never asked)
set -eu

yes=
[ "${1:-}" = "--yes" ] && yes=1
say() { printf 'setup_vulkan: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

command -v apt-get >/dev/null 2>&1 || die "this script knows Debian and Ubuntu only.
  Fedora: sudo dnf install mesa-vulkan-drivers vulkan-loader
  Arch:   sudo pacman -S vulkan-swrast vulkan-icd-loader"
[ -r /etc/os-release ] || die "cannot read /etc/os-release to learn the release's name"
# shellcheck disable=SC1091
. /etc/os-release
codename=${VERSION_CODENAME:-}
[ -n "$codename" ] || die "/etc/os-release names no VERSION_CODENAME"

say "this installs the packages mesa-vulkan-drivers and libvulkan1 (a software Vulkan driver),"
say "from the suite $codename-backports where that has a newer version."
as_root=
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null 2>&1 || die "not root and no sudo: ask an administrator to run this script"
    as_root=sudo
    if [ -z "$yes" ] && [ -z "${CI:-}" ]; then
        [ -t 0 ] || die "needs sudo and cannot ask (no terminal): run 'tools/setup_vulkan.sh --yes' yourself"
        printf 'Use sudo for that? [y/N] ' >&2
        read -r answer
        case $answer in y | Y | yes) ;; *) die "nothing was changed" ;; esac
    fi
fi

# Prints "URI KEYRING" of the entry that serves this release, from deb822 files
# (*.sources) or one-line files (*.list); KEYRING may be empty.
own_entry() {
    for file in /etc/apt/sources.list.d/*.sources; do
        [ -r "$file" ] || continue
        awk -v suite="$codename" '
            BEGIN { RS = ""; FS = "\n" }
            {
                uri = ""; key = ""; hit = 0; comps = ""
                for (i = 1; i <= NF; i++) {
                    line = $i
                    if (line ~ /^URIs:/) { sub(/^URIs:[ \t]*/, "", line); split(line, part, /[ \t]+/); uri = part[1] }
                    else if (line ~ /^Signed-By:/) { sub(/^Signed-By:[ \t]*/, "", line); key = line }
                    else if (line ~ /^Components:/) { comps = line }
                    else if (line ~ /^Suites:/) {
                        sub(/^Suites:[ \t]*/, "", line); n = split(line, part, /[ \t]+/)
                        for (j = 1; j <= n; j++) if (part[j] == suite) hit = 1
                    }
                }
                if (hit && uri != "" && comps ~ /main/) { print uri, key; exit }
            }' "$file"
    done
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [ -r "$file" ] || continue
        awk -v suite="$codename" '
            $1 == "deb" {
                key = ""; i = 2
                if ($2 ~ /^\[/) {
                    for (; i <= NF; i++) {
                        if ($i ~ /signed-by=/) { key = $i; sub(/.*signed-by=/, "", key); sub(/\].*/, "", key) }
                        if ($i ~ /\]$/) { i++; break }
                    }
                }
                if ($(i + 1) == suite && $0 ~ / main/) { print $i, key; exit }
            }' "$file"
    done
}

$as_root apt-get update -q
target=
case ${ID:-} in
debian)
    if ! apt-cache policy | grep -q "n=$codename-backports"; then
        entry=$(own_entry | head -n 1)
        uri=${entry%% *}
        key=${entry#* }
        if [ -n "$uri" ]; then
            list=/etc/apt/sources.list.d/wgpt-backports.sources
            say "adding $list (suite $codename-backports of your own mirror)"
            {
                printf 'Types: deb\nURIs: %s\nSuites: %s-backports\nComponents: main\n' "$uri" "$codename"
                [ -z "$key" ] || printf 'Signed-By: %s\n' "$key"
            } | $as_root tee "$list" >/dev/null
            # A mirror may lack the suite: then the entry goes again.
            if ! $as_root apt-get update -q; then
                say "the mirror does not serve $codename-backports: removing the entry again"
                $as_root rm -f "$list"
                $as_root apt-get update -q
            fi
        else
            say "found no entry for $codename in the apt sources: taking the release's own driver"
        fi
    fi
    if apt-cache madison mesa-vulkan-drivers | grep -q "$codename-backports"; then
        target="-t $codename-backports"
    fi
    ;;
esac
# The word splitting of $target is wanted: an option and its value, or nothing.
# shellcheck disable=SC2086
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $target \
    mesa-vulkan-drivers libvulkan1
say "installed: $(dpkg-query -W -f '${Package} ${Version}; ' mesa-vulkan-drivers libvulkan1)"
