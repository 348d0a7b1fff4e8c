package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/internal/hashstream"
	"github.com/strongroom-backup/strongroom/internal/ids"
	"github.com/strongroom-backup/strongroom/server/api"
)

// getHashes streams the content hashes of a disk's blocks. They are not those of
// the store, whose key stays here.
func (s *Server) getHashes(w http.ResponseWriter, r *http.Request) (any, error) {
	p, err := s.resolve(r)
	if err != nil {
		return nil, err
	}
	disk := r.PathValue("disk")
	if !ids.IsName(disk) { // nor the key of a file
		return nil, fmt.Errorf("disk %.200q: %w", disk, catalog.ErrInvalid)
	}
	if s.hashing.Add(1) > hashStreamsMax {
		s.hashing.Add(-1)
		return nil, &api.Error{Status: http.StatusTooManyRequests, Message: fmt.Sprintf("%d disks are being hashed already", hashStreamsMax),
			Hint: "ask again when one of them is done"}
	}
	defer s.hashing.Add(-1)
	image, err := s.engines.vols.OpenImage(p.ID, disk)
	if err != nil {
		return nil, err
	}
	defer image.Close()
	s.sendHashes(w, r, image, keyVM, p.VM, keyPoint, p.ID, keyDisk, disk)
	return nil, nil
}

// sendHashes answers with the stream. What fails in the middle is told in it. It
// ends with the client, and when the server is about to end: a stream may last as
// long as a disk takes to read.
func (s *Server) sendHashes(w http.ResponseWriter, r *http.Request, src hashstream.Source, about ...any) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	go func() {
		select {
		case <-s.jobs.leave:
			cancel()
		case <-ctx.Done():
		}
	}()
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	patient := &patientWriter{ResponseWriter: w}
	defer context.AfterFunc(ctx, patient.end)()
	out := bufio.NewWriterSize(patient, streamBuffer)
	hashstream.Send(ctx, out, src, func(err error) hashstream.FailureError { // what else it returns is that the client went away
		if ctx.Err() == nil {
			s.log.Error("hashes of a disk could not be told", append(about, keyError, err)...)
		}
		return hashstream.FailureError{Text: err.Error(), Damage: errors.Is(err, dedup.ErrDamaged)}
	})
	if ctx.Err() != nil {
		panic(http.ErrAbortHandler)
	}
	out.Flush()
}

// patientWriter gives the client time for each write, not for all of them
// together: between two, the disk is read.
type patientWriter struct {
	http.ResponseWriter
	mu   sync.Mutex // a deadline that has been set to now is not set again
	over bool
}

func (p *patientWriter) Write(b []byte) (int, error) {
	p.mu.Lock()
	if p.over {
		p.mu.Unlock()
		return 0, http.ErrAbortHandler
	}
	limitWrite(p.ResponseWriter)
	p.mu.Unlock()
	return p.ResponseWriter.Write(b)
}

// end breaks off a write that waits for the client, and all that follow.
func (p *patientWriter) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	http.NewResponseController(p.ResponseWriter).SetWriteDeadline(time.Now()) // without it the client's own time limit holds
}
