package server

import (
	"reflect"
	"strings"
	"testing"

	"github.com/strongroom-backup/strongroom/internal/units"
)

const (
	testKey  = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDVKXeOiR5fozbUTOQnKU2LJ/bq+gHZIRw34rJELzNRV root@hv1"
	weakKey  = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQCn7i81fe8FJYxHRsVudLMHRlfeKeLNAeZ3nITFXjOD95FLQY/zsoO47t/tsop9OBEgAWt0kDef7bwdtCwUlXltBPhF9zFdHtGLS+ML//UN2GJee2WDtkmvEyOAut8HwNvtAejo2YLzKgZ860wmD7P2WE1hRtSe5qFfeZ5x2eskLw== r"
	testHash = "$2a$10$7EqJtq98hPqEX7fNZaFWoOhi5jNTHsMHo7yaaOaApzcZ5k9Y8jYSu"
)

// Users in a file and on one line, and back.
func TestSFTPUsers(t *testing.T) {
	text := `sftp:
  trusted-user-ca:
    - ` + testKey + `
  users:
    - name: hv1
      vms: ["web-*", db1]
      keys: ["` + testKey + `"]
      principals: [hv1, backup]
      password-hash: ` + testHash + `
      restore: true
      commit-on-rename: true
      quota: 10GiB
    - {name: reader, vm: web1, keys: ['` + testKey + `'], restore: true, read-only: true}
`
	want := SFTPUsers{
		{Name: "hv1", VMs: []string{"web-*", "db1"}, Keys: []string{testKey}, Principals: []string{"hv1", "backup"}, PasswordHash: testHash,
			Restore: true, CommitOnRename: true, Quota: 10 * units.GiB},
		{Name: "reader", VM: "web1", Keys: []string{testKey}, Restore: true, ReadOnly: true},
	}
	c := NewConfig()
	if err := c.Decode([]byte(text)); err != nil || c.Validate() != nil || !reflect.DeepEqual(c.SFTP.Users, want) || !reflect.DeepEqual(c.SFTP.TrustedUserCA, TextList{testKey}) {
		t.Fatalf("%v, %v\n%+v", err, c.Validate(), c.SFTP)
	}
	var again, flag, json Config
	if err := again.Decode(c.YAML()); err != nil || !reflect.DeepEqual(again, c) {
		t.Errorf("%v\n%s", err, c.YAML())
	}
	if err := flag.setFlag(Flag{"sftp.users", want.String()}); err != nil || !reflect.DeepEqual(flag.SFTP.Users, want) {
		t.Errorf("%v\n%s", err, want)
	}
	if err := json.setFlag(Flag{"sftp.users", `[{"name":"a","vm":"b","quota":1048576,"restore":false,"keys":[]}]`}); err != nil ||
		!reflect.DeepEqual(json.SFTP.Users, SFTPUsers{{Name: "a", VM: "b", Quota: units.MiB}}) {
		t.Errorf("%+v, %v", json.SFTP.Users, err)
	}
	hidden := c.WithoutHashes()
	if shown := string(hidden.YAML()); strings.Contains(shown, testHash) || !strings.Contains(shown, "hv1") || c.SFTP.Users[0].PasswordHash != testHash {
		t.Errorf("shown is\n%s", shown)
	}
}

// Every mistake in users is told with the user and the setting.
func TestSFTPProblems(t *testing.T) {
	good := `keys: ["` + testKey + `"]`
	for _, x := range []struct{ users, fails string }{
		{"[]", ""}, {"", ""}, {"~", ""},
		{`[{name: a, vm: b, ` + good + `}]`, ""},
		{`[{name: a, vms: ["*"], ` + good + `}]`, ""},
		{`[{name: a, vm: b, password-hash: "` + testHash + `"}]`, ""},
		{"x", "want a list of users"}, {"{}", "want a list of users"}, {"[a]", "want a list of users"}, {"[", "want a list of users"},
		{`[{nam: a}]`, "nam: no such setting of a user; there are name, vm, vms, keys"},
		{`[{name: a, name: b}]`, "name: given twice"},
		{`[{name: a, restore: yes}]`, "restore: \"yes\": want true or false"},
		{`[{name: a, keys: x}]`, "keys: want a list"}, {`[{name: a, keys: [[x]]}]`, "keys: want a list"}, {`[{name: [a]}]`, "name: want one value"},
		{`[{name: a, quota: 1GB}]`, "quota: size"},
		{`[{vm: b, ` + good + `}]`, "user 1: name: want a letter"},
		{`[{name: ../a, vm: b, ` + good + `}]`, `user "../a": name: want a letter`},
		{`[{name: job-1, vm: b, ` + good + `}]`, "job-… are the logins of backup jobs"},
		{`[{name: a, ` + good + `}]`, `user "a": vm, vms: want one of them`},
		{`[{name: a, vm: b, vms: [c], ` + good + `}]`, "vm, vms: want one of them"},
		{`[{name: a, vm: "b*", ` + good + `}]`, `vm: "b*" is no name of a VM`},
		{`[{name: a, vms: ["[x"], ` + good + `}]`, `vms: "[x"`}, {`[{name: a, vms: ["a/b"], ` + good + `}]`, `vms: "a/b"`}, {`[{name: a, vms: [""], ` + good + `}]`, "vms: \"\""},
		{`[{name: a, vm: b}]`, "keys, principals, password-hash: want at least one"},
		{`[{name: a, vm: b, keys: ["nonsense"]}]`, "keys: key 1"},
		{`[{name: a, vm: b, keys: ["` + weakKey + `"]}]`, "shorter than 2048 bits"},
		{`[{name: a, vm: b, keys: ['from="10.0.0.0/8" ` + testKey + `']}]`, "options"},
		{`[{name: a, vm: b, keys: ["` + testKey + `\n` + testKey + `"]}]`, "one key in a line"},
		{`[{name: a, vm: b, principals: [x]}]`, "sftp.trusted-user-ca names nobody"},
		{`[{name: a, vm: b, password-hash: secret}]`, "strongroom sftp hash-password"},
		{`[{name: a, vm: b, password-hash: "` + strings.Replace(testHash, "$10$", "$04$", 1) + `"}]`, "its cost is 4; want 10 to 16"},
		{`[{name: a, vm: b, read-only: true, ` + good + `}]`, "read-only: without restore"},
		{`[{name: a, vm: b, read-only: true, restore: true, commit-on-rename: true, ` + good + `}]`, "commit-on-rename: a read-only user"},
		{`[{name: a, vm: b, ` + good + `}, {name: a, vm: c, ` + good + `}]`, "another of this name"},
	} {
		var inFile Config
		fileErr := inFile.Decode([]byte("sftp:\n  users: " + x.users + "\n"))
		_, _, err := Load(Sources{Flags: []Flag{{"sftp.users", x.users}}})
		if (err == nil) != (x.fails == "") || err != nil && !strings.Contains(err.Error(), x.fails) {
			t.Errorf("%s: %v; want %q", x.users, err, x.fails)
		}
		if x.fails == "" && fileErr != nil {
			t.Errorf("%s in a file: %v", x.users, fileErr)
		}
	}
	for _, x := range []struct{ key, value, fails string }{
		{"sftp.listen", "none", ""}, {"sftp.listen", "0.0.0.0:2022", ""}, {"sftp.listen", "2022", "sftp.listen"}, {"sftp.listen", "", "sftp.listen"},
		{"sftp.advertise", "backup.example:22", ""}, {"sftp.advertise", "backup.example", "sftp.advertise"},
		{"sftp.trusted-user-ca", `["` + testKey + `"]`, ""}, {"sftp.trusted-user-ca", `["x"]`, "key 1"}, {"sftp.trusted-user-ca", "x", "want a list"},
		{"sftp.limits.connections", "0", "1 to 65536"}, {"sftp.limits.handles", "15", "16 to 65536"},
		{"sftp.login-timeout", "0s", "sftp.login-timeout"}, {"sftp.idle-timeout", "8d", "sftp.idle-timeout"},
		{"compress.idle", "0s", "compress.idle"}, {"compress.waiting-at", "0", "compress.waiting-at"}, {"compress.rate", "50M", ""},
	} {
		_, _, err := Load(Sources{Flags: []Flag{{x.key, x.value}}})
		if (err == nil) != (x.fails == "") || err != nil && !strings.Contains(err.Error(), x.fails) {
			t.Errorf("%s=%s: %v; want %q", x.key, x.value, err, x.fails)
		}
	}
}
