package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

var planted = regexp.MustCompile(`mutant\.On\("([^"]+)"\)`)

// compareWithCode checks that the table has exactly the mutants that are in the
// code below root.
func compareWithCode(root string) error {
	inCode := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (strings.HasPrefix(d.Name(), ".") && path != root || path == filepath.Join(root, "internal", "mutant")):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go"):
			return nil
		}
		text, err := os.ReadFile(path)
		for _, m := range planted.FindAllSubmatch(text, -1) {
			inCode[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, m := range mutants {
		if !inCode[m.name] {
			return fmt.Errorf("mutant %s is in the table and not in the code", m.name)
		}
		delete(inCode, m.name)
	}
	for name := range inCode {
		return fmt.Errorf("mutant %s is in the code and not in the table", name)
	}
	return nil
}
