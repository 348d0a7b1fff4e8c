package server

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/strongroom-backup/strongroom/etc"
	"github.com/strongroom-backup/strongroom/internal/units"
)

func TestDefaultsAreValid(t *testing.T) {
	c := NewConfig()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
}

// The example has every setting, with its default.
func TestExampleEqualsDefaults(t *testing.T) {
	got, want := Config{}, NewConfig()
	if err := got.Decode(etc.Example); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the example says\n%s\nthe defaults are\n%s", got.YAML(), want.YAML())
	}
}

func TestYAMLRoundTrip(t *testing.T) {
	want := NewConfig()
	want.NBD.Listen, want.NBD.MaxConnections, want.Store.Reserve = "[::1]:0", 7, 3*units.MiB/2
	want.NBD.SocketMode, want.Log.Level, want.Data = 0o660, "debug", "a: b # c"
	var got Config
	if err := got.Decode(want.YAML()); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v\n%s", err, want.YAML())
	}
}

// Each problem of a file is reported, all at once, with its line and key.
func TestFileProblems(t *testing.T) {
	for _, x := range []struct {
		name, text string
		want       []string
	}{
		{"empty", "", nil},
		{"only comments", "# nothing\n", nil},
		{"empty section", "nbd:\nlog:\n  level: warn\n", nil},
		{"unknown keys", "nbd:\n  max-conections: 3\nstorage: {}\n", []string{":2: nbd.max-conections: unknown key", ":3: storage: unknown key"}},
		{"section key on top", "max-connections: 3\n", []string{":1: max-connections: unknown key"}},
		{"twice", "data: /a\ndata: /b\n", []string{":2: data: given twice"}},
		{"bad values", "nbd:\n  max-connections: many\n  buffer-memory: 1GB\n  tls:\n    force: yes please\nbackup:\n  ttl: 1w\n  max-ttl: 0s\n", []string{
			`:2: nbd.max-connections: "many": want a whole number`, ":3: nbd.buffer-memory: size", ":5: nbd.tls.force:", `:7: backup.ttl: duration "1w"`,
			"backup.max-ttl: is 0s; want 1s to 2160h"}},
		{"out of range", "nbd:\n  max-connections: 0\n  buffer-memory: 1M\n  socket-mode: '0999'\nlog:\n  level: loud\n", []string{
			"nbd.max-connections: is 0; want 1 to 65536", "nbd.buffer-memory: is 1MiB; want 64MiB to 1TiB", "nbd.socket-mode", "log.level: is \"loud\"; want one of"}},
		{"list", "data: [a]\n", []string{":1: data: want one value"}},
		{"scalar for section", "nbd: 3\n", []string{":1: nbd: want settings"}},
		{"top is a list", "- a\n", []string{":1: the file: want settings"}},
		{"two documents", "data: /a\n---\ndata: /b\n", []string{"one YAML document"}},
		{"alias", "data: &d /a\nnbd:\n  socket: *d\n", []string{":3: nbd.socket: want one value"}},
		{"no yaml", "a: [", []string{"yaml:"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "c.yml")
			if err := os.WriteFile(path, []byte(x.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, _, err := Load(Sources{File: path})
			if len(x.want) == 0 {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil {
				t.Fatal("accepted")
			}
			for _, w := range x.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q is not in:\n%v", w, err)
				}
			}
		})
	}
}

func TestPrecedence(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yml")
	text := "data: /file\ndrain-timeout: 3s\nlog: {level: warn, format: json}\nnbd:\n  max-connections: 11\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, warnings, err := Load(Sources{
		File:    path,
		Environ: []string{"STRONGROOM_DATA=/env", "STRONGROOM_LOG_LEVEL=error", "STRONGROOM_API=x", "STRONGROOM_DATE=1", "HOME=/"},
		Flags:   []Flag{{"data", "/flag"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.Data != "/flag" || c.Log.Level != "error" || c.Log.Format != "json" || c.NBD.MaxConnections != 11 || c.NBD.Listen != "127.0.0.1:10809" {
		t.Errorf("got\n%s", c.YAML())
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], "STRONGROOM_DATE") {
		t.Errorf("warnings %q", warnings)
	}
	_, _, err = Load(Sources{Environ: []string{"STRONGROOM_NBD_MAX_CONNECTIONS=x"}, Flags: []Flag{{"no.such", "1"}, {"store.reserve", "-1"}}})
	for _, w := range []string{"STRONGROOM_NBD_MAX_CONNECTIONS (nbd.max-connections)", "no.such: no such setting", "store.reserve: size"} {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("%q is not in: %v", w, err)
		}
	}
}

func TestSecureByDefault(t *testing.T) {
	for _, x := range []struct {
		name   string
		change func(*Config)
		want   string // empty: accepted
	}{
		{"loopback v4", func(c *Config) { c.NBD.Listen, c.HTTP.Listen = "127.3.4.5:1", "localhost:1" }, ""},
		{"loopback v6", func(c *Config) { c.NBD.Listen, c.HTTP.Listen = "[::1]:1", "[::1]:2" }, ""},
		{"none", func(c *Config) { c.NBD.Listen, c.HTTP.Listen = None, None }, ""},
		{"nbd on all", func(c *Config) { c.NBD.Listen = ":10809" }, "nbd.listen"},
		{"nbd on 0.0.0.0", func(c *Config) { c.NBD.Listen = "0.0.0.0:10809" }, "nbd.listen"},
		{"nbd on a name", func(c *Config) { c.NBD.Listen = "backup.example:10809" }, "nbd.listen"},
		{"nbd without client-ca", func(c *Config) {
			c.NBD.Listen, c.NBD.TLS.Cert, c.NBD.TLS.Key = ":1", "c", "k"
		}, "nbd.listen"},
		{"nbd without force", func(c *Config) {
			c.NBD.Listen, c.NBD.TLS = ":1", NBDTLSConfig{Cert: "c", Key: "k", ClientCA: "ca"}
		}, "nbd.listen"},
		{"nbd with mutual TLS", func(c *Config) {
			c.NBD.Listen, c.NBD.TLS = ":1", NBDTLSConfig{Cert: "c", Key: "k", ClientCA: "ca", Force: true}
		}, ""},
		{"nbd switch", func(c *Config) { c.NBD.Listen, c.NBD.AllowInsecurePublic = ":1", true }, ""},
		{"http on all", func(c *Config) { c.HTTP.Listen = ":9180" }, "http.listen"},
		{"http without token", func(c *Config) { c.HTTP = HTTPConfig{Listen: ":1", TLS: HTTPTLSConfig{"c", "k"}} }, "http.listen"},
		{"http with TLS and token", func(c *Config) {
			c.HTTP, c.API.TokenFile = HTTPConfig{Listen: ":1", TLS: HTTPTLSConfig{"c", "k"}}, "t"
		}, ""},
		{"http switch", func(c *Config) { c.HTTP.Listen, c.HTTP.AllowInsecurePublic = ":1", true }, ""},
		{"no way in", func(c *Config) { c.API.Socket = None }, "api.socket"},
		{"token is a way in", func(c *Config) { c.API.Socket, c.API.TokenFile = None, "t" }, ""},
		{"half a key pair", func(c *Config) { c.NBD.TLS.Cert, c.HTTP.TLS.Key = "c", "k" }, "nbd.tls.cert"},
		{"one socket for both", func(c *Config) { c.API.Socket = "nbd.sock" }, "api.socket"},
		{"long socket path", func(c *Config) { c.Data = "/" + strings.Repeat("d", 100) }, "nbd.socket"},
		{"no port", func(c *Config) { c.NBD.Listen = "127.0.0.1" }, "nbd.listen"},
		{"bad port", func(c *Config) { c.HTTP.Listen = "127.0.0.1:70000" }, "http.listen"},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := NewConfig()
			x.change(&c)
			err := c.Validate()
			if x.want == "" && err != nil || x.want != "" && (err == nil || !strings.Contains(err.Error(), x.want)) {
				t.Errorf("got %v, want %q", err, x.want)
			}
		})
	}
}

// The rules of labels, in a file and on one line.
func TestLabelRules(t *testing.T) {
	for _, x := range []struct{ text, want, fails string }{
		{"{}", "{}", ""},
		{"", "{}", ""},
		{`{"tier=gold": {daily: 30, yearly: 7}, "a=b": {last: 1}}`, `{"a=b": {last: 1}, "tier=gold": {daily: 30, yearly: 7}}`, ""},
		{`{"a=b": {}}`, `{"a=b": {}}`, ""},
		{`{"a=b=c": {last: 0}}`, `{"a=b=c": {}}`, ""},
		{"[1]", "", "want a mapping"},
		{"x", "", "want a mapping"},
		{`{a: {last: 1}}`, "", "key=value"},
		{`{"=b": {last: 1}}`, "", "key=value"},
		{`{"a=b": 3}`, "", "keep rules"},
		{`{"a=b": {last: x}}`, "", "whole number"},
		{`{"a=b": {last: -1}}`, "", "whole number"},
		{`{"a=b": {sometimes: 1}}`, "", "no such rule"},
		{`{"a=b": {last: 1, last: 2}}`, "", "twice"},
		{`{"a=b": {last: 1}, "a=b": {last: 2}}`, "", "twice"},
		{`{"a=b": &x {last: 1}, "c=d": *x}`, "", "keep rules"},
		{"{", "", "want a mapping"},
	} {
		var inLine, inFile Config
		err := inLine.setFlag(Flag{"retention.labels", x.text})
		fileErr := inFile.Decode([]byte("retention:\n  labels: " + x.text + "\n"))
		if x.fails != "" {
			if err == nil || !strings.Contains(err.Error(), x.fails) || fileErr == nil {
				t.Errorf("%s: %v, in a file %v; want %q", x.text, err, fileErr, x.fails)
			}
			continue
		}
		if err != nil || fileErr != nil || inLine.Retention.Labels.String() != x.want || inFile.Retention.Labels.String() != x.want {
			t.Errorf("%s: %v %v, in a file %v %v", x.text, inLine.Retention.Labels, err, inFile.Retention.Labels, fileErr)
		}
	}
}

func TestLifeSettings(t *testing.T) {
	for _, x := range []struct{ key, value, fails string }{
		{"trash.keep", "0s", ""}, {"trash.keep", "3654d", "trash.keep"},
		{"retention.keep.daily", "7", ""}, {"retention.keep.daily", "-1", "retention.keep.daily"},
		{"retention.schedule", "none", ""}, {"retention.schedule", "@daily", ""}, {"retention.schedule", "17 3 * * 1-5", ""},
		{"retention.schedule", "", "retention.schedule"}, {"retention.schedule", "61 * * * *", "retention.schedule"}, {"retention.schedule", "daily", "retention.schedule"},
		{"retention.timezone", "UTC", ""}, {"retention.timezone", "", "retention.timezone"}, {"retention.timezone", "Mars/Phobos", "retention.timezone"},
		{"retention.labels", `{"a b=c": {last: 1}}`, "retention.labels"},
		{"chains.full-after", "off", ""}, {"chains.full-after", "0", "off"}, {"chains.limit", "32", ""}, {"chains.limit", "-1", "off"},
		{"chains.warn-manual", "5", ""}, {"chains.warn-manual", "x", "off"}, {"chains.strict", "true", ""}, {"chains.strict", "yes", "true or false"},
		{"gc.rate", "0", ""}, {"gc.rate", "2TiB", "gc.rate"}, {"gc.dead-ratio", "1", ""}, {"gc.dead-ratio", "0.01", "gc.dead-ratio"}, {"gc.dead-ratio", "1.1", "gc.dead-ratio"},
		{"gc.dead-ratio", "NaN", "gc.dead-ratio"}, {"gc.dead-ratio", "half", "number"}, {"gc.reclaim-at", "10GiB", ""}, {"gc.every", "0s", "gc.every"}, {"gc.grace", "2d", "gc.grace"},
		{"scrub.target-age", "0s", ""}, {"scrub.target-age", "720h", ""}, {"scrub.target-age", "1s", "scrub.target-age"}, {"scrub.rate", "50M", ""},
	} {
		_, _, err := Load(Sources{Flags: []Flag{{x.key, x.value}}})
		if (err == nil) != (x.fails == "") || err != nil && !strings.Contains(err.Error(), x.fails) {
			t.Errorf("%s=%s: %v; want %q", x.key, x.value, err, x.fails)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("nbd:\n  max-connections: 3\n"))
	f.Add([]byte("a: &a [*a]"))
	f.Add([]byte("sftp:\n  users: [{name: a, vm: \"b\\u00e4\\t\", keys: [x], quota: 3K}, {name: b}]\n  trusted-user-ca: '[\"\\xff\", a]'\n"))
	f.Add([]byte("data: !!binary aGk=\n? [1]\n: 2"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c := NewConfig()
		if c.Decode(text) == nil && c.Validate() == nil {
			var again Config
			if err := again.Decode(c.YAML()); err != nil || !reflect.DeepEqual(again, c) {
				t.Fatalf("%v\n%s", err, c.YAML())
			}
		}
	})
}
