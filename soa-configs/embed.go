// Package soaconfigs carries the example soa-configs of this folder in the
// paasta binary, for the playground.
package soaconfigs

import "embed"

// Files is the tree; its .go files are not part of it.
//
//go:embed all:*
var Files embed.FS
