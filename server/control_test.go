package server

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/strongroom-backup/strongroom/server/api"
)

// ask sends a request over TCP.
func (w *world) ask(method, path, token, host string, body io.Reader) (status int, answer string, h http.Header) {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, "http://"+w.HTTPAddress()+path, body)
	if err != nil {
		w.t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if host != "" {
		r.Host = host
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, string(text), resp.Header
}

const goodToken = "c2VjcmV0LXRva2VuLWZvci10aGUtdGVzdA"

func tokenFile(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(goodToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Every route over TCP: without a token configured, with one, and with a wrong one.
func TestAccessOverTCP(t *testing.T) {
	open := start(t)
	closed := start(t, func(o *Options) { o.Config.API.TokenFile = tokenFile(t) })
	for _, rt := range routes {
		path := strings.NewReplacer("{session}", "nosuch", "{ref}", "0123456789abcdef", "{name}", "x", "{vm}", "vm1", "{disk}", "vda", "{id}", "nosuch").Replace(rt.pattern)
		for _, x := range []struct {
			name        string
			w           *world
			token, host string
			passes      bool
			refusal     int
		}{
			{"no token configured", open, "", "", rt.access != accessFull, 403},
			{"no token configured, foreign host", open, "", "evil.example", rt.access == accessAnyone, 403},
			{"no token configured, localhost", open, "", "localhost:9180", rt.access != accessFull, 403},
			{"no token given", closed, "", "", rt.access == accessAnyone, 401},
			{"wrong token", closed, goodToken + "x", "", rt.access == accessAnyone, 401},
			{"right token", closed, goodToken, "", true, 0},
			{"right token, foreign host", closed, goodToken, "proxy.example", true, 0},
		} {
			status, answer, _ := x.w.ask(rt.method, path, x.token, x.host, nil)
			refused := status == 401 || status == 403
			if refused == x.passes || refused && status != x.refusal || status >= 500 {
				t.Errorf("%s: %s %s: status %d\n%s", x.name, rt.method, path, status, answer)
			}
		}
	}
	if l := closed.log.String(); strings.Contains(l, goodToken) {
		t.Errorf("the log has the token:\n%s", l)
	}
}

func TestAnswersOverTCP(t *testing.T) {
	w := start(t, func(o *Options) { o.Config.API.TokenFile = tokenFile(t) })
	for _, x := range []struct {
		name, method, path, body, mime string
		status                         int
		word                           string
	}{
		{"health", "GET", "/healthz", "", "", 200, `"ok"`},
		{"head", "HEAD", "/healthz", "", "", 200, ""},
		{"openapi", "GET", "/api/v1/openapi.yaml", "", "", 200, "openapi: 3.1.0"},
		{"no endpoint", "GET", "/api/v2/x", "", "", 404, "no such endpoint"},
		{"no method", "PUT", "/api/v1/backups", "{}", "", 404, "no such endpoint"},
		{"root", "GET", "/", "", "", 404, "hint"},
		{"no JSON", "POST", "/api/v1/backups", "VM", "", 400, "not what is wanted"},
		{"unknown field", "POST", "/api/v1/backups", `{"vmm":"a"}`, "", 400, "vmm"},
		{"two documents", "POST", "/api/v1/backups", `{"vm":"a"} {}`, "", 400, "goes on"},
		{"wrong type", "POST", "/api/v1/backups", `{"vm":1}`, "", 400, "vm"},
		{"deep", "POST", "/api/v1/backups", strings.Repeat("[", 100_000), "", 400, ""},
		{"negative size", "POST", "/api/v1/backups", `{"vm":"a","disks":[{"disk":"d","size":-1}]}`, "", 400, ""},
		{"huge size", "POST", "/api/v1/backups", `{"vm":"a","disks":[{"disk":"d","size":9223372036854775808}]}`, "", 400, ""},
		{"traversal", "GET", "/api/v1/points/..%2f..%2fetc%2fpasswd", "", "", 400, ""},
		{"blob traversal", "GET", "/api/v1/points/0123456789abcdef/blobs/..%2f..%2fstrongroom.json", "", "", 404, ""},
	} {
		t.Run(x.name, func(t *testing.T) {
			var body io.Reader
			if x.body != "" {
				body = strings.NewReader(x.body)
			}
			status, answer, h := w.ask(x.method, x.path, goodToken, "", body)
			if status != x.status || !strings.Contains(answer, x.word) {
				t.Errorf("status %d\n%s", status, answer)
			}
			var e api.Error
			if status >= 400 && (json.Unmarshal([]byte(answer), &e) != nil || e.Message == "" || h.Get("Content-Type") != "application/json") {
				t.Errorf("not an error document: %q", answer)
			}
		})
	}
	big := append([]byte(`{"vm":"`), bytes.Repeat([]byte("x"), bodyBytesMax)...)
	if status, _, _ := w.ask("POST", "/api/v1/backups", goodToken, "", bytes.NewReader(big)); status != 413 {
		t.Errorf("a JSON document of %d bytes: status %d", len(big), status)
	}
}

func TestConnectionLimit(t *testing.T) {
	w := start(t)
	for range httpConnectionsMax {
		c, err := net.Dial("tcp", w.HTTPAddress())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	eventually(t, "a connection above the limit is closed", func() bool {
		c, err := net.Dial("tcp", w.HTTPAddress())
		if err != nil {
			return true
		}
		defer c.Close()
		c.Write([]byte("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"))
		n, err := c.Read(make([]byte, 1))
		return n == 0 && err != nil
	})
	if _, err := w.client.Health(t.Context()); err != nil {
		t.Errorf("the unix socket suffers: %v", err)
	}
}

func TestTokenFiles(t *testing.T) {
	dir := t.TempDir()
	for name, x := range map[string]struct {
		text string
		mode os.FileMode
		word string
	}{
		"good": {goodToken, 0o600, ""}, "newline": {goodToken + "\r\n", 0o400, ""}, "group": {goodToken, 0o640, ""},
		"public": {goodToken, 0o644, "chmod"}, "short": {"abc", 0o600, "openssl"}, "empty": {"", 0o600, "openssl"},
		"spaces": {goodToken + " " + goodToken, 0o600, "openssl"}, "long": {strings.Repeat("a", 5000), 0o600, "openssl"},
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(x.text), 0o600); err != nil {
			t.Fatal(err)
		}
		os.Chmod(path, x.mode)
		c := testConfig(dir)
		c.API.TokenFile = path
		err := c.CheckFiles()
		if (err == nil) != (x.word == "") || err != nil && (!strings.Contains(err.Error(), x.word) || strings.Contains(err.Error(), goodToken)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := testConfig(dir)
	c.API.TokenFile, c.NBD.TLS.Cert, c.NBD.TLS.Key, c.HTTP.TLS.Cert, c.HTTP.TLS.Key = "/nonexistent", "/no", "/no", "/no", "/no"
	for _, key := range []string{"api.token-file", "nbd.tls.cert", "http.tls.cert"} {
		if err := c.CheckFiles(); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s is not in %v", key, err)
		}
	}
}

func TestMetricsEndpoint(t *testing.T) {
	w := start(t)
	w.backup("vm1", "vda", random(1, mib))
	status, text, _ := w.ask("GET", "/metrics", "", "", nil)
	if status != 200 {
		t.Fatal(status, text)
	}
	for _, line := range []string{
		`strongroom_nbd_request_bytes_total{command="write"} 1.048576e+06`, `strongroom_backup_last_success_timestamp_seconds{disk="vda",vm="vm1"} 1`,
		`strongroom_points 1`, `strongroom_dedup_blocks_total{source="new"} 16`, `strongroom_pebble_disk_bytes{db="index"}`, `strongroom_build_info{`, "go_goroutines",
		"process_resident_memory_bytes", `strongroom_tier_capacity_bytes{tier="tier0"}`,
	} {
		if !strings.Contains(text, line) {
			t.Errorf("no %s", line)
		}
	}
}
