#!/usr/bin/env bash
# The real servers that the tests talk to. On Debian as root they are installed; otherwise we say what is missing.
# With "bench": also what only the benchmarks compare with.
set -u
cd "$(dirname "$0")/../.." || exit 1
PATH=$PATH:/usr/sbin:/sbin
wanted=()
need() { command -v "$1" >/dev/null 2>&1 || ls $3 >/dev/null 2>&1 || wanted+=("$2"); }
need sshd openssh-server /usr/sbin/sshd
need postgres postgresql '/usr/lib/postgresql/*/bin/postgres'
need lftp lftp /usr/bin/lftp
need curl curl /usr/bin/curl
need proftpd proftpd-core /usr/sbin/proftpd
need mod_tls proftpd-mod-crypto /usr/lib/proftpd/mod_tls.so
need rsyslogd rsyslog /usr/sbin/rsyslogd
need lmnsd_gtls rsyslog-gnutls '/usr/lib/*/rsyslog/lmnsd_gtls.so'
need lighttpd lighttpd /usr/sbin/lighttpd
need mod_webdav lighttpd-mod-webdav '/usr/lib/lighttpd/mod_webdav.so'
need systemd-analyze systemd /usr/bin/systemd-analyze
need chromium chromium /usr/bin/chromium
need chromedriver chromium-driver /usr/bin/chromedriver
[ "${1:-}" = bench ] && need rclone rclone /usr/bin/rclone
# vsftpd and proftpd exclude each other as packages: the one is installed, the other lies unpacked beside the project.
vsftpd=.servers/vsftpd
unpack() {
  here=$(mktemp -d) && (cd "$here" && apt-get -qq download vsftpd) && mkdir -p $vsftpd && dpkg -x "$here"/vsftpd_*.deb $vsftpd
  status=$?
  rm -rf "$here"
  return $status
}
missing() { ! command -v vsftpd >/dev/null 2>&1 && [ ! -x $vsftpd/usr/sbin/vsftpd ]; }
[ ${#wanted[@]} = 0 ] && ! missing && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  echo "Installing for the tests: ${wanted[*]} $(missing && echo vsftpd)"
  export DEBIAN_FRONTEND=noninteractive
  # Packages must not start servers of their own: the tests start theirs, on loopback, with their own configuration.
  if [ ! -e /usr/sbin/policy-rc.d ]; then printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d; mine=1; fi
  apt-get -qq update
  status=$?
  if [ $status = 0 ] && [ ${#wanted[@]} != 0 ]; then apt-get -qq install -y --no-install-recommends "${wanted[@]}" libwrap0 libcap2 >/dev/null; status=$?; fi
  if [ $status = 0 ] && missing; then unpack; status=$?; fi
  [ -n "${mine:-}" ] && rm -f /usr/sbin/policy-rc.d
  exit $status
fi
missing && wanted+=(vsftpd)
echo "Missing for some tests (they will be skipped): ${wanted[*]}. As root on Debian: apt-get install ${wanted[*]}"
