#!/usr/bin/env bash
# Makes ../page/plot.js and its licences again, from what package-lock.json
# pins. By hand, where npm is: neither the Go build nor CI runs it. A test
# compares what is committed with the checksums in bundle.sum.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d) # node_modules never enters the tree
trap 'rm -rf "$work"' EXIT
cp package.json package-lock.json entry.js licences.mjs "$work"
out=$PWD/../page
(
	cd "$work"
	npm ci --no-audit --no-fund
	npx esbuild entry.js --bundle --minify --format=iife --global-name=Plot --target=es2022 \
		--legal-comments=none --metafile=meta.json --outfile="$out/plot.js"
	node licences.mjs meta.json >"$out/plot.LICENSES.txt"
)
sha256sum ../page/plot.js ../page/plot.LICENSES.txt package.json package-lock.json entry.js >bundle.sum
