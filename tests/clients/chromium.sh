#!/bin/sh
# Installs Chromium, for the tests of pages in a browser, where it is missing and this user may install packages.
# Without it, those tests say that they are skipped.
for name in "${CHROMIUM:-chromium}" chromium-browser google-chrome; do
  command -v "$name" >/dev/null && exit
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  (apt-get update -q && apt-get install -y -q --no-install-recommends chromium) >/dev/null && exit
fi
echo "SKIPPED: Chromium is missing and cannot be installed here; the pages are not tested in a browser." >&2
