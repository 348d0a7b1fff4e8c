package rig

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Build compiles cmd/strongroom, static as it is shipped, into dir and returns
// the binary's path.
func Build(ctx context.Context, dir string) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "strongroom")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", binary, "./cmd/strongroom")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build strongroom: %w\n%s", err, out)
	}
	return binary, nil
}

// Root is the top of the source tree the program runs in.
func Root() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	mod := strings.TrimSpace(string(out))
	if err != nil || mod == "" || mod == os.DevNull {
		return "", fmt.Errorf("not run inside the source tree (go env GOMOD says %q): %w", mod, err)
	}
	return filepath.Dir(mod), nil
}
