package server

import (
	"encoding/json"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/crypto/ssh"
)

func openLogins(t *testing.T, fs vfs.FS, live ...string) (j *jobLogins, broken []string) {
	t.Helper()
	j, err := openJobLogins(fs, "/data/sftp/jobs", func(s string) bool { return slices.Contains(live, s) }, func(path string, err error) {
		broken = append(broken, path+": "+err.Error())
	})
	if err != nil {
		t.Fatal(err)
	}
	return j, broken
}

func writeFile(t *testing.T, fs vfs.FS, path, text string) {
	t.Helper()
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(f, text); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// A login that was told survives a power cut, and its file lets nobody in.
func TestJobLoginsSurvive(t *testing.T) {
	mem := vfs.NewCrashableMem()
	j, _ := openLogins(t, mem)
	secrets := map[string]jobSecrets{}
	for _, session := range []string{"aaa", "bbb"} {
		s, err := j.make(jobLogin{Session: session, VM: "vm1", Made: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		secrets[session] = s
	}
	crashed := mem.CrashClone(vfs.CrashCloneCfg{})
	j, broken := openLogins(t, crashed, "bbb")
	if len(broken) > 0 {
		t.Error(broken)
	}
	if _, ok := j.find("job-aaa"); ok {
		t.Error("the login of a session that is not open lets in")
	}
	if names, err := crashed.List(j.dir); err != nil || !slices.Equal(names, []string{"bbb.json"}) {
		t.Errorf("%v, %v", names, err)
	}
	l, ok := j.find("job-bbb")
	if !ok {
		t.Fatal("the login is lost")
	}
	keys := map[string]ssh.PublicKey{}
	for session, s := range secrets {
		key, err := ssh.ParsePrivateKey([]byte(s.privateKey))
		if err != nil {
			t.Fatal(err)
		}
		keys[session] = key.PublicKey()
	}
	if !l.hasKey(keys["bbb"]) || l.hasKey(keys["aaa"]) || !l.hasPassword([]byte(secrets["bbb"].password)) || l.hasPassword([]byte(secrets["aaa"].password)) || l.hasPassword(nil) {
		t.Error("the login takes another's secret, or not its own")
	}
	text, err := json.Marshal(l)
	if err != nil || strings.Contains(string(text), secrets["bbb"].password) || strings.Contains(string(text), "PRIVATE") {
		t.Errorf("%s, %v", text, err)
	}
}

func TestJobLoginEnds(t *testing.T) {
	mem := vfs.NewMem()
	j, _ := openLogins(t, mem)
	if _, err := j.make(jobLogin{Session: "aaa", VM: "vm1"}); err != nil {
		t.Fatal(err)
	}
	l, _ := j.find("job-aaa")
	for range 2 {
		if err := j.end("aaa"); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-l.gone:
	default:
		t.Error("its connections are not told")
	}
	if _, ok := j.find("job-aaa"); ok {
		t.Error("it lets in")
	}
	if names, _ := mem.List(j.dir); len(names) > 0 {
		t.Errorf("left: %v", names)
	}
}

// What is damaged lets nobody in, and the server starts.
func TestDamagedJobLogins(t *testing.T) {
	mem := vfs.NewMem()
	j, _ := openLogins(t, mem)
	if _, err := j.make(jobLogin{Session: "good", VM: "vm1"}); err != nil {
		t.Fatal(err)
	}
	good, err := json.Marshal(j.bySession["good"])
	if err != nil {
		t.Fatal(err)
	}
	bad := map[string]string{
		"empty": "", "torn": string(good[:40]), "other": string(good), "newer": `{"format":2,"session":"newer"}`,
		"nokey": `{"format":1,"session":"nokey","password_sha256":"` + strings.Repeat("A", 43) + `="}`, "nohash": `{"format":1,"session":"nohash","key":"x"}`,
		"more": `{"format":1,"session":"more","surprise":1}`, "long": strings.Repeat(" ", jobLoginMax+1),
	}
	for name, text := range bad {
		writeFile(t, mem, j.path(name), text)
	}
	writeFile(t, mem, mem.PathJoin(j.dir, "good.json.tmp"), "what a crash left")
	j, broken := openLogins(t, mem, append(slices.Collect(maps.Keys(bad)), "good")...)
	if len(broken) != len(bad) {
		t.Errorf("told of %d: %q", len(broken), broken)
	}
	for name := range bad {
		if _, ok := j.find(jobUserPrefix + name); ok {
			t.Errorf("%s lets in", name)
		}
	}
	if _, ok := j.find("job-good"); !ok {
		t.Error("the good one does not let in")
	}
	if _, ok := j.find("good"); ok {
		t.Error("without its prefix it lets in")
	}
}
