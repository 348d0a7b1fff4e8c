package server

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/strongroom-backup/strongroom/catalog"
	"github.com/strongroom-backup/strongroom/internal/ids"
	"github.com/strongroom-backup/strongroom/server/api"
)

func (s *Server) getMetrics(w http.ResponseWriter, r *http.Request) (any, error) {
	s.metrics.ServeHTTP(w, r)
	return nil, nil
}

func (s *Server) getOpenAPI(w http.ResponseWriter, _ *http.Request) (any, error) {
	w.Header().Set("Content-Type", "application/yaml")
	w.Write(openAPI)
	return nil, nil
}

func (s *Server) getInfo(http.ResponseWriter, *http.Request) (any, error) { return s.info, nil }

func (s *Server) getStats(http.ResponseWriter, *http.Request) (any, error) { return s.stats(), nil }

func (s *Server) postBackup(_ http.ResponseWriter, r *http.Request) (any, error) {
	var q api.BackupRequest
	if err := decode(r, &q); err != nil {
		return nil, err
	}
	return result(s.startBackup(q))
}

func (s *Server) getBackups(http.ResponseWriter, *http.Request) (any, error) {
	list := []api.Backup{}
	for _, st := range s.engines.vols.Sessions() {
		list = append(list, s.backup(st))
	}
	return list, nil
}

func (s *Server) getBackup(_ http.ResponseWriter, r *http.Request) (any, error) {
	st, err := s.backupStatus(r.PathValue("session"))
	if err != nil {
		return nil, err
	}
	return s.backup(st), nil
}

func (s *Server) postCommit(_ http.ResponseWriter, r *http.Request) (any, error) {
	return result(s.commitBackup(r.PathValue("session")))
}

func (s *Server) postAbort(_ http.ResponseWriter, r *http.Request) (any, error) {
	return result(s.abortBackup(r.PathValue("session")))
}

func (s *Server) getPoints(w http.ResponseWriter, r *http.Request) (any, error) {
	vm := r.URL.Query().Get("vm")
	if vm != "" && !ids.IsName(vm) {
		return nil, fmt.Errorf("vm %q: %w", vm, catalog.ErrInvalid)
	}
	list := newArrayWriter(w)
	err := s.engines.cat.EachPoint(vm, time.Time{}, func(p *catalog.Point) bool { return list.add(point(*p)) })
	switch {
	case err != nil && list.count == 0:
		return nil, err
	case vm != "" && list.count == 0:
		return nil, fmt.Errorf("VM %s %w: it has no point", vm, catalog.ErrNotFound)
	}
	list.end(err)
	return nil, nil
}

func (s *Server) getBlob(w http.ResponseWriter, r *http.Request) (any, error) {
	p, err := s.resolve(r)
	if err != nil {
		return nil, err
	}
	data, err := s.engines.cat.Blob(p.ID, r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Length", strconv.Itoa(len(data)))
	h.Set("X-Content-Type-Options", "nosniff")
	w.Write(data)
	return nil, nil
}

// result keeps an answer that goes with an error from being sent.
func result[T any](answer T, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return answer, nil
}

// stats gathers the figures of the store.
func (s *Server) stats() api.Stats {
	cat, blocks, vols := s.engines.cat.Stats(), s.engines.blocks.Stats(), s.engines.vols.Stats()
	out := api.Stats{
		VMs: int64(cat.VMs), Points: int64(cat.Points), Images: int64(cat.Images),
		LogicalBytes: cat.LogicalBytes, LatestBytes: cat.LatestBytes,
		StoredBytes: blocks.PackBytes, Packs: int64(blocks.Packs),
		Sessions: map[string]int64{}, Connections: int64(s.nbd.Stats().ConnectionsOpen),
		Uptime: s.uptime().Seconds(), WrittenBytes: putBytes(blocks), NewBytes: blocks.Put.NewBytes, PackedBytes: blocks.Put.StoredBytes,
		ReserveBytes: int64(s.config.Store.Reserve),
	}
	for state, n := range vols.States {
		out.Sessions[string(state)] = int64(n)
	}
	if u, err := s.engines.tier.Usage(); err == nil {
		out.CapacityBytes, out.FreeBytes = int64(u.Total), int64(u.Free)
		out.UsableBytes = max(out.FreeBytes-out.ReserveBytes, 0)
	}
	if s.sftp != nil {
		out.SFTPClients = int64(s.sftp.Stats().Connections)
	}
	upkeep := s.upkeep.Stats()
	out.ReclaimableBytes, out.TrashPoints, out.TrashBytes = upkeep.GC.ReclaimableBytes, int64(cat.Trashed), upkeep.Trash.Bytes
	return out
}
