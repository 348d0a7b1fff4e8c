package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/integration/rig"
)

// tour joins the README's blocks that begin with ```sh tour.
func tour(readme string) string {
	var script strings.Builder
	for _, block := range strings.Split(readme, "```sh tour\n")[1:] {
		text, _, _ := strings.Cut(block, "```")
		script.WriteString(text)
	}
	return script.String()
}

// TestReadmeTour runs the README's tour, line for line, as one script that ends
// at the first failure. Only the ports differ from a user's, so that it can run
// beside other servers.
func TestReadmeTour(t *testing.T) {
	t.Parallel()
	root, err := rig.Root()
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	script := tour(string(readme))
	if strings.Count(script, "strongroom") < 5 {
		t.Fatalf("there is no tour in the README:\n%s", script)
	}
	tmp, err := os.MkdirTemp("", "tour-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	cmd := exec.Command("bash", "-euxo", "pipefail", "-c", script)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp, "STRONGROOM_NBD_LISTEN=127.0.0.1:0", "STRONGROOM_HTTP_LISTEN=127.0.0.1:0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that its background programs can be ended
	watch := time.AfterFunc(6*time.Minute, func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	defer watch.Stop()
	out, err := cmd.CombinedOutput()
	if err != nil {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		t.Fatalf("%v\n%s", err, out)
	}
	for _, said := range []string{"Images are identical.", "epoch2", "web1/vda@"} {
		if !strings.Contains(string(out), said) {
			t.Errorf("the tour did not print %q:\n%s", said, out)
		}
	}
}
