#!/bin/bash
# Tool: nfpm v2.48.0 (Go), which makes .deb and .rpm packages.
#
# People expect: with `mtime` in its configuration and SOURCE_DATE_EPOCH in the environment, two builds of the same content give the same package.
# It does: that holds for files that are listed one by one. What comes in by `type: tree` keeps the times that the files have on disk, so two
#   checkouts of one commit give packages with different checksums.
# Why it matters here: a release that anybody can build again and compare must list its files, or set their times first.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
GOBIN=$dir go install github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.48.0 2>install.log || { cat install.log >&2; exit 1; }
./nfpm --version | grep -i version
export SOURCE_DATE_EPOCH=1700000000
# package NAME TYPE SOURCE DESTINATION
package() {
	cat >"$1.yaml" <<END
name: finding
arch: amd64
version: 1.0.0
maintainer: Somebody <somebody@example.com>
mtime: 2023-11-14T22:13:20Z
contents:
  - {src: $3, dst: $4, type: $2, file_info: {mtime: 2023-11-14T22:13:20Z}}
END
	[ "$2" != file ] || sed -i 's/ type: file,//' "$1.yaml"
	./nfpm package --config "$1.yaml" --packager deb --target "$1.deb" >/dev/null
	sha256sum <"$1.deb" | cut -c1-16
}
for checkout in a b; do
	mkdir -p "$checkout/share"
	echo hello >"$checkout/share/file"
done
touch -d '2020-01-01' a/share/file
touch -d '2021-01-01' b/share/file
one=$(package file-a file a/share/file /usr/share/finding/file) two=$(package file-b file b/share/file /usr/share/finding/file)
echo "a listed file: $one $two"
[ "$one" = "$two" ] || { echo "changed: listed files are not reproducible either"; exit 1; }
one=$(package tree-a tree a/share /usr/share/finding) two=$(package tree-b tree b/share /usr/share/finding)
echo "type: tree:    $one $two"
dpkg-deb -c tree-a.deb | grep 'file$'
dpkg-deb -c tree-b.deb | grep 'file$'
[ "$one" != "$two" ] || { echo "changed: trees are reproducible now"; exit 1; }
