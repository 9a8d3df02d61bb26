// Command generate writes the golden bytes into a folder: idl/vectors, unless another one is named.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/gatepost/gatepost/idl/vectors"
)

func main() {
	folder := "idl/vectors"
	if len(os.Args) > 1 {
		folder = os.Args[1]
	}
	if err := write(folder); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func write(folder string) error {
	files, err := vectors.Generate()
	if err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(folder, name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}
