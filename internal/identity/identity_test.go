package identity

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const good = `{"format":1,"store_id":"000102030405060708090a0b0c0d0e0f","created":"2026-01-02T03:04:05Z","domain":1,` +
	`"domain_key":"ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"}`

func TestParse(t *testing.T) {
	id, err := Parse([]byte(good))
	if err != nil || id.Store[15] != 15 || id.Key[0] != 0xff || id.Key[31] != 31 || id.Domain != 1 {
		t.Errorf("%+v, %v", id, err)
	}
	for name, text := range map[string]string{
		"no JSON":         "x",
		"format 0":        strings.Replace(good, `"format":1`, `"format":0`, 1),
		"no domain":       strings.Replace(good, `"domain":1`, `"domain":0`, 1),
		"short store id":  strings.Replace(good, "0e0f\",\"created", "0e\",\"created", 1),
		"long key":        strings.Replace(good, "1e1f", "1e1f20", 1),
		"key without hex": strings.Replace(good, "1e1f", "1exx", 1),
	} {
		if _, err := Parse([]byte(text)); err == nil || errors.Is(err, ErrNewer) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Parse([]byte(`{"format":2}`)); !errors.Is(err, ErrNewer) {
		t.Errorf("a newer format: %v", err)
	}
}

func TestRead(t *testing.T) {
	mem := vfs.NewMem()
	if _, err := Read(mem, FileName); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	f, err := mem.Create(FileName, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	f.Write([]byte(good))
	if id, err := Read(mem, FileName); err != nil || id.Domain != 1 {
		t.Errorf("%+v, %v", id, err)
	}
	f.Write(make([]byte, bytesMax))
	if _, err := Read(mem, FileName); err == nil {
		t.Error("a file beyond all bounds is read")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte(`{"format":9}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if id, err := Parse(text); err == nil && (id.Format != Format || id.Domain == 0) {
			t.Errorf("%+v", id)
		}
	})
}
