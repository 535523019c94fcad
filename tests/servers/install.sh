#!/usr/bin/env bash
# The real servers that the tests talk to. On Debian as root they are installed; otherwise we say what is missing.
set -u
PATH=$PATH:/usr/sbin:/sbin
wanted=()
need() { command -v "$1" >/dev/null 2>&1 || ls $3 >/dev/null 2>&1 || wanted+=("$2"); }
need sshd openssh-server /usr/sbin/sshd
need postgres postgresql '/usr/lib/postgresql/*/bin/postgres'
need lftp lftp /usr/bin/lftp
need curl curl /usr/bin/curl
need chromium chromium /usr/bin/chromium
need chromedriver chromium-driver /usr/bin/chromedriver
[ ${#wanted[@]} = 0 ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  echo "Installing for the tests: ${wanted[*]}"
  export DEBIAN_FRONTEND=noninteractive
  # Packages must not start servers of their own: the tests start theirs, on loopback, with their own configuration.
  if [ ! -e /usr/sbin/policy-rc.d ]; then printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d; mine=1; fi
  apt-get -qq update && apt-get -qq install -y --no-install-recommends "${wanted[@]}" >/dev/null
  status=$?
  [ -n "${mine:-}" ] && rm -f /usr/sbin/policy-rc.d
  exit $status
fi
echo "Missing for some tests (they will be skipped): ${wanted[*]}. As root on Debian: apt-get install ${wanted[*]}"
