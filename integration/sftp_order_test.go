package integration

import (
	"bytes"
	enc "encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// TestPipelinedPairs sends pairs of overlapping writes and a read of both, all
// on one handle, without ever waiting. Each read must find the first write
// under the second, and nothing of what comes later.
func TestPipelinedPairs(t *testing.T) {
	t.Parallel()
	const (
		pairs  = 20000
		length = 1000 // of a write
		stride = 1000 // from a pair to the next: the second write reaches into it
		behind = 500  // the second write begins so much later
	)
	s := newFileScene(t)
	w := s.drop("vm").wire()
	handle, err := w.open("pairs.bin", fxfRead|fxfWrite|fxfCreat)
	s.must(err)
	fill := func(pair, which int) []byte {
		b := bytes.Repeat([]byte{byte(pair*2 + which)}, length)
		enc.BigEndian.PutUint32(b, uint32(pair*2+which))
		return b
	}
	first := w.id + 1
	var g errgroup.Group
	g.Go(func() error {
		for i := range pairs {
			at := uint64(i * stride)
			for which := range 2 {
				if _, err := w.send(fxpWrite, handle, at+uint64(which*behind), fill(i, which)); err != nil {
					return err
				}
			}
			if _, err := w.send(fxpRead, handle, at, uint32(behind+length)); err != nil {
				return err
			}
		}
		return w.in.Flush()
	})
	wrong := 0
	g.Go(func() error {
		for i := range pairs {
			for which := range 3 {
				r, err := w.receive()
				if err != nil {
					return err
				}
				if want := first + uint32(3*i+which); r.id != want || which < 2 && r.status() != fxOK || which == 2 && r.kind != fxpData {
					return fmt.Errorf("pair %d: %v for request %d, want %d", i, r, r.id, want)
				}
				if which < 2 {
					continue
				}
				if want := append(fill(i, 0)[:behind], fill(i, 1)...); !bytes.Equal(r.data(), want) {
					wrong++
				}
			}
		}
		return nil
	})
	s.must(g.Wait())
	if wrong > 0 {
		t.Errorf("%d of %d pairs were applied out of order", wrong, pairs)
	}
	t.Logf("%d pairs, %d out of order", pairs, wrong)
}

// history is a random sequence of requests on a few handles of one file, and
// what each must be answered if they are applied in order.
type history struct {
	rng   *rand.Rand
	model []byte
}

const historyMax = 600 << 10 // bytes the file may reach

// next makes a request for one of the handles, applies it to the model and
// returns how to judge the reply.
func (h *history) next(w *wire, handle string) (func(reply) error, error) {
	off := h.rng.IntN(historyMax - 40<<10)
	n := 1 + h.rng.IntN(40<<10)
	switch h.rng.IntN(10) {
	case 0:
		size := h.rng.IntN(historyMax)
		if size <= len(h.model) {
			h.model = h.model[:size]
		} else {
			h.model = append(h.model, make([]byte, size-len(h.model))...)
		}
		_, err := w.send(fxpFsetstat, handle, uint32(1), uint64(size))
		return expectOK, err
	case 1:
		size := int64(len(h.model))
		_, err := w.send(fxpFstat, handle)
		return func(r reply) error {
			if r.size() != size {
				return fmt.Errorf("size %d (%v), want %d", r.size(), r, size)
			}
			return nil
		}, err
	case 2, 3, 4:
		want := bytes.Clone(h.model[min(off, len(h.model)):min(off+n, len(h.model))])
		_, err := w.send(fxpRead, handle, uint64(off), uint32(n))
		return func(r reply) error {
			if len(want) == 0 && r.status() == fxEOF || bytes.Equal(r.data(), want) && r.kind == fxpData {
				return nil
			}
			return fmt.Errorf("%d bytes at %d: %v, not what was written", n, off, r)
		}, err
	default:
		data := make([]byte, n)
		if h.rng.IntN(4) > 0 {
			for i := 0; i < n; i += 1 + h.rng.IntN(64) {
				data[i] = byte(h.rng.Uint32())
			}
		}
		if grow := off + n - len(h.model); grow > 0 {
			h.model = append(h.model, make([]byte, grow)...)
		}
		copy(h.model[off:], data)
		_, err := w.send(fxpWrite, handle, uint64(off), data)
		return expectOK, err
	}
}

func expectOK(r reply) error {
	if r.status() != fxOK {
		return fmt.Errorf("%v", r)
	}
	return nil
}

// TestPipelinedHistory mixes writes, reads, truncations and FSTATs over several
// handles of one file, never waiting.
func TestPipelinedHistory(t *testing.T) {
	t.Parallel()
	const requests = 4000
	seed := environment(t, "STRONGROOM_SEED", time.Now().UnixNano()&0xffffffff)
	t.Logf("seed: STRONGROOM_SEED=%d", seed)
	s := newFileScene(t)
	d := s.drop("vm")
	w := d.wire()
	var handles []string
	for range 3 {
		h, err := w.open("history.bin", fxfRead|fxfWrite|fxfCreat)
		s.must(err)
		handles = append(handles, h)
	}
	h := &history{rng: rand.New(rand.NewPCG(uint64(seed), 0))}
	judges := make(chan func(reply) error, 256)
	var g errgroup.Group
	g.Go(func() error {
		defer close(judges)
		for range requests {
			judge, err := h.next(w, handles[h.rng.IntN(len(handles))])
			if err != nil {
				return err
			}
			if len(judges) == cap(judges) {
				if err := w.in.Flush(); err != nil {
					return err
				}
			}
			judges <- judge
		}
		return w.in.Flush()
	})
	g.Go(func() error {
		i := 0
		for judge := range judges {
			r, err := w.receive()
			if err != nil {
				return err
			}
			if err := judge(r); err != nil {
				return fmt.Errorf("request %d: %w", i, err)
			}
			i++
		}
		return nil
	})
	s.must(g.Wait())
	for _, handle := range handles {
		r, err := w.ask(fxpClose, handle)
		s.must(err, expectOK(r))
	}
	d.keptAs("history.bin", h.model)
}

// keptAs commits the drop and checks that the point has the file as it was.
func (d *drop) keptAs(name string, want []byte) {
	d.s.Helper()
	r := d.commit()
	got, err := os.ReadFile(filepath.Join(d.s.restores(d.VM), r.Point, "files", name))
	d.s.must(err)
	if !bytes.Equal(got, want) {
		d.s.Errorf("%s of point %s has %d bytes, not the %d that were written", name, r.Point, len(got), len(want))
	}
}

// A log as a program writes it that keeps a header: after each record the
// header says how many there are. Records overlap: each begins in the middle of
// the one before.
const (
	logHeader  = 4096
	logRecord  = 3000
	logStride  = 1500
	logRecords = 5000
)

func logAt(i int) int64 { return logHeader + int64(i)*logStride }

func logText(i int) []byte {
	b := bytes.Repeat([]byte{byte(i)}, logRecord)
	enc.BigEndian.PutUint64(b, uint64(i))
	return b
}

func logHead(n int) []byte { return enc.BigEndian.AppendUint64(nil, uint64(n)) }

// writeLog rewrites the header and appends, round after round, without waiting.
func writeLog(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	for i := range logRecords {
		if _, err := f.WriteAt(logText(i), logAt(i)); err != nil {
			return err
		}
		if _, err := f.WriteAt(logHead(i+1), 0); err != nil {
			return err
		}
	}
	return f.Close()
}

// checkLog compares the whole file.
func checkLog(r io.Reader) error {
	want := make([]byte, logAt(logRecords-1)+logRecord)
	copy(want, logHead(logRecords))
	for i := range logRecords {
		copy(want[logAt(i):], logText(i))
	}
	got, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if len(got) != len(want) {
		return fmt.Errorf("%d bytes, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			return fmt.Errorf("byte %d (record %d) is of another time", i, (i-logHeader)/logStride)
		}
	}
	return nil
}

// TestHeaderAndAppend is the writer that a server with parallel workers gets
// wrong. Another connection reads meanwhile: it must never see the header go
// back, nor a header ahead of the record it counts.
func TestHeaderAndAppend(t *testing.T) {
	t.Parallel()
	for _, options := range [][]string{{"max_write=32768"}, {"max_read=65536", "max_write=65536", "direct_io"}} {
		s := newFileScene(t)
		d := s.drop("vm")
		path := filepath.Join(d.mount(options...), "log.bin")
		s.put(path, logHead(0))
		reader, err := d.sftpClient().Open("log.bin")
		s.must(err)
		var done atomic.Bool
		var g errgroup.Group
		g.Go(func() error {
			defer done.Store(true)
			return writeLog(path)
		})
		looks := 0
		g.Go(func() error {
			head, record := make([]byte, 8), make([]byte, 8)
			for last := uint64(0); !done.Load(); looks++ {
				if _, err := reader.ReadAt(head, 0); err != nil {
					return fmt.Errorf("the header: %w", err)
				}
				n := enc.BigEndian.Uint64(head)
				if n < last || n > logRecords {
					return fmt.Errorf("the header said %d and now says %d", last, n)
				}
				if last = n; n == 0 {
					continue
				}
				if _, err := reader.ReadAt(record, logAt(int(n-1))); err != nil {
					return fmt.Errorf("record %d of %d: %w", n-1, n, err)
				}
				if got := enc.BigEndian.Uint64(record); got != n-1 {
					return fmt.Errorf("the header counts %d records, the last is %d", n, got)
				}
			}
			return nil
		})
		s.must(g.Wait())
		f, err := os.Open(path)
		s.must(err)
		s.must(checkLog(f), f.Close())
		t.Logf("%v: %d rounds, 0 out of order; %d looks meanwhile", options, logRecords, looks)
	}
}
