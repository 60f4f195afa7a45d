// Command write puts an example service into a directory of its own, with all
// that it needs to be a repository: write NAME DIRECTORY.
package main

import (
	"fmt"
	"os"

	"github.com/gopaasta/paasta/docker/examples"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: write NAME DIRECTORY")
		os.Exit(2)
	}
	if err := examples.Write(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "write:", err)
		os.Exit(1)
	}
}
