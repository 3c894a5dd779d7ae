#!/bin/sh
# Tests which apt entry tools/setup_vulkan.sh derives from a machine's entries.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

# check NAME EXPECTED: compares the entry derived from $work/NAME, with its lines
# joined by '|'.
check() {
    found=$(tools/setup_vulkan.sh --print-entry "$work/$1" | tr '\n' '|')
    if [ "$found" != "$2" ]; then
        printf 'setup_vulkan, %s:\n  expected %s\n  found    %s\n' "$1" "$2" "$found" >&2
        failed=1
    fi
}

# machine NAME CODENAME: creates an etc/ of that release.
machine() {
    mkdir -p "$work/$1/etc/apt/sources.list.d"
    printf 'ID=debian\nVERSION_CODENAME=%s\n' "$2" >"$work/$1/etc/os-release"
}

machine deb822 bookworm
cat >"$work/deb822/etc/apt/sources.list.d/debian.sources" <<'END'
Types: deb
URIs: http://mirror.test/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/security.gpg

# The release itself.
Types: deb deb-src
URIs: http://mirror.test/debian http://second.test/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian.gpg
END
check deb822 'Types: deb|URIs: http://mirror.test/debian|Suites: bookworm-backports|Components: main|Signed-By: /usr/share/keyrings/debian.gpg|'

machine disabled trixie
cat >"$work/disabled/etc/apt/sources.list.d/debian.sources" <<'END'
Enabled: no
Types: deb
URIs: http://off.test/debian
Suites: trixie
Components: main

Types: deb-src
URIs: http://sources.test/debian
Suites: trixie
Components: main
END
check disabled ''

machine inline-key trixie
cat >"$work/inline-key/etc/apt/sources.list.d/debian.sources" <<'END'
Types: deb
uris: http://mirror.test/debian
Suites: trixie
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 AAAA
END
check inline-key 'Types: deb|URIs: http://mirror.test/debian|Suites: trixie-backports|Components: main|'

machine one-line bookworm
cat >"$work/one-line/etc/apt/sources.list" <<'END'
# deb http://commented.test/debian bookworm main
deb-src http://sources.test/debian bookworm main
deb http://mirror.test/debian-security bookworm-security main
deb http://extra.test/debian bookworm contrib # not main
deb http://mirror.test/debian bookworm main contrib
END
check one-line 'Types: deb|URIs: http://mirror.test/debian|Suites: bookworm-backports|Components: main|'

machine options bookworm
cat >"$work/options/etc/apt/sources.list.d/debian.list" <<'END'
deb [ arch=amd64 signed-by=/usr/share/keyrings/debian.gpg ] http://mirror.test/debian bookworm main
END
check options 'Types: deb|URIs: http://mirror.test/debian|Suites: bookworm-backports|Components: main|Signed-By: /usr/share/keyrings/debian.gpg|'

machine tight-options bookworm
cat >"$work/tight-options/etc/apt/sources.list" <<'END'
deb [signed-by=/k.gpg] http://mirror.test/debian bookworm main
END
check tight-options 'Types: deb|URIs: http://mirror.test/debian|Suites: bookworm-backports|Components: main|Signed-By: /k.gpg|'

machine none bookworm
check none ''

if [ "$failed" -ne 0 ]; then exit 1; fi
echo "setup_vulkan: entries are derived as expected"
