package qmp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// monitor accepts one connection, greets it and lets answer write the reply to
// each command.
func monitor(t *testing.T, greeting string, answer func(w io.Writer, id uint64, command string)) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "qmp.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		io.WriteString(conn, greeting)
		dec := json.NewDecoder(conn)
		for {
			var m struct {
				Execute string
				ID      uint64
			}
			if dec.Decode(&m) != nil {
				return
			}
			answer(conn, m.ID, m.Execute)
		}
	}()
	return socket
}

const hello = `{"QMP":{"version":{},"capabilities":["oob"]}}` + "\r\n"

func reply(w io.Writer, v any) {
	b, _ := json.Marshal(v)
	w.Write(append(b, "\r\n"...))
}

func background(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestExecute(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	socket := monitor(t, hello, func(w io.Writer, id uint64, command string) {
		reply(w, map[string]any{"event": "JOB_STATUS_CHANGE", "data": map[string]string{"id": command}})
		switch command {
		case "fail":
			reply(w, map[string]any{"id": id, "error": map[string]string{"class": "GenericError", "desc": "no such thing"}})
		case "long":
			reply(w, map[string]any{"id": id, "return": long})
		default:
			reply(w, map[string]any{"id": id, "return": map[string]any{}})
		}
	})
	ctx := background(t)
	c, err := Dial(ctx, socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var got string
	if err := c.Execute(ctx, "long", nil, &got); err != nil || got != long {
		t.Fatalf("long reply: %d bytes, %v", len(got), err)
	}
	var refused *Error
	if err := c.Execute(ctx, "fail", nil, nil); !errors.As(err, &refused) || refused.Desc != "no such thing" || refused.Command != "fail" {
		t.Fatalf("refusal: %v", err)
	}
	if events := c.Events(); len(events) != 3 || events[1].Name != "JOB_STATUS_CHANGE" || !bytes.Contains(events[1].Data, []byte("long")) {
		t.Fatalf("events: %v", events)
	}
}

func TestRepliesOutOfOrder(t *testing.T) {
	held := make(chan func(), 1)
	socket := monitor(t, hello, func(w io.Writer, id uint64, command string) {
		answer := func() { reply(w, map[string]any{"id": id, "return": command}) }
		if command == "first" {
			held <- answer
			return
		}
		answer()
		if command == "second" {
			(<-held)()
		}
	})
	ctx := background(t)
	c, err := Dial(ctx, socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var wg sync.WaitGroup
	wg.Go(func() {
		var got string
		if err := c.Execute(ctx, "first", nil, &got); err != nil || got != "first" {
			t.Errorf("first: %q, %v", got, err)
		}
	})
	for len(held) == 0 {
		time.Sleep(time.Millisecond)
	}
	var got string
	if err := c.Execute(ctx, "second", nil, &got); err != nil || got != "second" {
		t.Errorf("second: %q, %v", got, err)
	}
	wg.Wait()
}

func TestConnectionLost(t *testing.T) {
	socket := monitor(t, hello, func(w io.Writer, id uint64, command string) {
		if command == "quit" {
			w.(net.Conn).Close()
			return
		}
		reply(w, map[string]any{"id": id, "return": map[string]any{}})
	})
	ctx := background(t)
	c, err := Dial(ctx, socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 2 {
		if err := c.Execute(ctx, "quit", nil, nil); err == nil || !strings.Contains(err.Error(), "connection lost") {
			t.Fatalf("after the monitor went: %v", err)
		}
	}
}

func TestNotAMonitor(t *testing.T) {
	socket := monitor(t, "SSH-2.0-OpenSSH\r\n", func(io.Writer, uint64, string) {})
	if _, err := Dial(background(t), socket); err == nil || !strings.Contains(err.Error(), "no greeting") {
		t.Fatalf("dialled something else: %v", err)
	}
	silent := monitor(t, "", func(io.Writer, uint64, string) {})
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := Dial(ctx, silent); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("silent monitor: %v", err)
	}
}

func FuzzMessage(f *testing.F) {
	f.Add([]byte(`{"id":1,"return":{}}`))
	f.Add([]byte(`{"event":"JOB_STATUS_CHANGE","data":{"status":"concluded"}}`))
	f.Add([]byte(`{"id":1,"error":{"class":"GenericError","desc":"x"}} {"id":null}`))
	f.Fuzz(func(t *testing.T, stream []byte) {
		a, b := net.Pipe()
		defer b.Close()
		go func() { a.Write(stream); a.Close() }()
		c := &Client{conn: b, waiting: map[uint64]chan message{1: make(chan message, 1)}}
		c.read(json.NewDecoder(b))
		if c.reason() == nil {
			t.Fatal("the reader ended without a reason")
		}
	})
}
