//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	_, _ = vocabulary, node.file
	fmt.Fprintln(os.Stderr, "lab: network namespaces and TUN devices are Linux's; there is no lab here")
	os.Exit(1)
}
