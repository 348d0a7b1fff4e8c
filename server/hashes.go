package server

import (
	"bufio"
	"errors"
	"fmt"
	"net/http"

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

// sendHashes answers with the stream. What fails in the middle is told in it.
func (s *Server) sendHashes(w http.ResponseWriter, r *http.Request, src hashstream.Source, about ...any) {
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	out := bufio.NewWriterSize(&patientWriter{w}, streamBuffer)
	err := hashstream.Send(r.Context(), out, src, func(err error) hashstream.FailureError {
		return hashstream.FailureError{Text: err.Error(), Damage: errors.Is(err, dedup.ErrDamaged)}
	})
	switch {
	case r.Context().Err() != nil:
		panic(http.ErrAbortHandler) // the client is gone, or the server is going
	case err != nil:
		s.log.Error("hashes of a disk could not be told", append(about, keyError, err)...)
	}
	out.Flush() // a client that went away needs no answer
}

// patientWriter gives the client time for each write, not for all of them
// together: between two, the disk is read.
type patientWriter struct{ http.ResponseWriter }

func (p *patientWriter) Write(b []byte) (int, error) {
	limitWrite(p.ResponseWriter)
	return p.ResponseWriter.Write(b)
}
