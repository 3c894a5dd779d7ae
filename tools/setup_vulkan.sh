#!/bin/sh
# Installs Mesa's software Vulkan driver (lavapipe) on Debian or Ubuntu, so that
# wgpt runs on a machine without a GPU driver.
#
# The release's backports suite is preferred if it has a newer Mesa:
# Debian 12's standard version (22.3) runs compute shaders 5 to 10 times slower
# than 25.0.
# On Debian the backports entry is derived from the machine's own entry (same
# mirror, same keyring, other suite), and stays in place so that the driver
# keeps receiving updates.
#
# Usage: tools/setup_vulkan.sh [--yes]
#        tools/setup_vulkan.sh --print-entry ROOT
#   --yes           do not ask before using sudo (root and CI are never asked)
#   --print-entry   print the apt entry that would be added, based on
#                   ROOT/etc/os-release and ROOT/etc/apt, and change nothing
set -eu

say() { printf 'setup_vulkan: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

yes='' root='' print_entry=''
case ${1:-} in
'') ;;
--yes) yes=1 ;;
--print-entry) print_entry=1 root=${2:?--print-entry takes a directory} ;;
*) die "unknown argument $1: see the head of this script" ;;
esac

read_release() {
    [ -r "$root/etc/os-release" ] || die "cannot read $root/etc/os-release to learn the release's name"
    # shellcheck disable=SC1091
    . "$root/etc/os-release"
    codename=${VERSION_CODENAME:-}
    [ -n "$codename" ] || die "/etc/os-release names no VERSION_CODENAME"
}

# Prints "URI KEYRING" of each entry that serves this release's main component,
# from deb822 files (*.sources) and one-line files (*.list); KEYRING may be empty.
own_entries() {
    for file in "$root"/etc/apt/sources.list.d/*.sources; do
        [ -r "$file" ] || continue
        awk -v suite="$codename" '
            function has(list, word,    part, n, j) {
                n = split(list, part, /[ \t]+/)
                for (j = 1; j <= n; j++) if (part[j] == word) return 1
                return 0
            }
            BEGIN { RS = ""; FS = "\n" }
            {
                split("", value)
                for (i = 1; i <= NF; i++) {
                    if ($i !~ /^[A-Za-z-]+:/) continue  # comment or continuation
                    name = tolower($i); sub(/:.*/, "", name)
                    text = $i; sub(/^[^:]*:[ \t]*/, "", text); sub(/[ \t]+$/, "", text)
                    value[name] = text
                }
                split(value["uris"], uri, /[ \t]+/)
                if (tolower(value["enabled"]) != "no" && has(value["types"], "deb") && uri[1] != "" &&
                    has(value["suites"], suite) && has(value["components"], "main"))
                    print uri[1], value["signed-by"]
            }' "$file"
    done
    for file in "$root"/etc/apt/sources.list "$root"/etc/apt/sources.list.d/*.list; do
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
                main = 0
                for (j = i + 2; j <= NF && $j !~ /^#/; j++) if ($j == "main") main = 1
                if ($(i + 1) == suite && main) print $i, key
            }' "$file"
    done
}

# Prints the deb822 entry of the backports suite; nothing if the machine has no
# entry to derive it from.
backports_entry() {
    entry=$(own_entries | head -n 1)
    uri=${entry%% *}
    key=${entry#* }
    [ -n "$uri" ] || return 0
    printf 'Types: deb\nURIs: %s\nSuites: %s-backports\nComponents: main\n' "$uri" "$codename"
    [ -z "$key" ] || printf 'Signed-By: %s\n' "$key"
}

if [ -n "$print_entry" ]; then
    read_release
    backports_entry
    exit 0
fi

command -v apt-get >/dev/null 2>&1 || die "this script knows Debian and Ubuntu only.
  Fedora: sudo dnf install mesa-vulkan-drivers vulkan-loader
  Arch:   sudo pacman -S vulkan-swrast vulkan-icd-loader"
read_release
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

$as_root apt-get update -q
if [ "${ID:-}" = debian ] && ! apt-cache policy | grep "n=$codename-backports" >/dev/null; then
    entry_text=$(backports_entry)
    if [ -n "$entry_text" ]; then
        list=/etc/apt/sources.list.d/wgpt-backports.sources
        say "adding $list (suite $codename-backports of your own mirror)"
        printf '%s\n' "$entry_text" | $as_root tee "$list" >/dev/null
        # A mirror may lack the suite; then the entry is removed.
        if ! $as_root apt-get update -q; then
            say "the mirror does not serve $codename-backports: removing the entry again"
            $as_root rm -f "$list"
            $as_root apt-get update -q
        fi
    else
        say "found no entry for $codename in the apt sources: taking the release's own driver"
    fi
fi
target=
if apt-cache madison mesa-vulkan-drivers | grep "$codename-backports" >/dev/null; then
    target="-t $codename-backports"
fi
# The word splitting of $target is intended: an option and its value, or nothing.
# shellcheck disable=SC2086
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $target \
    mesa-vulkan-drivers libvulkan1
say "installed: $(dpkg-query -W -f '${Package} ${Version}; ' mesa-vulkan-drivers libvulkan1)"
